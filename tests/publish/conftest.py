"""The shop, and a showroom for its marts."""

from __future__ import annotations

import pytest
from tests.publish.showroom import Showroom
from tests.shop import Shop
from tests.shop import shop as shop


@pytest.fixture
def showroom(shop: Shop) -> Showroom:
    return Showroom(shop)
