"""Figures of a Redis are those of a server that really holds, serves, and fails over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from tests.redis_servers import EVERYTHING
from tests.redis_servers import redis as redis
from tests.redis_servers import shared_redis as shared_redis
from tests.redis_servers import store as store

from tidegate.errors import BusyError, FencedError
from tidegate.evidence import cache
from tidegate.evidence import redis as evidence
from tidegate.evidence.probe import Ground
from tidegate.gates.claim import claim
from tidegate.settings import Settings
from tidegate.stack import port
from tidegate.stack import redis as embedded
from tidegate.stack.redis_sentinel import Watched
from tidegate.stack.redis_server import RedisServer
from tidegate.stores import lease
from tidegate.stores.cache import Cache
from tidegate.stores.postgres import connect
from tidegate.stores.redis import Store


@pytest.fixture
def keeper(redis: RedisServer) -> Iterator[Store]:
    with Store(redis.url("keeper")) as store:
        store.client.execute_command("PING")
        yield store


def test_what_is_kept_is_weighed(store: Store, keeper: Store) -> None:
    cache = Cache(store, "marts", "analyst", 60)
    for number in range(20):
        cache.get(str(number), lambda size=number: "x" * 100 * size)  # type: ignore[misc]
    lease.take(store, "it", "me")
    found = evidence.big_keys(keeper, most=3)
    assert found.figures["keys"] == 22
    assert found.figures["by_type"] == {"string": 21, "hash": 1}
    assert [row["key"] for row in found.figures["largest"]] == [
        f"tidegate:cache:marts:analyst:{n}" for n in (19, 18, 17)
    ]
    assert found.figures["largest"][0]["bytes"] > 1900
    assert "22 keys" in found.text


def test_the_hit_rate_counts_what_was_asked_and_is_unknown_where_nothing_was(
    redis: RedisServer, store: Store, keeper: Store
) -> None:
    with Store(redis.url("tester")) as tester:
        tester.client.config_resetstat()
        assert evidence.hit_rate(keeper).figures == {"hits": 0, "misses": 0, "hit_rate": None}
        tester.client.set("k", 1)
        for name in ("k", "k", "k", "none"):
            tester.client.get(name)
    assert evidence.hit_rate(keeper).figures == {"hits": 3, "misses": 1, "hit_rate": 0.75}


def test_info_config_and_memory_are_the_servers_own(redis: RedisServer, keeper: Store) -> None:
    found = evidence.info(keeper)
    assert (found.figures["tcp_port"], found.figures["aof_enabled"]) == (redis.port, 1)
    assert found.text.startswith("# Server")
    settings = evidence.config(keeper).figures
    assert (settings["maxmemory"], settings["maxmemory-policy"]) == (64 << 20, "volatile-lru")
    assert (settings["appendonly"], settings["appendfsync"], settings["save"]) == (
        "yes",
        "everysec",
        "3600 1 300 100 60 10000",
    )
    memory = evidence.memory(keeper).figures
    assert 0 < memory["used_memory"] < memory["maxmemory"]
    assert memory["used_share"] == pytest.approx(memory["used_memory"] / (64 << 20))


def test_the_benchmark_gives_speed_and_p95_of_each_command_and_no_password(reachable_folder: Path) -> None:
    with evidence.scratch(reachable_folder / "bench") as server:
        found = evidence.benchmark(server, requests=2000)
        assert server.keeper_password not in found.command + found.text
    assert set(found.figures) == {"GET", "SET", "INCR", "LPUSH", "SADD"}
    for figures in found.figures.values():
        assert figures["ops_per_second"] > 100
        assert 0 < figures["p95_ms"] < 1000


@pytest.fixture
def watched(reachable_folder: Path) -> Iterator[Watched]:
    found = Watched(reachable_folder / "watched", "platform-test", "keeper-test", users=EVERYTHING)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def test_after_a_failover_clients_go_on_and_a_lease_is_held_still_or_its_holder_fenced_out(
    watched: Watched, settings: Settings
) -> None:
    settings = settings.model_copy(update={"redis_url": SecretStr(watched.url())})
    with claim(settings, "b1") as mine:
        master = watched.master()
        with Store(master.url("tester")) as tester:
            assert tester.client.wait(1, 2000) == 1
        found = evidence.failover(watched)
        assert watched.master().port != master.port
        assert found.figures["seconds"] < 30
        assert found.figures["acknowledged"] == 201
        with Store(watched.url()) as store:
            held = lease.find(store, "batch b1")
            assert held
            assert held.token == mine.token
        with pytest.raises(BusyError, match=f"token {mine.token}"), claim(settings, "b1"):
            pass
        # What the replica had not been told yet when it was promoted: here, everything.
        with Store(watched.master().url("tester")) as tester:
            tester.client.flushall()
        with connect(settings) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [mine.connection.info.backend_pid])
        with claim(settings, "b1") as theirs:
            assert theirs.token > mine.token
            with connect(settings) as late, pytest.raises(FencedError):
                mine.check(late)
        with pytest.raises(psycopg.OperationalError):
            mine.connection.execute("SELECT 1")


def test_a_stack_without_redis_is_asked_what_it_would_have() -> None:
    found = {one.file: one for one in cache.state(Ground(Settings(redis_url=None)))}
    assert found["redis/config.log"].figures["appendonly"] == "yes"
    assert found["redis/hit_rate.log"].figures["hit_rate"] is None
    kept = found.pop("redis/data_test.log")
    assert kept.figures == {"structures": 4, "failed": 0}
    assert all("runs without Redis" in one.text for one in found.values())


def test_the_stacks_own_redis_is_asked_by_its_keeper(reachable_folder: Path) -> None:
    settings = Settings(home=reachable_folder / "home")
    server = embedded.server_of(settings)
    server.log.parent.mkdir(parents=True)
    server.port = port.choose(24000, server.directory, set())
    server.start()
    try:
        settings = settings.model_copy(update={"redis_url": SecretStr(server.url())})
        found = {one.file: one for one in cache.state(Ground(settings))}
    finally:
        server.stop()
    names = ("ping", "data_test", "info", "config", "memory_info", "hit_rate", "bigkeys")
    assert set(found) == {f"redis/{name}.log" for name in names}
    assert found["redis/ping.log"].text == "PONG\n"
    assert not any("runs without Redis" in one.text for one in found.values())
