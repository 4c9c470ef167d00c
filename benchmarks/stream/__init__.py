"""Streams: how many messages a second become rows, how long one takes, and in how much memory."""
