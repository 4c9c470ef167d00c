"""A day of real events through the whole stack: a stream that Airflow starts by itself, takes in, judges and tells of."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, timedelta
from typing import Any

import duckdb
import psutil
import pytest
from tests.run.flights import load_days
from tests.whole import Whole, eventually

from tidegate.run import events
from tidegate.stack.memory import Memory

#: The broker's jars may have to be fetched, and the trigger looks every few seconds.
pytestmark = pytest.mark.timeout(900)
DAY = date(2013, 5, 17)


def right_answer(first: date = DAY, last: date = DAY) -> list[tuple[Any, ...]]:
    with duckdb.connect() as engine:
        load_days(engine, first, last)
        return list(engine.sql(events.query(first, last, "flights", "airports")).fetchall())


def runs(whole: Whole) -> list[dict[str, Any]]:
    return list(whole.api("GET", "dags/stream_flight_event/dagRuns")["dag_runs"])


def test_messages_that_wait_start_the_streams_dag_which_publishes_and_tells_of_them(whole: Whole) -> None:
    up = whole.call("up", "--with", "kafka")
    assert up.returncode == 0, up.stdout + up.stderr
    eventually(lambda: any(d["dag_id"] == "stream_flight_event" for d in whole.api("GET", "dags?limit=100")["dags"]))
    whole.api("PATCH", "dags/stream_flight_event", {"is_paused": False})
    day = f"{DAY:%Y-%m-%d}"
    played = whole.call("replay", "flights", "--from", day, "--to", day, "--speed", "max", "--poison", "0.01")
    assert played.returncode == 0, played.stdout + played.stderr
    right = right_answer()
    names = "time_hour, carrier, flight, event_type, event_at, origin, dest, tailnum, scheduled_at, delay_minutes"

    def published() -> bool:
        there = whole.rows("SELECT to_regclass('raw.flight_event') IS NOT NULL AS made")[0]["made"]
        return there and whole.rows("SELECT count(*) AS n FROM raw.flight_event")[0]["n"] == len(right)

    eventually(published, 300)
    found = whole.rows(f"SELECT {names} FROM raw.flight_event")
    assert {tuple(row.values()) for row in found} == set(right)
    eventually(lambda: any(run["state"] == "success" for run in runs(whole)), 300)
    assert {run["state"] for run in runs(whole)} <= {"success", "running", "queued"}
    assert {run["run_type"] for run in runs(whole)} == {"asset_triggered"}
    told = whole.api("GET", "assets/events?source_dag_id=stream_flight_event")["asset_events"]
    assert sum(event["extra"]["rows"] for event in told) == len(right)
    assert {event["partition_key"] for event in told} == {"2013-05"}
    assert whole.rows("SELECT DISTINCT verdict FROM ops.verdict WHERE dataset = 'flight_event'") == [
        {"verdict": "PASS"}
    ]
    whole.api("PATCH", "dags/stream_flight_event", {"is_paused": True})


def test_a_scheduler_killed_in_the_middle_of_a_run_costs_no_message_and_no_news(whole: Whole) -> None:
    whole.api("PATCH", "dags/stream_flight_event", {"is_paused": False})
    before, next_day = len(runs(whole)), DAY + timedelta(days=1)
    day = f"{next_day:%Y-%m-%d}"
    assert whole.call("replay", "flights", "--from", day, "--to", day, "--speed", "max").returncode == 0
    eventually(lambda: len(runs(whole)) > before)
    scheduler = Memory.load(whole.home).processes["airflow-scheduler"]
    for member in scheduler.session():
        with suppress(psutil.NoSuchProcess):
            member.kill()
    assert whole.call("up").returncode == 0
    right = set(right_answer(DAY, next_day))
    names = "time_hour, carrier, flight, event_type, event_at, origin, dest, tailnum, scheduled_at, delay_minutes"
    eventually(lambda: whole.rows("SELECT count(*) AS n FROM raw.flight_event")[0]["n"] == len(right), 300)
    assert {tuple(row.values()) for row in whole.rows(f"SELECT {names} FROM raw.flight_event")} == right

    def told() -> bool:
        heard = whole.api("GET", "assets/events?source_dag_id=stream_flight_event")["asset_events"]
        return sum(event["extra"]["rows"] for event in heard) == len(right)

    eventually(told, 300)
    whole.api("PATCH", "dags/stream_flight_event", {"is_paused": True})


def test_the_status_tells_of_the_stream(whole: Whole) -> None:
    told = whole.call("stream", "status")
    assert told.returncode == 0, told.stderr
    streams = {line.split("\t")[0]: line.split("\t")[1:4] for line in told.stdout.splitlines()}
    assert streams["flight_event"] == ["flows", "0", "0"]
    assert whole.call("up", "--without", "kafka").returncode == 0
