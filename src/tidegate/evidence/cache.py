"""Redis as probes: what the platform's own keeps, and how servers made for the measurement bear load and a dead master."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate.evidence import redis
from tidegate.evidence.probe import Finding, Ground
from tidegate.evidence.redis import Reading
from tidegate.stack import redis as embedded
from tidegate.stack.redis_server import KEEPER
from tidegate.stores.redis import Store


def state(ground: Ground) -> Iterator[Finding]:
    """Ask the platform's Redis what it keeps, how it is set, in how much memory, and how often it knew the answer.

    A stack that runs without one is asked what it would have: a server that is started as its own would be, and is empty.
    What is written to try each kind of value is written to such a one in any case.
    """
    url = ground.settings.redis_url
    with _folder() as folder, redis.scratch(folder) as server:
        if url is None:
            told = "this stack runs without Redis: a server was started as its own would be\n"
            yield from _asked(server.url(KEEPER), told)
        yield _finding("redis/data_test.log", redis.structures(server))
    if url is None:
        return
    mine = embedded.server_of(ground.settings)
    # The platform's own user may only do what the platform does; of a Redis of somebody else's, it is all there is.
    yield from _asked(
        mine.url(KEEPER) if mine.running() and str(mine.port) in url.get_secret_value() else url.get_secret_value(), ""
    )


def _asked(url: str, told: str) -> Iterator[Finding]:
    with Store(url) as store:
        for name, read in _READINGS.items():
            reading = read(store)
            yield Finding(f"redis/{name}.log", told + reading.text, reading.figures, reading.command)


#: Of what the platform's Redis is asked, by the file that it is written to.
_READINGS: dict[str, Callable[[Store], Reading]] = {
    "ping": redis.ping, "info": redis.info, "config": redis.config, "memory_info": redis.memory, "hit_rate": redis.hit_rate, "bigkeys": redis.big_keys,
}  # fmt: skip


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
