"""How the warehouse's schema changes: one history, one lock, one log; nothing about what the changes are."""
