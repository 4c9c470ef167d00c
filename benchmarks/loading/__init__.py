"""Loading: a file, checked by its contract and judged, to its published table."""
