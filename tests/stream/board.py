"""Flight events as micro-batches of several workers, without a broker: the same rows and offsets, in an order that the test chooses."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from tidegate.contracts import Contract, load
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect
from tidegate.stream import ledger
from tidegate.stream.feed import Haul, Span
from tidegate.stream.sieve import Sieve
from tidegate.stream.write import prepare, write

BEGIN = datetime(2013, 6, 29, 5, tzinfo=UTC)
MART = "mart_departures_now"
#: What the mart must hold, said of raw.flight_event alone and in other words than the model's.
EXPECTED = """
WITH newest AS (SELECT max(event_at) AS at FROM raw.flight_event), told AS (
    SELECT happened.* FROM raw.flight_event AS happened, newest
    WHERE time_hour > newest.at - interval '1 day' AND event_type IN ('scheduled', 'departed', 'cancelled')
)
SELECT origin, time_hour AS scheduled_hour_at,
    sum((event_type = 'scheduled')::int) AS scheduled_count, sum((event_type = 'departed')::int) AS departed_count,
    sum((event_type = 'cancelled')::int) AS cancelled_count,
    (sum(delay_minutes)::float8 / nullif(count(delay_minutes), 0)) AS mean_dep_delay_minutes,
    percentile_cont(0.9) WITHIN GROUP (ORDER BY delay_minutes) AS p90_dep_delay_minutes,
    avg((delay_minutes > 15)::int)::float8 AS late_departure_rate, max(event_at) AS newest_event_at
FROM told GROUP BY 1, 2 ORDER BY 1, 2
"""


def events(seed: int, flights: int = 60) -> list[dict[str, Any]]:
    """Return all that happened to some flights of three days, oldest first."""
    drawn = random.Random(seed)
    found = []
    for number in range(1, flights + 1):
        scheduled = BEGIN + timedelta(hours=drawn.randrange(72), minutes=drawn.randrange(60))
        flight = {
            "time_hour": scheduled.replace(minute=0), "carrier": "UA", "flight": number, "origin": drawn.choice(["EWR", "JFK", "LGA"]),
            "dest": "BOS", "tailnum": "N1", "scheduled_at": scheduled,
        }  # fmt: skip
        found.append(flight | {"event_type": "scheduled", "event_at": scheduled - timedelta(hours=24)})
        if drawn.random() < 0.1:
            found.append(flight | {"event_type": "cancelled", "event_at": scheduled})
            continue
        delay = drawn.randrange(-10, 90)
        left = scheduled + timedelta(minutes=delay)
        found.append(flight | {"event_type": "departed", "event_at": left, "delay_minutes": delay})
        found.append(flight | {"event_type": "arrived", "event_at": left + timedelta(hours=1), "delay_minutes": delay})
    return sorted(found, key=lambda event: event["event_at"])


@dataclass
class Board:
    """One worker's session, and the partition of the topic that it takes in."""

    settings: Settings
    partition: int = 0
    connection: Connection = field(init=False)
    contract: Contract = field(init=False)
    _sieve: Sieve = field(init=False)
    _next: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.contract = load(self.settings, "flight_event")
        self.connection = self._stack.enter_context(connect(self.settings))
        self._sieve = Sieve(self.contract, "200MB")
        self._stack.callback(self._sieve.close)
        prepare(self.connection, self._sieve)
        with self.connection.transaction():
            ledger.begin(self.connection, self.contract, "i1", self.partition, None, 0)
        self.connection.commit()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def take(self, happened: Iterable[dict[str, Any]]) -> None:
        """Write a micro-batch; part of the session's transaction, if it is in one."""
        haul = Haul()
        for event in happened:
            value = {n: f"{v:%Y-%m-%dT%H:%M:%SZ}" if isinstance(v, datetime) else v for n, v in event.items()}
            haul.topic_partition.append(self.partition)
            haul.message_offset.append(self._next + len(haul.key))
            haul.sent_at.append(int(event["event_at"].timestamp() * 1000))
            haul.key.append(b"N1")
            haul.value.append(json.dumps(value).encode())
            haul.headers.append(())
        haul.spans = {self.partition: Span(self._next, self._next + len(haul.key))}
        self._next += len(haul.key)
        written = write(self.connection, self._sieve, "i1", haul, self._sieve.sift(haul), time.monotonic())
        assert (written.rows, written.refused) == (len(haul), 0)


def shown(connection: Connection, mart: str) -> list[dict[str, Any]]:
    """Return the mart's rows, by `schema.name`."""
    with connection.transaction():
        return connection.execute(f"SELECT * FROM {mart} ORDER BY 1, 2").fetchall()


def expected(connection: Connection) -> list[dict[str, Any]]:
    """Return what the mart must hold."""
    with connection.transaction():
        return connection.execute(EXPECTED).fetchall()
