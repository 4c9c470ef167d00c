"""What is disturbed follows from the seed, and whatever is disturbed, the right answer stays."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.run.flights import CONTRACT, load_days

from tidegate.run import events, messages
from tidegate.run.messages import DUPLICATE, LATE, POISONS, REAL, Disturbance, disturbed

MINUTE = 60_000
shares = st.sampled_from([0.0, 0.02, 0.3, 1.0])
disturbances = st.builds(
    Disturbance,
    seed=st.integers(0, 2**32),
    disorder=shares,
    window=st.integers(1, 40),
    duplicates=shares,
    late=shares,
    lateness_minutes=st.integers(1, 300),
    poison=shares,
    limit_bytes=st.just(300),
)
#: Minutes from one event to the next.
steps = st.lists(st.sampled_from([0, 0, 1, 7, 90]), min_size=1, max_size=120)


def record(steps: list[int]) -> pa.Table:
    """Messages as `query` gives them: one an event, told apart by their flight numbers."""
    at, rows = 0, []
    for number, step in enumerate(steps, 1):
        at += step * MINUTE
        value = {"flight": number, "event_type": "departed", "event_at": "2013-01-01T10:00:00Z"}
        rows.append({"key": b"N%d" % (number % 7), "value": json.dumps(value).encode(), "event_ms": at})
    return pa.Table.from_pylist(rows, pa.schema({"key": pa.binary(), "value": pa.binary(), "event_ms": pa.int64()}))


def sent(disturbance: Disturbance, batches: list[pa.Table]) -> list[dict[str, Any]]:
    return [row for batch in disturbed(batches, disturbance) for row in batch.to_pylist()]


def pieces(table: pa.Table, size: int) -> list[pa.Table]:
    return [table[start : start + size] for start in range(0, table.num_rows, size)]


@settings(deadline=None)
@given(steps, disturbances, st.integers(1, 130))
def test_the_same_seed_is_the_same_messages_whatever_pieces_they_come_in(
    steps: list[int], disturbance: Disturbance, size: int
) -> None:
    table = record(steps)
    assert sent(disturbance, [table]) == sent(disturbance, pieces(table, size))


@settings(deadline=None)
@given(steps, disturbances)
def test_every_event_is_sent_and_poison_is_sent_besides(steps: list[int], disturbance: Disturbance) -> None:
    table = record(steps)
    rows = sent(disturbance, pieces(table, 50))
    original = Counter((row["key"], row["value"], row["event_ms"]) for row in table.to_pylist())
    told = [row for row in rows if row["made"] in (REAL, LATE)]
    assert Counter((row["key"], row["value"], row["event_ms"]) for row in told) == original
    again = Counter((r["key"], r["value"], r["event_ms"]) for r in rows if r["made"] == DUPLICATE)
    assert again <= original
    # Whoever refuses what is wrong, and takes what comes twice once, ends with the right answer.
    taken = {row["value"] for row in rows if not is_wrong(row, disturbance.limit_bytes)}
    assert taken == {row["value"] for row in table.to_pylist()}
    assert {row["made"] for row in rows if is_wrong(row, disturbance.limit_bytes)} <= POISONS.keys()
    assert all(is_wrong(row, disturbance.limit_bytes) for row in rows if row["made"] in POISONS)


def is_wrong(row: dict[str, Any], limit: int) -> bool:
    if row["key"] is None or len(row["value"]) > limit:
        return True
    try:
        value = json.loads(row["value"].decode())
    except ValueError:
        return True
    known = value["event_type"] in events.TYPES
    return not (known and isinstance(value["flight"], int) and value.get("event_at"))


@settings(deadline=None)
@given(steps, disturbances)
def test_a_message_is_sent_less_than_a_window_from_its_place(steps: list[int], disturbance: Disturbance) -> None:
    disorderly = Disturbance(disturbance.seed, disorder=disturbance.disorder, window=disturbance.window)
    numbers = [json.loads(row["value"])["flight"] for row in sent(disorderly, pieces(record(steps), 30))]
    assert sorted(numbers) == list(range(1, len(steps) + 1))
    assert all(abs(number - place) < disturbance.window for place, number in enumerate(numbers, 1))
    if not disturbance.disorder:
        assert numbers == sorted(numbers)


@settings(deadline=None)
@given(steps, disturbances)
def test_times_of_sending_never_decrease_and_lateness_has_its_limit(steps: list[int], disturbance: Disturbance) -> None:
    in_order = Disturbance(
        disturbance.seed,
        late=disturbance.late,
        lateness_minutes=disturbance.lateness_minutes,
        window=disturbance.window,
    )
    rows = sent(in_order, pieces(record(steps), 30))
    times = [row["send_ms"] for row in rows]
    assert times == sorted(times)
    waits = {made: [row["send_ms"] - row["event_ms"] for row in rows if row["made"] == made] for made in (REAL, LATE)}
    assert set(waits[REAL]) <= {0}
    assert all(0 <= wait < disturbance.lateness_minutes * MINUTE for wait in waits[LATE])


@pytest.mark.parametrize(
    ("disturbance", "made"),
    [
        (Disturbance(7, duplicates=0.1), {DUPLICATE}),
        (Disturbance(7, late=0.1), {LATE}),
        (Disturbance(7, poison=0.1), POISONS.keys()),
    ],
)
def test_a_share_of_the_messages_is_disturbed(disturbance: Disturbance, made: set[str]) -> None:
    found = Counter(row["made"] for row in sent(disturbance, pieces(record([1] * 5000), 1000)))
    assert set(found) == {REAL, *made}
    assert 400 < sum(found[one] for one in made) < 600


def test_an_undisturbed_record_is_sent_as_it_is() -> None:
    table = record([1, 0, 5] * 100)
    assert [row["value"] for row in sent(Disturbance(), [table])] == table["value"].to_pylist()
    assert sent(Disturbance(), []) == []
    assert sent(Disturbance(), [table[:0]]) == []


def test_messages_say_what_the_contract_promises_and_are_keyed_by_aircraft() -> None:
    with duckdb.connect() as engine:
        load_days(engine, date(2013, 2, 8), date(2013, 2, 9))
        asked = events.query(date(2013, 2, 8), date(2013, 2, 9), "flights", "airports")
        rows = engine.sql(asked).fetchall()
        found = engine.sql(messages.query(CONTRACT, asked)).to_arrow_table().to_pylist()
    assert len(found) == len(rows) > 1500
    for row, message in zip(rows, found, strict=True):
        value = json.loads(message["value"])
        assert list(value) == [column.name for column in CONTRACT.columns]
        expected = dict(zip(value, row, strict=True))
        assert value == {name: stamp(one) for name, one in expected.items()}
        assert message["key"].decode() == (value["tailnum"] or f"{value['carrier']}{value['flight']}")
        assert message["event_ms"] == expected["event_at"].timestamp() * 1000
    assert any(json.loads(message["value"])["tailnum"] is None for message in found)


def stamp(value: Any) -> Any:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if hasattr(value, "strftime") else value
