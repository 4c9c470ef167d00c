"""A depot whose parcels are told of by a topic: a contract of its own, a topic of its own, a look into its warehouse."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.kafka_servers import reaching
from tests.postgres_servers import FAST_AND_LOSSY, own_warehouse

from tidegate.contracts import Contract, load
from tidegate.settings import Settings, load_settings
from tidegate.stack.kafka_server import KEEPER, KafkaServer
from tidegate.stack.postgres import PostgresServer
from tidegate.stores import kafka as store
from tidegate.stores.postgres import Connection
from tidegate.stream import write
from tidegate.stream.worker import Account, Worker

PARCELS = """\
apiVersion: v3.1.0
kind: DataContract
id: urn:test:parcel
name: Parcels
version: {version}
status: active
team:
  name: depot
servers:
  - server: belt
    type: kafka
    host: kafka
    format: json
    customProperties:
      - property: topic
        value: {topic}
      - property: eventTime
        value: seen_at
      - property: allowedLateness
        value: 1 h
      - property: maxMessageBytes
        value: 500
slaProperties:
  - property: latency
    value: 15
    unit: min
customProperties:
  - property: maxRefusedShare
    value: {share}
schema:
  - name: parcel
    physicalName: raw.parcel
    physicalType: table
    description: Parcels that were seen.
    dataGranularityDescription: One row per parcel.
    properties:
      - name: parcel_id
        logicalType: integer
        physicalType: bigint
        description: Number of the parcel.
        primaryKey: true
        primaryKeyPosition: 1
      - name: seen_on
        logicalType: date
        physicalType: date
        description: Day on which it was seen.
        primaryKey: true
        primaryKeyPosition: 2
        partitioned: true
      - name: seen_at
        logicalType: timestamp
        physicalType: timestamptz
        description: When it was seen.
        required: true
      - name: city
        logicalType: string
        physicalType: text
        description: Where it goes.
        required: true
        logicalTypeOptions:
          maxLength: 20
      - name: weight_kg
        logicalType: number
        physicalType: numeric(10,3)
        description: Weight in kilograms.
        logicalTypeOptions:
          minimum: 0
{more}"""
BEGIN = datetime(2024, 3, 31, 12, tzinfo=UTC)
#: A column that a later version of the contract has.
FRAGILE = """\
      - name: fragile
        logicalType: boolean
        physicalType: boolean
        description: Whether it may not fall.
"""
#: Columns that are called as a message's own parts are, and as what the sieve and the write make of them.
NAMESAKES = "".join(
    f"""\
      - name: {name}
        logicalType: string
        physicalType: text
        description: A word.
"""
    for name in ("key", "value", "headers", "line", "document", "texts", "place", "topic_partition", "message_offset")
)


def parcel(number: int, **changes: Any) -> dict[str, Any]:
    """What is said of one parcel, a minute after the one before; every number has one right answer."""
    seen = BEGIN + timedelta(minutes=number)
    told = {
        "parcel_id": number, "seen_on": f"{seen:%Y-%m-%d}", "seen_at": f"{seen:%Y-%m-%dT%H:%M:%SZ}",
        "city": f"City {number % 7}", "weight_kg": number / 8,
    }  # fmt: skip
    return {name: value for name, value in {**told, **changes}.items() if value is not ...}


def taken_in(settings: Settings) -> Account:
    """Take in what the topic of the parcels holds, as one worker does."""
    return Worker(settings, "parcel").drain()


@dataclass
class Depot:
    """A project with one contract, whose topic a real broker has."""

    settings: Settings
    root: Path
    topic: str
    server: KafkaServer
    sent: int = field(default=0)

    def agree(self, *, version: str = "1.0.0", share: float = 0.5, more: str = "") -> Contract:
        """Write the contract anew."""
        path = self.root / "schemas/parcel.odcs.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PARCELS.format(topic=self.topic, version=version, share=share, more=more))
        return load(self.settings, "parcel")

    @property
    def contract(self) -> Contract:
        return load(self.settings, "parcel")

    def send(self, *messages: Any, partition: int | None = None, keyed: bool = True, **options: Any) -> None:
        """Send parcels, or bytes as they are, in their order."""
        with closing(store.producer(self.settings)) as producer:
            futures = []
            for message in messages:
                value = message if isinstance(message, bytes | None) else json.dumps(message).encode()
                key = str(self.sent).encode() if keyed else None
                futures.append(producer.send(self.topic, value, key=key, partition=partition, **options))
                self.sent += 1
            producer.flush()
            for future in futures:
                future.get()

    def move(self, server: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the topic be another broker's from now on, where it is empty."""
        self.server, self.settings = server, reaching(self.settings, server, monkeypatch)
        here = store.Address.of(server.url(KEEPER))
        with store.reached(here), closing(store.admin(here)) as admin:
            wanted = {"num_partitions": 2, "replication_factor": 1}
            admin.create_topics({self.topic: wanted}, wait_for_metadata=True)

    def drain(self) -> Account:
        """Take in what the topic holds."""
        return taken_in(self.settings)

    def query(self, statement: str, parameters: Sequence[Any] | None = None) -> list[dict[str, Any]]:
        assert self.settings.warehouse_url is not None
        with psycopg.connect(self.settings.warehouse_url.get_secret_value(), row_factory=dict_row) as connection:
            cursor = connection.execute(statement, parameters)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def numbers(self) -> list[int]:
        """The parcels that readers see."""
        if not self.query("SELECT 1 FROM pg_class WHERE oid = to_regclass('raw.parcel')"):
            return []
        return [row["parcel_id"] for row in self.query("SELECT parcel_id FROM raw.parcel ORDER BY parcel_id, seen_on")]

    def refused(self) -> list[dict[str, Any]]:
        return self.query("SELECT * FROM quarantine.refused_message ORDER BY refused_message_id")

    def letters(self) -> list[Any]:
        """What the topic of dead letters holds."""
        return letters(self.settings, self.topic)


def letters(settings: Settings, topic: str) -> list[Any]:
    """What the topic of a topic's dead letters holds."""
    from kafka import TopicPartition

    dead = f"{topic}.dead"
    with closing(store.consumer(settings)) as consumer, store.reached(settings):
        parts = [TopicPartition(dead, n) for n in consumer.partitions_for_topic(dead) or ()]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends, found = consumer.end_offsets(parts), list[Any]()
        while any(consumer.position(part) < end for part, end in ends.items()):
            for records in store.poll(consumer, 0.5).values():
                found += records
        return found


@contextmanager
def working(depot: Depot) -> Iterator[Worker]:
    """A worker that stays, in a thread."""
    worker = Worker(depot.settings, "parcel")
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop.set()
        thread.join()


def in_the_middle(monkeypatch: pytest.MonkeyPatch, happen: Callable[[Connection], None]) -> None:
    """Let something happen in the transaction of the first micro-batch that comes: its rows are copied, and not committed."""
    copying, due = write._copy, [happen]

    def interrupted(connection: Connection, *what: Any) -> None:
        copying(connection, *what)
        while due:
            due.pop()(connection)

    monkeypatch.setattr(write, "_copy", interrupted)


def until(true: Callable[[], bool], seconds: float = 90) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def depot(
    shared_kafka: KafkaServer,
    settings: Settings,
    topic: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Depot:
    """The depot, open: its contract is written, its topic is empty and has two partitions."""
    monkeypatch.setenv("TIDEGATE_PROJECT", str(tmp_path / "project"))
    name = topic()
    found = Depot(reaching(load_settings(), shared_kafka, monkeypatch), tmp_path / "project", name, shared_kafka)
    found.agree()
    return found


@pytest.fixture
def doomed(depot: Depot, reachable_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    """A warehouse of the depot's own, which may die."""
    with own_warehouse(reachable_folder / "doomed-stream", monkeypatch, FAST_AND_LOSSY) as server:
        depot.settings = load_settings()
        yield server
