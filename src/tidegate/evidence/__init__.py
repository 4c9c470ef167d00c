"""Probes: programs that measure one thing each, so that gates need not believe claims."""
