"""The tuned configuration against PostgreSQL's own, by pgbench."""
