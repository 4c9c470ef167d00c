"""How long a failover takes, and what it loses."""
