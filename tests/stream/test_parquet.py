"""A topic that Spark takes into Parquet: the rows of the warehouse, each message once, nothing refused that vanishes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import duckdb
import psutil
import pytest
from tests.contracts.command import run
from tests.kafka_servers import PASSWORD
from tests.stream.parcels import Depot, parcel, until
from tests.stream.test_killed_stream import removed

from tidegate.errors import SourceError, UsageError
from tidegate.run import play
from tidegate.run.messages import Disturbance
from tidegate.settings import Settings
from tidegate.stack.kafka_server import KEEPER, KafkaServer
from tidegate.stores import kafka as store
from tidegate.stores.postgres import connect
from tidegate.stream import parquet
from tidegate.stream.spark_source import Subscription, TopicReader, source_of
from tidegate.stream.worker import Worker, stream_of

DAY = date(2013, 1, 30)
POOR = Disturbance(seed=5, disorder=0.2, duplicates=0.02, late=0.02, poison=0.01)
#: Takes parcels in by small micro-batches, so that there is a middle to be killed in.
SLOWLY = """
import sys, threading
from tidegate.contracts import load
from tidegate.settings import get_settings
from tidegate.stream import parquet

settings = get_settings()
print(parquet.take(settings, load(settings, "parcel"), sys.argv[1], until_idle=True, stop=threading.Event(), most=100))
"""


@pytest.fixture(autouse=True)
def _one_small_jvm(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives for one run, which never earns back what its optimising compiler costs."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx768m")
    monkeypatch.setenv("TIDEGATE_SPARK_MASTER", "local[2]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # a space and an accent, as in the folders of real people
    return tmp_path / "parquet of été"


def take(settings: Settings, dataset: str, folder: Path) -> parquet.Taken:
    own = settings.model_copy(update={"spark_master": "local[2]"})
    return parquet.take(own, stream_of(settings, dataset), folder, until_idle=True, stop=threading.Event())


def counted(folder: Path) -> list[str]:
    """The files of a folder that count: those that Spark's own log of it names."""
    entries: list[dict[str, Any]] = []
    for page in sorted((folder / "_spark_metadata").iterdir()):
        if not page.name.startswith("."):
            entries += [json.loads(line) for line in page.read_text().splitlines()[1:]]
    return sorted({unquote(urlsplit(entry["path"]).path) for entry in entries})


def rows(folder: Path, columns: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        return engine.execute(
            f"SELECT {columns} FROM read_parquet($files, hive_partitioning = true)", {"files": counted(folder)}
        ).fetchall()


def places(folder: Path) -> list[tuple[int, int]]:
    """Where each message that is in the folder stood in its topic, rows and refused ones alike."""
    refused = folder / parquet.REFUSED
    return sorted(rows(folder, "_topic_partition, _message_offset") + rows(refused, "topic_partition, message_offset"))


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def make_again(server: KafkaServer, topic: str) -> None:
    """Delete a topic and make an empty one of that name."""
    here = store.Address.of(server.url(KEEPER))
    with store.reached(here), store.admin(here) as admin:
        admin.delete_topics([topic])
        wanted = {"num_partitions": 2, "replication_factor": 1}
        until(lambda: topic not in admin.list_topics())
        admin.create_topics({topic: wanted}, wait_for_metadata=True)


@pytest.mark.timeout(600)
def test_its_rows_and_refusals_are_those_of_a_worker(
    airline: Settings, folder: Path, shared_kafka: KafkaServer
) -> None:
    contract = stream_of(airline, "flight_event")
    assert contract.topic is not None
    play.play(airline, DAY, DAY, None, POOR, topic=contract.topic.name)
    account = Worker(airline, "flight_event").drain()
    taken = take(airline, "flight_event", folder)
    # Of the messages of one key a worker lets one through; a log of them has them all.
    assert (taken.rows, taken.refused) == (account.rows + account.known, account.refused)
    assert account.known > 0
    assert account.refused > 0
    names = ", ".join(column.name for column in contract.columns)
    with connect(airline) as connection:
        for theirs, ours, of in (
            (f"{names}, _partition", f"SELECT {names}, _partition FROM raw.flight_event", folder),
            (
                (refused := "topic, topic_partition, message_offset, message_key, message_value, column_name, value, rule, expected, contract_version"),
                f"SELECT {refused} FROM quarantine.refused_message",
                folder / parquet.REFUSED,
            ),
        ):  # fmt: skip
            right = [tuple(row.values()) for row in connection.execute(ours).fetchall()]  # type: ignore[call-overload]
            assert set(rows(of, theirs)) == set(right)
    assert len(set(places(folder))) == len(places(folder)) == account.messages
    password = PASSWORD.encode()
    assert [path for where in (folder, airline.home) for path in files(where) if password in path.read_bytes()] == []
    # An error of ours comes through Spark as what it is.
    make_again(shared_kafka, contract.topic.name)
    with pytest.raises(SourceError, match=f"{contract.topic.name} was deleted and made again"):
        take(airline, "flight_event", folder)


@pytest.mark.timeout(600)
def command(process: psutil.Process) -> list[str]:
    """What a process was started with; nothing of one that has ended since it was listed, as Spark's come and go."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_a_run_that_was_killed_leaves_nothing_out_and_nothing_twice(depot: Depot, folder: Path) -> None:
    depot.send(*(b"?" if number % 50 == 7 else parcel(number) for number in range(2000)))
    killed = subprocess.Popen([sys.executable, "-c", SLOWLY, folder], stdout=subprocess.DEVNULL)
    started = [psutil.Process(killed.pid)]
    try:
        until(lambda: (folder / "_spark_metadata" / "2").exists() or killed.poll() is not None, seconds=300)
        started += started[0].children(recursive=True)
        told = [words for process in started for words in command(process)]
        assert any("java" in words for words in told)
        assert not [words for words in told if PASSWORD in words]
    finally:
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        killed.wait()
        psutil.wait_procs(started, timeout=30)
    before = len(places(folder))
    assert 0 < before < 2000
    said = run("stream", "spark", depot.topic, "--to", str(folder), "--until-idle")
    assert said.exit_code == 0, said.output
    assert "refused messages beside them" in said.output
    found = places(folder)
    assert len(found) == len(set(found)) == 2000
    assert sorted(number for (number,) in rows(folder, "parcel_id")) == [n for n in range(2000) if n % 50 != 7]
    assert {value for (value,) in rows(folder / parquet.REFUSED, "message_value")} == {b"?"}


@pytest.fixture
def reader(depot: Depot) -> Iterator[TopicReader]:
    """What Spark asks, to be asked without it; a micro-batch has eight messages."""
    of = Subscription(store.address(depot.settings), depot.contract, "256MB", most=8)
    found = TopicReader(of, source_of(of)({}).schema())
    yield found
    found.stop()


def test_a_micro_batch_has_its_share_of_each_partition_and_ends_where_the_run_does(
    depot: Depot, reader: TopicReader
) -> None:
    depot.send(*(parcel(number) for number in range(6)), partition=0)
    depot.send(parcel(6), partition=1)
    reader.prepareForTriggerAvailableNow()
    depot.send(parcel(7), partition=1)
    start = reader.initialOffset()
    end = reader.latestOffset(start, reader.getDefaultReadLimit())
    assert [end[number] - start[number] for number in ("0", "1")] == [4, 1]
    tasks = reader.partitions(start, end)
    assert [task.value for task in tasks] == [(0, 0, 4), (1, 0, 1)]
    found = [row for task in tasks for batch in reader.read(task) for row in batch.to_pylist()]
    assert [row["row"]["parcel_id"] for row in found] == [0, 1, 2, 3, 6]
    after = reader.latestOffset(end, reader.getDefaultReadLimit())
    assert [task.value for task in reader.partitions(end, after)] == [(0, 4, 6)]
    assert reader.partitions(after, reader.latestOffset(after, reader.getDefaultReadLimit())) == []


def test_a_topic_that_was_made_again_is_not_taken_for_the_old_one(depot: Depot, reader: TopicReader) -> None:
    start = reader.initialOffset()
    make_again(depot.server, depot.topic)
    depot.send(*(parcel(number) for number in range(30)))
    with pytest.raises(SourceError, match=f"{depot.topic} was deleted and made again .* into another folder"):
        reader.latestOffset(start, reader.getDefaultReadLimit())


def test_messages_that_were_removed_unread_are_told(depot: Depot, reader: TopicReader) -> None:
    from kafka import TopicPartition

    depot.send(*(parcel(number) for number in range(6)), partition=0)
    start = reader.initialOffset()
    removed(depot, {TopicPartition(depot.topic, 0): 4})
    end = reader.latestOffset(start, reader.getDefaultReadLimit())
    with pytest.raises(SourceError, match=f"partition 0 of {depot.topic} has nothing at offset 0 any more"):
        list(reader.read(reader.partitions(start, end)[0]))
    with pytest.raises(SourceError, match=r"ends at offset 6, and 9 was read: its broker has lost messages"):
        reader.latestOffset({**start, "0": 9}, reader.getDefaultReadLimit())


def test_what_cannot_begin_is_said_before_spark_is_started(depot: Depot, folder: Path) -> None:
    contract = depot.contract
    depot.topic = "nowhere"
    depot.agree()
    with pytest.raises(SourceError, match="there is no topic nowhere"):
        take(depot.settings, "parcel", folder)
    with pytest.raises(UsageError, match="no Kafka is configured"):
        take(depot.settings.model_copy(update={"kafka_url": None}), "parcel", folder)
    assert contract.topic is not None
    assert not folder.exists()
