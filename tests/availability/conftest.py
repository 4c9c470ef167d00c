"""One embedded warehouse with pool and replica, as `tidegate up --with replica` makes it, and clients that write to it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from tests.whole import CHECKOUT, Stack
from typer.testing import CliRunner, Result

from tidegate import cli
from tidegate.settings import get_settings
from tidegate.stack import replica, warehouse

ELSEWHERE = {"airflow_url": "http://127.0.0.1:9", "spark_master": "local[1]"}


class Pair(Stack):
    """The stack, and what one types at it."""

    def run(self, *words: str) -> Result:
        get_settings.cache_clear()
        try:
            return CliRunner().invoke(cli.build(), list(words))
        finally:
            structlog.reset_defaults()

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)

    def ask(self, query: str, dsn: str | None = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(dsn or self.superuser, autocommit=True) as connection:
            cursor = connection.execute(query)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    @property
    def superuser(self) -> str:
        return warehouse.reach(self.settings).dsn("warehouse")

    @property
    def copy(self) -> str:
        return replica.reach(self.settings).dsn("warehouse")

    @property
    def pooled(self) -> str:
        url = self.settings.pool_url
        assert url is not None
        return url.get_secret_value()

    def follows(self, patience: float = 20) -> None:
        """The replica shows all that the primary has."""
        deadline = time.monotonic() + patience
        while (found := self.json("replication"))["replica"]["lag_bytes"] or not found["standbys"]:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        assert found["standbys"][0]["state"] == "streaming"


@dataclass
class Writer(threading.Thread):
    """A client of the pool that writes row after row, reconnects when it must, and remembers what was acknowledged."""

    address: str
    number: int
    acknowledged: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        row = self.number * 1_000_000
        connection: psycopg.Connection[Any] | None = None
        while not self.stopped.is_set():
            row += 1
            began = time.monotonic()
            try:
                if connection is None:
                    connection = psycopg.connect(
                        self.address, autocommit=True, prepare_threshold=None, connect_timeout=30
                    )
                connection.execute("INSERT INTO public.written VALUES (%s)", [row])
            except psycopg.Error as error:
                self.failures.append(str(error))
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.02)
            else:
                self.acknowledged.append(row)
                self.slowest = max(self.slowest, time.monotonic() - began)
        if connection is not None:
            connection.close()

    def wait_for(self, more: int, patience: float = 30) -> None:
        """Wait until so many more rows were acknowledged."""
        wanted, deadline = len(self.acknowledged) + more, time.monotonic() + patience
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, (len(self.acknowledged), self.failures[-3:])
            time.sleep(0.01)


def write(address: str, clients: int) -> list[Writer]:
    """Start clients that write, and return when each of them has."""
    writers = [Writer(address, number) for number in range(1, clients + 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.wait_for(5)
    return writers


def end(writers: list[Writer]) -> set[int]:
    """Let them end; return every row that was acknowledged to one of them."""
    for writer in writers:
        writer.stopped.set()
    for writer in writers:
        writer.join(30)
    return {row for writer in writers for row in writer.acknowledged}


@pytest.fixture(scope="package")
def whole_pair(reachable_folder: Path) -> Iterator[Pair]:
    stack = Pair(reachable_folder / "pair", ELSEWHERE)
    replica.want(stack.home, True)
    stack.up()
    stack.ask(
        "CREATE TABLE public.written (n bigint PRIMARY KEY); GRANT ALL ON public.written TO app; GRANT USAGE ON SCHEMA public TO app"
    )
    yield stack
    stack.down()


@pytest.fixture
def pair(whole_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """The pair, both running and the replica up to date; commands in this process speak to it."""
    monkeypatch.setenv("TIDEGATE_PROJECT", str(CHECKOUT))
    monkeypatch.setenv("TIDEGATE_HOME", str(whole_pair.home))
    for name, value in ELSEWHERE.items():
        monkeypatch.setenv(f"TIDEGATE_{name.upper()}", value)
    monkeypatch.setenv("TIDEGATE_BACKUP_TOOL", "pg_basebackup")
    whole_pair.elsewhere = dict(ELSEWHERE)
    whole_pair.up()
    whole_pair.follows()
    whole_pair.ask("TRUNCATE public.written")
    yield whole_pair
    whole_pair.elsewhere = dict(ELSEWHERE)
