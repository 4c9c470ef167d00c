"""The warehouse with bookings of many carriers, in which one person has been put into every place that rows can lie."""

from tests.access.conftest import house

__all__ = ["house"]
