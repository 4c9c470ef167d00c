"""One embedded warehouse with pool and replica, as `tidegate up --with replica` makes it, and clients that write to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.whole import WAREHOUSE_ALONE, Typed

from tidegate.evidence.clients import Client, acknowledged, each_writes
from tidegate.stack import replica


class Pair(Typed):
    """The stack with a replica and a pool."""

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


def write(address: str, clients: int) -> list[Client]:
    """Start clients that write, and return when each of them has."""
    writers = [Client(address, number) for number in range(1, clients + 1)]
    for writer in writers:
        writer.start()
    each_writes(writers, 5)
    return writers


def end(writers: list[Client]) -> set[int]:
    """Let them end; return every row that was acknowledged to one of them."""
    for writer in writers:
        writer.stopped.set()
    for writer in writers:
        writer.join(30)
    return set(acknowledged(writers))


@pytest.fixture(scope="package")
def whole_pair(reachable_folder: Path) -> Iterator[Pair]:
    stack = Pair(reachable_folder / "pair", WAREHOUSE_ALONE)
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
    whole_pair.speak_to(monkeypatch)
    whole_pair.elsewhere = dict(WAREHOUSE_ALONE)
    whole_pair.up()
    whole_pair.follows()
    whole_pair.ask("TRUNCATE public.written")
    yield whole_pair
    whole_pair.elsewhere = dict(WAREHOUSE_ALONE)
