"""Make what has passed its gate visible, in one transaction that can be undone."""
