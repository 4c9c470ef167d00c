"""Journeys use the small shop."""

from tests.shop import shop

__all__ = ["shop"]
