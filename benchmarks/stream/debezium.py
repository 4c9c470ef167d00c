"""Debezium's JDBC sink on Kafka Connect, beside which a worker is measured: the same topic, upserted by key into a table of its own.

What is fair about it: it reads the very messages that a worker reads. They carry no schema, which a sink needs, so its JSON
converter is told the contract's columns once (`schema.content`) and the messages stay small. Its batches are larger than its
defaults, and its driver sends several rows in a statement. Its processes, like a worker's, have been started before the clock
runs: it runs from the first row that is written to the last, by the clock of PostgreSQL, which leaves out its first poll. And it
is told a second time of the later half alone, when Java has compiled what it repeats.

What it does not do: check a rule, keep what it refuses, write its offsets in the transaction of the rows.
"""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tidegate.contracts import Contract
from tidegate.settings import Settings
from tidegate.stack import jars, port, warehouse
from tidegate.stack.jars import Jars
from tidegate.stack.port import LOOPBACK
from tidegate.stores import kafka

JARS = Jars("Debezium's JDBC sink", Path(__file__).with_name("debezium.pom.xml"), "debezium-connector-jdbc", "62 MB")
TABLE = "debezium.flight_event"
_BATCH, _PATIENCE = 5_000, 600.0
#: PostgreSQL's type → how Kafka Connect says it.
_TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "integer": {"type": "int32"},
    "bigint": {"type": "int64"},
    "timestamptz": {"type": "string", "name": "io.debezium.time.ZonedTimestamp", "version": 1},
}
_SPEED = f"""
WITH halves AS (SELECT ntile(2) OVER (ORDER BY written_at) AS half, written_at FROM {TABLE})
SELECT count(*)::int, count(*) / extract(epoch FROM max(written_at) - min(written_at)),
    count(*) FILTER (WHERE half = 2)
        / extract(epoch FROM max(written_at) FILTER (WHERE half = 2) - min(written_at) FILTER (WHERE half = 2))
FROM halves
"""


def take(settings: Settings, contract: Contract, folder: Path, tasks: int, messages: int) -> dict[str, float]:
    """Have so many tasks take the whole topic, which holds `messages` of different keys; `folder` keeps the jars and its files.

    Returns messages a second, over all and over the later half, and the peak of its process's memory (bytes).
    """
    libraries = JARS.provide(folder / "debezium-jars")
    place = folder / f"debezium-{uuid.uuid4().hex[:8]}"
    place.mkdir(mode=0o700)
    with psycopg.connect(warehouse.reach(settings).dsn("warehouse"), autocommit=True) as connection:
        _make_table(connection, contract)
        _write(place / "worker.properties", _worker(settings, place))
        _write(place / "sink.properties", _sink(settings, contract, tasks))
        words = [
            *(jars.java(), "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{libraries}/*"),
            *("org.apache.kafka.connect.cli.ConnectStandalone", "worker.properties", "sink.properties"),
        ]
        with (place / "log").open("wb") as log:
            process = psutil.Popen(words, cwd=place, stdout=log, stderr=log)
        try:
            peak = _wait(connection, process, messages, place / "log")
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
                process.kill()
                process.wait()
        row = connection.execute(_SPEED).fetchone()
    assert row is not None
    return {"rows": row[0], "messages_per_second": float(row[1]), "warm_per_second": float(row[2]), "peak_bytes": peak}


def _wait(connection: psycopg.Connection[Any], process: psutil.Popen, messages: int, log: Path) -> int:
    """Wait until the table has as many rows; return the peak of the process's memory, in bytes."""
    peak, deadline, found = 0, time.monotonic() + _PATIENCE, 0
    while found < messages:
        time.sleep(0.5)
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"{found} of {messages} rows came; {log.read_text(errors='replace')[-3000:]}")
        peak = max(peak, process.memory_info().rss)
        (found,) = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone() or (0,)
    return peak


def _make_table(connection: psycopg.Connection[Any], contract: Contract) -> None:
    schema = TABLE.partition(".")[0]
    columns = ", ".join(f"{column.name} {column.postgres_type}" for column in contract.columns)
    connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    connection.execute(
        f"CREATE TABLE {TABLE} ({columns}, written_at timestamptz DEFAULT clock_timestamp(), "
        f"PRIMARY KEY ({', '.join(contract.key)}))"
    )


def _worker(settings: Settings, place: Path) -> dict[str, str]:
    """Return the configuration of Kafka Connect: one process, which answers on loopback alone."""
    here = kafka.address(settings)
    login = {
        "bootstrap.servers": ",".join(f"{host}:{number}" for host, number in here.hosts),
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": here.mechanism,
        "sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required "
            f'username="{here.username}" password="{here.password}";'
        ),
    }
    return {
        **login,
        **{f"consumer.{name}": value for name, value in login.items()},
        "listeners": f"http://{LOOPBACK}:{port.choose(27000, place, set())}",
        "offset.storage.file.filename": str(place / "offsets"),
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "plugin.discovery": "only_scan",
    }


def _sink(settings: Settings, contract: Contract, tasks: int) -> dict[str, str]:
    assert contract.topic is not None
    server = warehouse.reach(settings)
    schema = {
        "type": "struct",
        "fields": [
            {"field": column.name, "optional": not column.required, **_TYPES[column.postgres_type]}
            for column in contract.columns
        ],
    }
    return {
        "name": "sink",
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": str(tasks),
        "topics": contract.topic.name,
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "true",
        "value.converter.schema.content": json.dumps(schema),
        "connection.url": f"jdbc:postgresql://{LOOPBACK}:{server.port}/warehouse?reWriteBatchedInserts=true",
        "connection.username": "postgres",
        "connection.password": server.password,
        "collection.name.format": TABLE,
        "insert.mode": "upsert",
        "primary.key.mode": "record_value",
        "primary.key.fields": ",".join(contract.key),
        "schema.evolution": "none",
        "batch.size": str(_BATCH),
        # Nobody has read under this name before: it begins with the first message.
        "consumer.override.group.id": f"{kafka.GROUPS}.{uuid.uuid4().hex}",
        "consumer.override.auto.offset.reset": "earliest",
        "consumer.override.max.poll.records": str(_BATCH),
    }


def _write(file: Path, options: dict[str, str]) -> None:
    """Write Java properties that only their owner may read: passwords are among them."""
    file.touch(mode=0o600)
    escaped = {name: value.replace("\\", "\\\\") for name, value in options.items()}
    file.write_text("".join(f"{name}={value}\n" for name, value in escaped.items()))
