"""People: what is kept of one person, wherever it is; given out on request, and erased on request."""
