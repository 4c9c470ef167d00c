"""What a stream makes of real events, however they were disturbed, is what the batch pipeline makes of the files."""

from __future__ import annotations

from datetime import date

import pytest

from tidegate.run import demo, events, play
from tidegate.run.messages import Disturbance
from tidegate.settings import Settings
from tidegate.stores.postgres import connect
from tidegate.stream.reconcile import reconcile
from tidegate.stream.worker import Worker, stream_of
from tidegate.wave import ingest

POOR = Disturbance(seed=5, disorder=0.2, duplicates=0.02, late=0.02, poison=0.01)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(date(2013, 1, 30), date(2013, 1, 31), id="two days"),
        pytest.param(date(2013, 1, 1), date(2013, 3, 31), id="three months", marks=pytest.mark.soak),
    ],
)
def test_the_streams_rows_are_those_of_the_batch_pipeline(airline: Settings, first: date, last: date) -> None:
    for month in range(first.month + 1, last.month + 1):
        demo.deliver(airline, [f"2013-{month:02d}"])
        ingest(airline, "flights", f"2013-{month:02d}", None)
    contract = stream_of(airline, "flight_event")
    assert contract.topic is not None
    played = play.play(airline, first, last, None, POOR, topic=contract.topic.name)
    account = Worker(airline, "flight_event").drain()
    assert (account.rows, account.known, account.refused) == (
        played.events, played.duplicates, sum(played.poison.values()),
    )  # fmt: skip
    right = events.query(first, last, "raw.flights", "raw.airports")
    names = ", ".join(column.name for column in contract.columns)
    told = f"SELECT {names} FROM raw.flight_event"
    with connect(airline) as connection:
        for missing in (f"({right}) EXCEPT ALL {told}", f"{told} EXCEPT ALL ({right})"):
            assert connection.execute(f"SELECT count(*) AS n FROM ({missing}) AS m").fetchone() == {"n": 0}
        by_rule = connection.execute(
            "SELECT rule, count(*) AS n FROM quarantine.refused_message GROUP BY rule ORDER BY rule"
        ).fetchall()
    refused = {row["rule"]: row["n"] for row in by_rule}
    poison = played.poison
    assert refused == {
        "structure": poison["not_json"], "encoding": poison["not_utf8"], "type": poison["wrong_type"],
        "required": poison["missing_required"], "accepted": poison["unknown_value"], "too large": poison["too_large"],
        "null key": poison["null_key"],
    }  # fmt: skip
    done = reconcile(airline, contract)
    assert done.rows == played.events


def test_a_second_replay_adds_nothing(airline: Settings) -> None:
    contract = stream_of(airline, "flight_event")
    assert contract.topic is not None
    day = date(2013, 1, 5)
    for _ in range(2):
        played = play.play(airline, day, day, None, Disturbance(), topic=contract.topic.name)
        account = Worker(airline, "flight_event").drain()
    assert (account.rows, account.known) == (0, played.events)
