"""The small shop, for changes that a contract asks for."""

from tests.shop import shop

__all__ = ["shop"]
