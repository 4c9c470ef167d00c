"""What people are told, and that a messenger's trouble is never the platform's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.whole import CHECKOUT, SLACK_TOKEN, Slack

from tidegate.errors import HeldError, SourceError
from tidegate.observe import alerts

#: In a process of its own, as a task runs it: with Airflow's imports and its log.
TELL = """
import asyncio, types
from dags.wiring import alert
from tidegate.errors import HeldError
task = types.SimpleNamespace(dag_id="ingest_flights", task_id="batch.publish", run_id="run_1")
alert.task_failed({"ti": task, "exception": HeldError("flights 2013-03: batch abc is held: {{ too }} late")})
run = {"dag_run": {"dag_id": "ingest_weather", "dag_run_id": "run_2"}}
asyncio.run(alert.deadline_missed(patience="2 days", context=run))
"""


def tell(home: Path, **connection: str) -> list[str]:
    """Let both callbacks tell; return what the log says."""
    environment = {**os.environ, **connection, "AIRFLOW_HOME": str(home), "PYTHONPATH": str(CHECKOUT)}
    environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{home}/none.db"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TELL], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert SLACK_TOKEN not in done.stdout + done.stderr
    return [line for line in (done.stdout + done.stderr).splitlines() if "alert=" in line]


@pytest.fixture
def slack() -> Iterator[Slack]:
    server = Slack()
    yield server
    server.close()


def test_slack_is_told_through_airflows_connection(slack: Slack, tmp_path: Path) -> None:
    assert tell(tmp_path, AIRFLOW_CONN_SLACK_DEFAULT=slack.connection) == []
    assert slack.paths == [f"/services/{SLACK_TOKEN}"] * 2
    # A brace in a delivered value is no template.
    assert slack.told[0] == "HELD: ingest_flights, run run_1. flights 2013-03: batch abc is held: {{ too }} late"
    assert slack.told[1].startswith("LATE: ingest_weather, run run_2, has not published within 2 days.")


def test_without_a_connection_the_message_stands_in_the_log(tmp_path: Path) -> None:
    held, late = tell(tmp_path)
    assert "[warning" in held
    assert "no Slack connection, told here only" in held
    assert "batch abc is held" in held
    assert "LATE: ingest_weather" in late


def test_a_slack_that_does_not_answer_breaks_nothing(slack: Slack, tmp_path: Path) -> None:
    slack.close()
    held, late = tell(tmp_path, AIRFLOW_CONN_SLACK_DEFAULT=slack.connection)
    assert "Slack could not be told" in held
    assert "batch abc is held" in held
    assert "LATE: ingest_weather" in late


def test_a_held_batch_is_told_in_the_gates_own_words() -> None:
    told = alerts.failure("ingest_flights", "batch.publish", "run_1", HeldError("batch abc is held: 3 of 6 rows"))
    assert told == "HELD: ingest_flights, run run_1. batch abc is held: 3 of 6 rows"


def test_a_failure_names_task_error_and_next_step() -> None:
    told = alerts.failure("ingest_flights", "land", "run_1", SourceError("a.csv:7: unbalanced quote"))
    assert told.startswith("FAILED: ingest_flights, task land, run run_1. SourceError: a.csv:7: unbalanced quote.")
    assert "clear it" in told


def test_a_task_that_was_killed_is_told_though_there_is_no_error() -> None:
    assert "ended from outside" in alerts.failure("ingest_flights", "land", "run_1", None)


def test_a_delivered_value_addresses_nobody_and_is_no_link() -> None:
    told = alerts.failure("d", "t", "r", SourceError("<!channel> <https://evil.example|click> & more"))
    assert "<" not in told
    assert "&lt;!channel&gt;" in told
    assert "&amp; more" in told


def test_a_message_is_short_enough_for_slack_and_says_that_it_was_cut() -> None:
    told = alerts.failure("d", "t", "r", SourceError("x" * 10_000))
    assert len(told) == 3000
    assert told.endswith("…")
