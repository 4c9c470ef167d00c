"""What each role writes: a module a role, a function an artifact; each is made from the repository, the database and the evidence."""
