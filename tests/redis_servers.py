"""Redis for tests: a real server, started once for the module that asks, emptied for each test."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tidegate.stack import port
from tidegate.stack.redis_server import RedisServer
from tidegate.stores.redis import Store

PASSWORD, KEEPERS = "redis-test", "keeper-test"
#: A user that may do everything, for what tests do behind the platform's back.
EVERYTHING = {"tester": "~* &* +@all"}


def serve(folder: Path, **options: object) -> RedisServer:
    """Return a server of a test's own, not started."""
    directory = folder / f"redis-{uuid.uuid4().hex[:8]}"
    number = port.choose(22000, directory, set())
    return RedisServer(directory, PASSWORD, KEEPERS, directory.with_suffix(".log"), number, users=EVERYTHING, **options)  # type: ignore[arg-type]


def kill(server: RedisServer) -> None:
    """Kill a server with -9, and wait until it is gone."""
    process = server.running()
    assert process
    gone = psutil.Process(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs([gone], timeout=10)
    process.is_alive()  # reaps it


@pytest.fixture(scope="module")
def shared_redis(reachable_folder: Path) -> Iterator[RedisServer]:
    server = serve(reachable_folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(server.directory)


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """A running server that holds nothing."""
    with Store(shared_redis.url("tester")) as store:
        store.client.flushall()
    return shared_redis


@pytest.fixture
def store(redis: RedisServer) -> Iterator[Store]:
    with Store(redis.url()) as store:
        yield store
