"""The rehearsal: a throw-away clone of the warehouse, with a replica and nobody's data, where destructive things run."""
