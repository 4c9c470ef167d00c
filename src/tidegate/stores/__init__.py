"""Clients of servers: how to reach them, nothing about what is done there."""
