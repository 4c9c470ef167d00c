"""Backups and the way back: how many megabytes a second, by tool and by size."""
