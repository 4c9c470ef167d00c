"""How long a rehearsal takes to be ready."""
