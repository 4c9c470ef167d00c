"""Clients that write row after row, come back when they are cut off, and know what was acknowledged to them, and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import psycopg

from tidegate.errors import UnavailableError, first_line

#: What they write to.
TABLE = "CREATE TABLE public.written (n bigint PRIMARY KEY)"
_PATIENCE = 60


@dataclass
class Client(threading.Thread):
    """One client; `acknowledged` says of each row at which second of the machine's clock, `slowest` what one took at most.

    It connects as clients of a pool must: PgBouncer hands a transaction to any connection, so nothing is prepared.
    """

    address: str = field(repr=False)
    number: int
    acknowledged: dict[int, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        """Write until it is stopped."""
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
                self.failures.append(first_line(error))
                if connection is not None:
                    connection.close()
                connection = None
                self.stopped.wait(0.01)
            else:
                self.acknowledged[row] = time.monotonic()
                self.slowest = max(self.slowest, self.acknowledged[row] - began)
        if connection is not None:
            connection.close()

    def wait_for(self, more: int, patience: float = _PATIENCE) -> None:
        """Wait until so many more rows were acknowledged.

        Raises:
            UnavailableError: they were not within `patience` seconds.
        """
        wanted, deadline = len(self.acknowledged) + more, time.monotonic() + patience
        while len(self.acknowledged) < wanted:
            if time.monotonic() > deadline:
                told = f"{len(self.acknowledged)} of {wanted} rows after {patience:.0f} s: {self.failures[-3:]}"
                raise UnavailableError(f"a client could not write, {told}")
            time.sleep(0.01)

    @property
    def longest_gap(self) -> float:
        """The longest time between two rows that were acknowledged one after the other, in seconds."""
        return max((later - earlier for earlier, later in pairwise(self.acknowledged.values())), default=0.0)


@contextmanager
def writing(address: str, clients: int) -> Iterator[list[Client]]:
    """Have clients write while the block runs; they have ended when it has."""
    found = [Client(address, number + 1) for number in range(clients)]
    for client in found:
        client.start()
    try:
        yield found
    finally:
        for client in found:
            client.stopped.set()
        for client in found:
            client.join(_PATIENCE)


def each_writes(clients: Sequence[Client], rows: int) -> None:
    """Wait until each has had so many more rows acknowledged; raises UnavailableError."""
    for client in clients:
        client.wait_for(rows)


def acknowledged(clients: Sequence[Client]) -> dict[int, float]:
    """Return every row that was acknowledged to any of them, and when."""
    return {row: when for client in clients for row, when in client.acknowledged.items()}
