"""What the ledger tells of pipelines, counted on ledgers in which something is wrong."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tidegate.evidence import pipelines
from tidegate.evidence.probe import CannotRunError, Ground
from tidegate.gates import ledger
from tidegate.gates.ledger import Batch, State
from tidegate.gates.verdict import Decision, Verdict
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect


def batch(connection: Connection, number: int, state: State, hours_ago: float = 0) -> str:
    name = f"{number:016d}"
    ledger.record_batch(
        connection,
        Batch(name, "flights", f"2013-{number:02d}", "landed", "1.0.0", "inbox", "", "", 100, 100, 0, "raw"),
    )
    connection.execute(
        "UPDATE ops.batch SET state = %s, created_at = now() - make_interval(secs => %s) WHERE batch_id = %s",
        [state, 3600 * hours_ago, name],
    )
    return name


def judged(connection: Connection, subject: str, verdict: Decision, gate: str = "expectations.contract") -> None:
    rule = Verdict(gate, "distance >= 1", verdict, "3 rows", "no row", "schemas/flights.odcs.yaml:9", "1.0.0")
    ledger.record_verdicts(connection, subject, "flights", "2013-01", [rule])


def test_a_batch_that_failed_or_was_never_judged_is_counted(settings: Settings) -> None:
    with pytest.raises(CannotRunError, match="the ledger knows of no batch yet"):
        list(pipelines.expectations(Ground(settings)))
    with connect(settings) as connection:
        names = [batch(connection, number, "published") for number in range(1, 5)]
        batch(connection, 9, "held")
        judged(connection, names[0], "FAIL")
        judged(connection, names[0], "PASS")
        judged(connection, names[1], "FAIL")
        judged(connection, names[2], "FAIL")
        ledger.record_decision(connection, names[2], "release", "Ada", "the source says so")
        judged(connection, names[3], "PASS", "freshness")
    (found,) = pipelines.expectations(Ground(settings))
    assert found.figures == {
        "batches": 4, "rules": 3, "failed": 2, "unjudged": 1, "released": 1, "not_passed": 3,
        "rules_lost": 0,
    }  # fmt: skip
    assert found.exit_status == 1
    assert f"UNJUDGED flights 2013-04 ({names[3]})" in found.text
    assert "released by Ada: the source says so" in found.text


def test_the_time_from_landing_to_readers_is_told_and_what_came_later_is_not(settings: Settings) -> None:
    with pytest.raises(CannotRunError, match="no batch has been published"):
        list(pipelines.sla(Ground(settings)))
    with connect(settings) as connection:
        for number, waited in ((1, 0), (2, 4000)):
            name = batch(connection, number, "published")
            for step, at, seconds in (("land", 0, 2.0), ("publish", 2 + waited, 0.5), ("archive", 90000, 9.0)):
                started = datetime.fromtimestamp(1_700_000_000 + at, UTC)
                ledger.record_step(connection, name, step, started, seconds)
        batch(connection, 3, "staged")
    (found,) = pipelines.sla(Ground(settings))
    assert (found.figures["batches"], found.figures["longest_seconds"], found.figures["rows"]) == (2, 4002.5, 200)
    assert found.figures["rows_per_second"] == 40
    assert found.text.splitlines()[1].startswith("    2.500 s,     2.500 s of them in steps: flights 2013-01, 100 rows")


def test_a_delivery_that_was_left_behind_lowers_what_is_proven(settings: Settings) -> None:
    with pytest.raises(CannotRunError, match="the ledger knows of no batch yet"):
        list(pipelines.success(Ground(settings)))
    with connect(settings) as connection:
        for number in range(1, 9):
            batch(connection, number, "published", 30)
        batch(connection, 10, "held", 30)
        batch(connection, 11, "staged")
    (well,) = pipelines.success(Ground(settings))
    assert (well.figures["deliveries"], well.figures["left_behind"], well.exit_status) == (9, 0, 0)
    assert well.figures["proven_share"] == pytest.approx(0.05 ** (1 / 9), abs=1e-5)
    with connect(settings) as connection:
        batch(connection, 12, "judged", 30)
    (found,) = pipelines.success(Ground(settings))
    assert (found.figures["deliveries"], found.figures["left_behind"], found.exit_status) == (10, 1, 1)
    assert (found.figures["share"], found.figures["proven_share"]) == (0.9, pytest.approx(0.60584, abs=1e-4))
    assert "judged since" in found.text


@pytest.mark.parametrize(
    ("tries", "failures", "proven"), [(1, 0, 0.05), (597, 0, 0.99499), (598, 0, 0.99500), (20, 20, 0.0), (2000, 3, 0.99613)]
)  # fmt: skip
def test_what_a_number_of_tries_proves(tries: int, failures: int, proven: float) -> None:
    assert pipelines.proven_share(tries, failures) == pytest.approx(proven, abs=1e-5)
