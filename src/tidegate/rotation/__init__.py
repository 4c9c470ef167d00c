"""Rotation: what is sealed anywhere comes under the newest key, so that an old one can be let go."""
