"""A warehouse that a test may kill."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.conftest import CHECKOUT, FAST_AND_LOSSY
from tests.stream.parcels import Depot

from tidegate.migrate import door
from tidegate.settings import load_settings
from tidegate.stack import port
from tidegate.stack.postgres import PostgresServer


@pytest.fixture
def doomed(depot: Depot, reachable_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    """A warehouse of the depot's own, which may die."""
    folder = reachable_folder / "doomed-stream"
    log = reachable_folder / "doomed-stream.log"
    server = PostgresServer(folder, "test", log, port.choose(21000, folder, set()), settings=FAST_AND_LOSSY)
    server.start()
    try:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE warehouse")
        door.upgrade(server.dsn("warehouse"), CHECKOUT)
        monkeypatch.setenv("TIDEGATE_WAREHOUSE_URL", server.dsn("warehouse"))
        depot.settings = load_settings()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def kill(server: PostgresServer) -> psutil.Process:
    """Kill the server with -9, and return what is dead; its children notice a moment later."""
    postmaster = psutil.Process(int((server.directory / "postmaster.pid").read_text().splitlines()[0]))
    os.kill(postmaster.pid, signal.SIGKILL)
    return postmaster
