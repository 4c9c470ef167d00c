"""Probes: programs that measure one thing each and write it down, so that gates need not believe claims."""
