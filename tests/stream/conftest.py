"""What every test of streams may ask for."""

from tests.stream.airline import airline as airline
from tests.stream.parcels import depot as depot
from tests.stream.parcels import doomed as doomed
