"""Redis is there where it is asked for, lets in two users for what they need, and whatever state it was left in, `up` recovers it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.redis_servers import kill
from tests.whole import Stack

from tidegate.errors import StackError, UsageError
from tidegate.settings import Settings
from tidegate.stack import lifecycle, redis
from tidegate.stack.redis_server import RedisServer
from tidegate.stack.secret import Secrets
from tidegate.stack.shell import shell_environment
from tidegate.stores import lease
from tidegate.stores.redis import Address, Store


@pytest.fixture
def stack(stack: Stack, warehouse: str) -> Stack:
    """A home in which Redis is the only server."""
    stack.elsewhere["warehouse_url"] = warehouse
    return stack


def up(stack: Stack, **choice: list[str]) -> Settings:
    lines: list[str] = []
    try:
        return lifecycle.up(stack.settings, lines.append, **choice)  # type: ignore[arg-type]
    finally:
        stack.said = "\n".join(lines)


def store_of(settings: Settings) -> Store:
    assert settings.redis_url
    return Store(settings.redis_url.get_secret_value())


def server_of(stack: Stack) -> RedisServer:
    server = redis.server_of(stack.settings)
    server.running()
    return server


def state(stack: Stack) -> str:
    return stack.status().services["redis"].state


def test_it_runs_where_it_is_asked_for_until_it_is_no_longer_wanted(stack: Stack) -> None:
    assert up(stack).redis_url is None
    assert "redis" not in stack.status().services
    address = up(stack, more=["redis"]).redis_url
    assert stack.settings.redis_url == address
    assert state(stack) == "running"
    stack.up()
    assert "redis: already running" in stack.said
    stack.down()
    assert state(stack) == "stopped"
    assert stack.up().redis_url == address
    assert up(stack, less=["redis"]).redis_url is None
    assert "redis: stopped" in stack.said
    assert "redis" not in stack.status().services
    with pytest.raises(UsageError, match=r"no server is called 'memcached'; those to choose from are: .*redis"):
        up(stack, more=["memcached"])


def test_what_it_keeps_outlives_down_and_kill_9(stack: Stack) -> None:
    with store_of(up(stack, more=["redis"])) as store:
        lease.take(store, "it", "me", seconds=600)
    stack.down()
    with store_of(stack.up()) as store:
        assert lease.take(store, "more", "me").token == 2
    kill(server_of(stack))
    assert state(stack) == "dead"
    with store_of(stack.up()) as store:
        assert "was not running any more" in stack.said
        assert lease.find(store, "it").holder == "me"  # type: ignore[union-attr]


def test_a_stale_pid_file_and_a_taken_port_are_no_obstacle(stack: Stack) -> None:
    before = up(stack, more=["redis"])
    server = server_of(stack)
    stack.down()
    (server.directory / "redis.pid").write_text(str(os.getpid()))
    with socket.create_server(("127.0.0.1", server.port)):
        after = stack.up()
        assert f"port {server.port} is taken" in stack.said
        assert after.redis_url != before.redis_url
        assert state(stack) == "running"


def test_a_server_whose_pid_file_is_gone_is_not_joined_by_a_second_one(stack: Stack) -> None:
    up(stack, more=["redis"])
    server = server_of(stack)
    first = server.running()
    assert first
    (server.directory / "redis.pid").unlink()
    stack.up()
    assert not first.is_alive()
    assert state(stack) == "running"


def cut(log: Path) -> None:
    log.write_bytes(log.read_bytes()[:-7])


def spoil(log: Path) -> None:
    log.write_bytes(b"nonsense" + log.read_bytes())


@pytest.mark.parametrize(
    ("harm", "said", "left"),
    [(cut, "cut behind the last whole one", ["first"]), (spoil, "cut behind the last whole one", [])],
)
def test_a_damaged_log_of_writes_is_archived_mended_and_told(
    stack: Stack, harm: Callable[[Path], None], said: str, left: list[str]
) -> None:
    with store_of(up(stack, more=["redis"])) as store:
        lease.take(store, "first", "me", seconds=600)
        lease.take(store, "second", "me", seconds=600)
    server = server_of(stack)
    stack.down()
    (log,) = server.append_only.glob("*.incr.aof")
    harm(log)
    damaged = log.read_bytes()
    with store_of(stack.up()) as store:
        assert said in stack.said
        assert [one.subject for one in lease.everybody(store)] == left
    (kept,) = (stack.home / "archive").glob(f"appendonlydir.damaged-*/{log.name}")
    assert kept.read_bytes() == damaged


def test_what_cannot_be_mended_is_archived_and_it_starts_empty(stack: Stack) -> None:
    with store_of(up(stack, more=["redis"])) as store:
        lease.take(store, "it", "me", seconds=600)
    server = server_of(stack)
    stack.down()
    (base,) = server.append_only.glob("*.base.rdb")
    base.write_bytes(b"REDIS0010 nonsense")
    with store_of(stack.up()) as store:
        assert "damaged beyond repair" in stack.said
        assert lease.everybody(store) == []
    assert list((stack.home / "archive").glob("redis-*/appendonlydir"))


PLATFORM_MUST_NOT = [
    "GET other", "SET other 1", "KEYS *", "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET maxmemory 0", "DEBUG SLEEP 0",
    "SHUTDOWN", "SAVE", "ACL LIST", "ACL SETUSER x on", "MODULE LIST", "REPLICAOF NO ONE", "INFO", "MONITOR", "CLIENT LIST",
    "SCRIPT FLUSH", "FUNCTION LIST", "SWAPDB 0 0", "SUBSCRIBE x", "PUBLISH x y", "SCAN 0", "RENAME tidegate:a tidegate:b",
    "LPUSH tidegate:l 1", "EVAL return(redis.call('GET','other')) 0", "EVAL return(redis.call('FLUSHALL')) 0",
]  # fmt: skip
KEEPER_MUST_NOT = [
    "GET tidegate:token", "SET tidegate:token 1", "DEL tidegate:token", "FLUSHALL", "CONFIG SET maxmemory 0", "ACL SETUSER x on",
    "EVAL return(1) 0", "DEBUG SLEEP 0", "MONITOR", "KEYS *",
]  # fmt: skip


def test_each_user_may_do_what_it_needs_and_no_more(stack: Stack) -> None:
    import redis as client

    up(stack, more=["redis"])
    server = server_of(stack)
    for user, words in (("tidegate", PLATFORM_MUST_NOT), ("keeper", KEEPER_MUST_NOT)):
        with Store(server.url(user)) as store:
            for line in words:
                with pytest.raises((client.exceptions.NoPermissionError, client.exceptions.ResponseError)) as refused:
                    store.client.execute_command(*line.split())
                assert re.search("permissions|can't (access|run)|DEBUG command not allowed", str(refused.value)), line
    with Store(server.url("keeper")) as store:
        assert store.client.info("server")["redis_version"].startswith("7.")
        assert store.client.config_get("maxmemory-policy") == {"maxmemory-policy": "volatile-lru"}
        shown = store.client.config_get("*")
    assert (shown["bind"], shown["protected-mode"], shown["appendonly"]) == ("127.0.0.1", "yes", "yes")
    for url in (f"redis://127.0.0.1:{server.port}/0", f"redis://default:x@127.0.0.1:{server.port}/0"):
        with Store(url) as store, pytest.raises(StackError), store.reached() as nobody:
            nobody.ping()


def test_no_secret_is_seen_in_arguments_logs_or_readable_files(stack: Stack) -> None:
    up(stack, more=["redis"])
    secrets, server = Secrets.load(stack.home), server_of(stack)
    process = server.running()
    assert process
    told = " ".join(psutil.Process(process.pid).cmdline()) + stack.said + str(stack.status()) + server.log.read_text()
    for secret in (secrets.redis_password, secrets.redis_keeper_password):
        assert secret not in told + repr(server)
    assert server.directory.stat().st_mode & 0o777 == 0o700
    assert {
        f.name: f.stat().st_mode & 0o077 for f in server.directory.glob("*.*") if f.suffix in (".conf", ".acl")
    } == {
        "redis.conf": 0,
        "users.acl": 0,
    }


def test_a_machine_without_redis_is_told_what_to_type(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "redis-server" else found(name))
    with pytest.raises(StackError, match=r"no `redis-server` on this machine .*Type: .*redis-server"):
        up(stack, more=["redis"])


def test_a_shell_is_told_how_to_reach_it(stack: Stack) -> None:
    found = shell_environment(up(stack, more=["redis"]))
    words = ["redis-cli", "-p", str(server_of(stack).port), "--user", "tidegate", "get", "tidegate:token"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **found}, check=True)
    assert done.stdout.strip() == ""
    assert Address.of(found["REDIS_URL"]).password == found["REDISCLI_AUTH"]


def test_a_redis_of_ones_own_is_used_and_nothing_is_started(stack: Stack) -> None:
    stack.elsewhere["redis_url"] = "rediss://me:secret-canary@cache.example.org:6380/1"
    up(stack, more=["redis"])
    service = stack.status().services["redis"]
    assert (service.state, service.address) == ("external", "rediss://me@cache.example.org:6380/1")
    assert not (stack.home / "redis").exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1/0", "begins with 'http'"),
        ("redis://127.0.0.1/main", "expected the number of a database"),
        ("redis+sentinel://127.0.0.1/", "expected the name of the master"),
        ("redis+sentinel://127.0.0.1/0", "expected the name of the master"),
        ("redis:///0", "names no host"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_without_its_password(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        Address.of(url)
    assert "pw" not in str(refused.value)


def test_an_address_is_read_and_shown() -> None:
    one = Address.of("redis://me:p%40w@redis/3")
    assert (one.hosts, one.password, one.database, one.tls) == ((("redis", 6379),), "p@w", 3, False)
    many = Address.of("rediss+sentinel://me:pw@a.example.org:1,[::1]:2,b.example.org/main")
    assert many.hosts == (("a.example.org", 1), ("::1", 2), ("b.example.org", 26379))
    assert str(many) == "rediss+sentinel://me@a.example.org:1,::1:2,b.example.org:26379/main"
