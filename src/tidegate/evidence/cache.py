"""Redis as probes: what the platform's own keeps, and how servers made for the measurement bear load and a dead master."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate.evidence import redis
from tidegate.evidence.probe import CannotRunError, Finding, Ground
from tidegate.evidence.redis import Reading
from tidegate.stores.redis import Store


def state(ground: Ground) -> Iterator[Finding]:
    """Ask the platform's Redis what it keeps, how it is set, in how much memory, and how often it knew the answer."""
    url = ground.settings.redis_url
    if url is None:
        raise CannotRunError(
            "this stack has no Redis: `tidegate up --with redis` starts one, TIDEGATE_REDIS_URL names one"
        )
    with Store(url.get_secret_value()) as store:
        yield _finding("redis/info.log", redis.info(store))
        yield _finding("redis/config.log", redis.config(store))
        yield _finding("redis/memory_info.log", redis.memory(store))
        yield _finding("redis/hit_rate.log", redis.hit_rate(store))
        yield _finding("redis/bigkeys.log", redis.big_keys(store))


def benchmark(_: Ground) -> Iterator[Finding]:
    """Let redis-benchmark ask a server that lives for it alone: GET, SET, INCR, LPUSH, SADD."""
    with _folder() as folder, redis.scratch(folder) as server:
        yield _finding("tests/performance/redis_benchmark.log", redis.benchmark(server))


def failover(_: Ground) -> Iterator[Finding]:
    """Kill the master of a pair that sentinels watch, under a client that writes; measure until it writes again."""
    with _folder() as folder, redis.watched(folder) as found:
        yield _finding("tests/integration/redis_failover.log", redis.failover(found))


@contextmanager
def _folder() -> Iterator[Path]:
    """Have a folder for a moment that the servers' own user can enter."""
    with tempfile.TemporaryDirectory(prefix="tidegate-redis-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def _finding(file: str, reading: Reading) -> Finding:
    return Finding(file, reading.text, reading.figures, reading.command)
