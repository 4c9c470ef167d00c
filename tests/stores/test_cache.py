"""A value is computed once however many ask; what Redis cannot do, or forgets, costs time and nothing else."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.redis_servers import kill, serve

from tidegate.errors import UnavailableError
from tidegate.stack.redis_server import RedisServer
from tidegate.stores import lease
from tidegate.stores.cache import Cache
from tidegate.stores.redis import Store


def test_a_value_is_computed_once_until_its_time_is_over(store: Store) -> None:
    cache = Cache(store, "marts", "analyst", seconds=0.3)
    computed: list[object] = []

    def compute() -> object:
        computed.append({"rows": [1, None, "ü"]})
        return computed[-1]

    assert [cache.get("k", compute) for _ in range(3)] == [{"rows": [1, None, "ü"]}] * 3
    assert (len(computed), cache.hits, cache.misses) == (1, 2, 1)
    time.sleep(0.31)
    cache.get("k", compute)
    cache.forget("k")
    cache.get("k", compute)
    assert (len(computed), cache.hits, cache.misses) == (3, 2, 3)


@pytest.mark.parametrize("value", [None, 0, "", [], False])
def test_an_empty_value_is_a_value(store: Store, value: object) -> None:
    cache = Cache(store, "marts", "analyst", seconds=60)
    assert cache.get("k", lambda: value) == value
    assert cache.get("k", lambda: "computed again") == value


def test_no_audience_is_given_what_another_may_see(store: Store) -> None:
    assert Cache(store, "marts", "app AA", 60).get("k", lambda: "rows of AA") == "rows of AA"
    assert Cache(store, "marts", "app UA", 60).get("k", lambda: "rows of UA") == "rows of UA"
    assert Cache(store, "marts", "app", 60).get("AA:k", lambda: "rows of nobody") == "rows of nobody"
    assert Cache(store, "marts", "app:AA", 60).get("k", lambda: "rows of AA") == "rows of AA"


def test_a_stampede_computes_once(redis: RedisServer) -> None:
    computed = []
    start = threading.Barrier(8)

    def ask(number: int) -> object:
        def compute() -> int:
            time.sleep(0.3)
            computed.append(number)
            return 42

        with Store(redis.url()) as own:
            start.wait()
            return Cache(own, "marts", "analyst", 60).get("k", compute)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [42] * 8
    assert len(computed) == 1


def test_whoever_waits_too_long_computes_for_itself(store: Store) -> None:
    cache = Cache(store, "marts", "analyst", 60, patience=0.1)
    lease.take(store, f"compute {cache._place('k')}", "somebody slow")
    assert cache.get("k", lambda: 1) == 1
    assert cache.misses == 1


def test_what_computing_raises_is_raised_once_and_keeps_nobody_waiting(store: Store) -> None:
    cache = Cache(store, "marts", "analyst", 60)
    tries = []

    def fail() -> None:
        tries.append(1)
        raise UnavailableError("the warehouse is away")

    with pytest.raises(UnavailableError, match="the warehouse is away"):
        cache.get("k", fail)
    assert (len(tries), lease.everybody(store)) == (1, [])
    assert cache.get("k", lambda: 1) == 1


def test_full_memory_takes_the_cache_and_leaves_leases_and_tokens(reachable_folder: Path) -> None:
    server = serve(reachable_folder, memory="3mb")
    server.start()
    try:
        with Store(server.url()) as store, Store(server.url("tester")) as tester:
            cache = Cache(store, "marts", "analyst", seconds=600)
            held = [lease.take(store, f"batch {number}", "me", seconds=600) for number in range(50)]
            for number in range(600):
                cache.get(str(number), lambda: "x" * 10_000)
            assert tester.client.info("stats")["evicted_keys"] > 300
            assert [one.token for one in lease.everybody(store)] == [one.token for one in held]
            # Nothing left that may be evicted: leases are granted still, values are computed.
            tester.client.config_set("maxmemory", "100kb")
            assert cache.get("new", lambda: "y" * 10_000) == "y" * 10_000
            lease.take(store, "batch 50", "me")
            lease.release(store, lease.take(store, "batch 51", "me"))
            assert [lease.renew(store, one) for one in held] == [True] * 50
            assert len(lease.everybody(store)) == 51
    finally:
        server.stop()


def test_without_redis_everything_is_computed_and_later_kept_again(reachable_folder: Path) -> None:
    server = serve(reachable_folder)
    server.start()
    with Store(server.url()) as store:
        cache = Cache(store, "marts", "analyst", 60)
        kill(server)
        assert [cache.get("k", lambda: 1), cache.get("k", lambda: 2)] == [1, 2]
        server.start()
        try:
            assert [cache.get("k", lambda: 3), cache.get("k", lambda: 4)] == [3, 3]
        finally:
            server.stop()
