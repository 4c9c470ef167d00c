"""The shop, for the tests of this folder."""

from tests.redis_servers import redis as redis
from tests.redis_servers import shared_redis as shared_redis
from tests.redis_servers import store as store
from tests.shop import shop as shop
