"""A Redis to keep leases and values in."""

from tests.redis_servers import redis as redis
from tests.redis_servers import shared_redis as shared_redis
from tests.redis_servers import store as store
