"""PostgreSQL for tests: the run's own server, and others that a test may kill."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.whole import CHECKOUT

from tidegate.migrate import door
from tidegate.stack import port
from tidegate.stack.postgres import PostgresServer

#: For what need not outlive a power cut.
FAST_AND_LOSSY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "256MB",
}


@contextmanager
def running(folder: Path, first_port: int, settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """A server in this folder, with its log beside it, at the first free port from this one on."""
    number = port.choose(first_port, folder, set())
    server = PostgresServer(folder, "test", folder.with_suffix(".log"), number, settings=dict(settings or {}))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def own_warehouse(
    folder: Path, monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, str] | None = None
) -> Iterator[PostgresServer]:
    """A warehouse of one test's own, which may die: migrated, and named by the environment."""
    try:
        with running(folder, 21000, settings) as server:
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                connection.execute("CREATE DATABASE warehouse")
            door.upgrade(server.dsn("warehouse"), CHECKOUT)
            monkeypatch.setenv("TIDEGATE_WAREHOUSE_URL", server.dsn("warehouse"))
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postmaster(server: PostgresServer) -> psutil.Process:
    """The process that all others of a running server are children of."""
    return psutil.Process(int((server.directory / "postmaster.pid").read_text().splitlines()[0]))


def kill(server: PostgresServer) -> psutil.Process:
    """Kill the server with -9, and return what is dead; its children notice a moment later."""
    dead = postmaster(server)
    os.kill(dead.pid, signal.SIGKILL)
    return dead
