"""The shop, for the tests of this folder."""

from tests.shop import shop as shop
from tests.shop import stocked as stocked
