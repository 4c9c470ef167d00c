"""From a topic to committed rows: throughput, latency and memory of a worker, against a loop that only polls.

    .venv/bin/python -m benchmarks.stream.measure [--rounds 3]

Three months of real flight events (about 254,000 messages, four partitions) lies in a topic of the embedded broker; PostgreSQL is tuned
as `tidegate up` tunes it. They take turns on it:

- poll: kafka-python's consumer, asked until it has had every message; nothing is looked at, nothing is written.
- one worker, two workers: `tidegate stream run --until-idle`, in a process each: typed, checked, written, with their offsets. Their
  time is the ledger's, from the first poll of the first micro-batch to the last commit: imports are not counted.
- Debezium's JDBC sink, with one task and with two: it upserts the same messages by key (`debezium.py`, which says what is fair).

Then a worker stays, and 1,000 messages a second are sent for half a minute: how long each took to be visible. And memory: the peak
of a worker's process with these before it, and with ten times as many.

Written beside this file: results.json. Compare ratios only, and only within one run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.machine import describe
from benchmarks.stack import environment
from benchmarks.stream import debezium
from tidegate.contracts import load
from tidegate.observe.logs import configure
from tidegate.run import play
from tidegate.run.messages import Disturbance
from tidegate.settings import Settings, load_settings
from tidegate.stack import lifecycle, warehouse
from tidegate.stores import kafka, topics

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
TOPIC, DATASET = "flight_event", "flight_event"
QUARTER = (date(2013, 3, 1), date(2013, 5, 31))
RATE, SECONDS = 1_000, 30
_FORGET = """
TRUNCATE ops.stream_offset, ops.stream_reconciled, ops.stream_range, ops.stream_gap, ops.stream_hold, quarantine.refused_message, ops.stream_batch;
DROP TABLE IF EXISTS raw.flight_event; DELETE FROM ops.table_layout WHERE dataset = 'flight_event'
"""
_TIME = """
SELECT sum(message_count)::float8 / extract(epoch FROM max(committed_at) - min(committed_at - taking_seconds * interval '1 s')),
    sum(row_count) FROM ops.stream_batch
"""


def ask(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    """Ask as the server's superuser."""
    with psycopg.connect(warehouse.reach(settings).dsn("warehouse"), autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def with_poll(settings: Settings) -> float:
    """Return messages a second of a loop that only polls."""
    from kafka import TopicPartition

    with closing(kafka.consumer(settings)) as consumer, kafka.reached(settings):
        parts = [TopicPartition(TOPIC, number) for number in consumer.partitions_for_topic(TOPIC) or ()]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        missing, began = sum(consumer.end_offsets(parts).values()), time.perf_counter()
        wanted = missing
        while missing > 0:
            missing -= sum(map(len, kafka.poll(consumer, 1.0).values()))
        return wanted / (time.perf_counter() - began)


def with_workers(settings: Settings, home: Path, count: int) -> dict[str, float]:
    """Return messages a second of so many workers, and the largest peak of memory among them (bytes)."""
    ask(settings, _FORGET)
    program = [sys.executable, "-c", "from tidegate.cli import main; main()", "stream", "run", DATASET, "--until-idle"]
    workers = [
        psutil.Popen(program, env=environment(home, TIDEGATE_LOG_LEVEL="WARNING"), stdout=subprocess.DEVNULL)
        for _ in range(count)
    ]
    peak = 0
    while any(worker.poll() is None for worker in workers):
        for worker in workers:
            try:
                peak = max(peak, worker.memory_info().rss)
            except psutil.Error:
                continue
        time.sleep(0.05)
    assert all(worker.wait() == 0 for worker in workers)
    ((speed, rows),) = ask(settings, _TIME)
    assert rows, "nothing was taken in"
    return {"messages_per_second": float(speed), "peak_bytes": peak, "rows": int(rows)}


def latency(settings: Settings, home: Path) -> dict[str, float]:
    """Send at an even rate beside a worker, and return how long messages took to be visible, in seconds."""
    ask(settings, _FORGET)
    program = [sys.executable, "-c", "from tidegate.cli import main; main()", "stream", "run", DATASET]
    worker = psutil.Popen(program, env=environment(home, TIDEGATE_LOG_LEVEL="WARNING"), stdout=subprocess.DEVNULL)
    try:
        while not ask(settings, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"):
            time.sleep(0.1)
        messages, before = read_messages(settings, RATE * SECONDS), ends(settings)
        while taken(settings) < before:
            time.sleep(0.1)
        ask(settings, "TRUNCATE ops.stream_range, quarantine.refused_message, ops.stream_batch")
        with closing(kafka.producer(settings, linger_ms=5)) as producer:
            began = time.perf_counter()
            for number, (key, value) in enumerate(messages):
                pause = began + number / RATE - time.perf_counter()
                if pause > 0.002:
                    time.sleep(pause)
                producer.send(TOPIC, value, key=key)
            producer.flush()
        while taken(settings) < before + len(messages):
            time.sleep(0.1)
    finally:
        worker.terminate()
        worker.wait()
    ((p50, p95, p99, most),) = ask(
        settings,
        "SELECT sum(latency_p50_seconds * message_count) / sum(message_count), max(latency_p95_seconds), "
        "max(latency_p99_seconds), sum(message_count) FROM ops.stream_batch WHERE message_count > 0",
    )
    return {
        "p50_seconds": float(p50),
        "worst_p95_seconds": float(p95),
        "worst_p99_seconds": float(p99),
        "messages": int(most),
    }


def read_messages(settings: Settings, count: int) -> list[tuple[bytes, bytes]]:
    """Return messages of June, which the topic has not had: they are played to another one, and read from there."""
    from kafka import TopicPartition

    topics.create(settings, "june", partitions=1)
    play.play(settings, date(2013, 6, 2), date(2013, 6, 30), None, Disturbance(), topic="june")
    found: list[tuple[bytes, bytes]] = []
    with closing(kafka.consumer(settings)) as consumer, kafka.reached(settings):
        consumer.assign([TopicPartition("june", 0)])
        consumer.seek_to_beginning()
        while len(found) < count:
            for records in kafka.poll(consumer, 1.0).values():
                found += [(record.key, record.value) for record in records]
    return found[:count]


def ends(settings: Settings) -> int:
    """Return how many messages the topic has had."""
    return sum(lag.end for lag in topics.lag(settings, TOPIC, {}))


def taken(settings: Settings) -> int:
    """Return how many of them were taken in."""
    ((found,),) = ask(settings, "SELECT coalesce(sum(next_offset), 0)::bigint FROM ops.stream_offset")
    return int(found)


def main() -> None:
    """Measure and write results.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    machine = describe()
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-")).resolve()
    folder.chmod(0o711)
    home = folder / "home"
    settings = load_settings(project=CHECKOUT, home=home, airflow_url="http://127.0.0.1:9", log_level="WARNING")
    configure(settings)
    try:
        settings = lifecycle.up(settings, lambda _: None, more=["kafka"])
        topics.create(settings, TOPIC)
        play.play(settings, *QUARTER, None, Disturbance(), topic=TOPIC)
        polled = [with_poll(settings) for _ in range(rounds)]
        one = [with_workers(settings, home, 1) for _ in range(rounds)]
        two = [with_workers(settings, home, 2) for _ in range(rounds)]
        contract, messages = load(settings, DATASET), int(one[0]["rows"])
        sinks = {
            name: [debezium.take(settings, contract, folder, tasks, messages) for _ in range(rounds)]
            for name, tasks in (("debezium_one_task", 1), ("debezium_two_tasks", 2))
        }
        for _ in range(9):
            play.play(settings, *QUARTER, None, Disturbance(), topic=TOPIC)
        tenfold = with_workers(settings, home, 1)
        waited = latency(settings, home)
    finally:
        lifecycle.down(settings, lambda _: None)
        shutil.rmtree(folder)
    poll = statistics.median(polled)
    speeds = {
        "one_worker": statistics.median(r["messages_per_second"] for r in one),
        "two_workers": statistics.median(r["messages_per_second"] for r in two),
    }
    theirs = {name: statistics.median(r["messages_per_second"] for r in found) for name, found in sinks.items()}
    warm = {name: statistics.median(r["warm_per_second"] for r in found) for name, found in sinks.items()}
    results = {
        "machine": machine,
        "rounds": rounds,
        "messages": one[0]["rows"],
        "messages_per_second": {"poll": poll, **speeds, **theirs},
        "later_half_per_second": warm,
        "to_poll": {name: speed / poll for name, speed in speeds.items()},
        "to_debezium": {
            "one_worker_to_one_task": speeds["one_worker"] / theirs["debezium_one_task"],
            "two_workers_to_two_tasks": speeds["two_workers"] / theirs["debezium_two_tasks"],
            "one_worker_to_the_later_half": speeds["one_worker"] / warm["debezium_one_task"],
            "two_workers_to_the_later_half": speeds["two_workers"] / warm["debezium_two_tasks"],
        },
        "peak_mib": {
            **{name: max(r["peak_bytes"] for r in found) / 2**20 for name, found in sinks.items()},
            "three_months": max(r["peak_bytes"] for r in one) / 2**20, "ten_times_as_many_messages": tenfold["peak_bytes"] / 2**20,
        },
        "latency_at_1000_per_second": waited,
    }  # fmt: skip
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
