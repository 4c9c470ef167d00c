"""aircraft_leg: small cases spelled out, and the whole year against a second derivation of the definition."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.transforms.demo_year import Landing

from tidegate.settings import Settings, load_settings
from tidegate.transforms import Output, run

MIDNIGHT = datetime(2013, 3, 1, tzinfo=UTC)

# The transform asks how much time the aircraft lacked. This asks how much slack its schedule had for the late
# arrival. Both are the same sentence of docs/transforms.md.
ORACLE = """
WITH leg AS (
    SELECT *, time_hour + to_minutes(minute) AS departs FROM read_parquet($flights) WHERE tailnum IS NOT NULL
), numbered AS (
    SELECT *, count(*) OVER (PARTITION BY tailnum ORDER BY departs, time_hour, carrier, flight) AS place
    FROM leg
), paired AS (
    SELECT
        this.*, before.carrier AS b_carrier, before.flight AS b_flight, before.time_hour AS b_time_hour,
        before.arr_delay AS late,
        before.departs + to_minutes(before.dep_delay + before.air_time) AS landed,
        CASE WHEN before.dest = this.origin THEN 60 ELSE 120 + before.air_time END AS needed
    FROM numbered AS this
    LEFT JOIN numbered AS before ON before.tailnum = this.tailnum AND before.place = this.place - 1
), slack AS (
    SELECT *, greatest(0, date_diff('minute', landed - to_minutes(late), departs) - needed) AS slack
    FROM paired
)
SELECT
    time_hour, carrier, flight, tailnum, place::INTEGER AS leg_number, origin, dest,
    departs AS scheduled_departure_at, dep_delay AS dep_delay_minutes, arr_delay AS arr_delay_minutes,
    b_carrier AS previous_carrier, b_flight AS previous_flight, b_time_hour AS previous_time_hour,
    late AS previous_arr_delay_minutes, date_diff('minute', landed, departs)::INTEGER AS turnaround_minutes,
    (CASE WHEN dep_delay > 0 AND late > slack THEN least(dep_delay, late - slack) ELSE 0 END)::INTEGER
        AS inherited_delay_minutes
FROM slack
"""


def leg(tailnum: str | None, departs: int, **columns: Any) -> dict[str, Any]:
    """A flight that departs `departs` minutes after midnight, UTC."""
    at = MIDNIGHT + timedelta(minutes=departs)
    row = {
        "time_hour": at.replace(minute=0),
        "minute": at.minute,
        "tailnum": tailnum,
        "carrier": "AA",
        "flight": 1,
    }
    return row | {"origin": "JFK", "dest": "LAX"} | columns


# Out at 00:00 for 100 minutes in the air, back unseen. It is ready 120 + 100 minutes after its landing; the
# schedule has it leave again at 06:00 = 360.
def out(tailnum: str, dep_delay: int | None, arr_delay: int | None, air_time: int | None = 100) -> dict[str, Any]:
    return leg(tailnum, 0, dep_delay=dep_delay, arr_delay=arr_delay, air_time=air_time, dep_time=1)


CASES = {
    # tailnum: (out, again, turnaround, inherited)
    "ONTIME": (out("ONTIME", 0, 0), leg("ONTIME", 360, flight=2, dep_delay=25), 260, 0),
    "ABSORB": (out("ABSORB", 40, 40), leg("ABSORB", 360, flight=2, dep_delay=25), 220, 0),
    "SHORT1": (out("SHORT1", 41, 41), leg("SHORT1", 360, flight=2, dep_delay=25), 219, 1),
    "BYLACK": (out("BYLACK", 60, 60), leg("BYLACK", 360, flight=2, dep_delay=90), 200, 20),
    "BYOWN": (out("BYOWN", 60, 60), leg("BYOWN", 360, flight=2, dep_delay=5), 200, 5),
    "BYLATE": (out("BYLATE", 60, 7), leg("BYLATE", 360, flight=2, dep_delay=90), 200, 7),
    "MADEUP": (out("MADEUP", 60, -3), leg("MADEUP", 360, flight=2, dep_delay=90), 200, 0),
    "EARLY": (out("EARLY", 60, 60), leg("EARLY", 360, flight=2, dep_delay=-4), 200, 0),
    "GONE": (
        out("GONE", 60, 60),
        leg("GONE", 360, flight=2),
        200,
        0,
    ),  # cancelled: there is no delay to explain
    "AFTERX": (out("AFTERX", None, None, None), leg("AFTERX", 360, flight=2, dep_delay=90), None, 0),
    "DIVERT": (out("DIVERT", 60, None, None), leg("DIVERT", 360, flight=2, dep_delay=90), None, 0),
    "SEEN": (
        out("SEEN", 60, 60) | {"dest": "EWR"},
        leg("SEEN", 200, flight=2, origin="EWR", dep_delay=90),
        40,
        20,
    ),
    "OVERLAP": (out("OVERLAP", 60, 60), leg("OVERLAP", 100, flight=2, dep_delay=500), -60, 60),
}


def rows(database: duckdb.DuckDBPyConnection, output: Output) -> list[dict[str, Any]]:
    found = database.execute("SELECT * FROM read_parquet($path)", {"path": output.path})
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@pytest.fixture(scope="module")
def cases(
    sail_address: str,
    write: Callable[..., Path],
    database: duckdb.DuckDBPyConnection,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, list[dict[str, Any]]]:
    """Every small case in one run: an aircraft each, legs in order."""
    folder = tmp_path_factory.mktemp("aircraft_leg")
    settings = load_settings(
        project=Path(__file__).parents[2], home=folder / "home", spark_remote=sail_address, spark_master=None
    )
    flights = [flight for case in CASES.values() for flight in case[:2]]
    tied = [leg("TIED", 60, carrier=carrier, flight=number) for carrier, number in (("DL", 9), ("AA", 7), ("AA", 3))]
    alone = [leg("ALONE", 0, dep_delay=30)]
    unknown = [leg(None, 0, flight=8), leg(None, 60, flight=8)]
    output = run(
        settings,
        "aircraft_leg",
        {"flights": [write("flights", *tied, *flights[::-1], *alone, *unknown)]},
        folder,
    )
    by_tail: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows(database, output), key=lambda row: (row["tailnum"], row["leg_number"])):
        by_tail.setdefault(row["tailnum"], []).append(row)
    return by_tail


@pytest.mark.parametrize("tailnum", CASES)
def test_inherited_delay_is_the_least_of_delay_lateness_and_shortfall(
    cases: dict[str, list[dict[str, Any]]], tailnum: str
) -> None:
    _, _, turnaround, inherited = CASES[tailnum]
    first, second = cases[tailnum]
    assert (second["turnaround_minutes"], second["inherited_delay_minutes"]) == (turnaround, inherited)
    assert (second["previous_carrier"], second["previous_flight"]) == (first["carrier"], first["flight"])
    assert second["previous_time_hour"] == first["time_hour"]
    assert second["previous_arr_delay_minutes"] == first["arr_delay_minutes"]


def test_a_first_leg_has_no_previous_and_inherits_nothing(cases: dict[str, list[dict[str, Any]]]) -> None:
    (only,) = cases["ALONE"]
    assert only["leg_number"] == 1
    assert only["inherited_delay_minutes"] == 0
    assert only["dep_delay_minutes"] == 30
    absent = [name for name, value in only.items() if value is None]
    assert set(absent) == {
        *("arr_delay_minutes", "previous_carrier", "previous_flight", "previous_time_hour"),
        *("previous_arr_delay_minutes", "turnaround_minutes"),
    }


def test_legs_of_one_minute_are_ordered_by_carrier_and_flight(cases: dict[str, list[dict[str, Any]]]) -> None:
    assert [(row["leg_number"], row["carrier"], row["flight"]) for row in cases["TIED"]] == [
        (1, "AA", 3),
        (2, "AA", 7),
        (3, "DL", 9),
    ]


def test_flights_of_unknown_aircraft_are_left_out(cases: dict[str, list[dict[str, Any]]]) -> None:
    assert set(cases) == {*CASES, "TIED", "ALONE"}


def test_the_year_agrees_with_a_second_derivation(
    sail: Settings, landing: Landing, database: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    flights = landing.flights()
    output = run(sail, "aircraft_leg", {"flights": flights}, tmp_path / "out")
    database.execute(f"CREATE OR REPLACE TEMP TABLE expected AS {ORACLE}", {"flights": [str(path) for path in flights]})
    database.execute("CREATE OR REPLACE TEMP TABLE found AS FROM read_parquet($path)", {"path": output.path})
    assert output.rows == 334_264
    for left, right in (("expected", "found"), ("found", "expected")):
        assert database.execute(f"FROM {left} EXCEPT ALL FROM {right}").fetchmany(3) == []
    outside = database.execute(
        "FROM found WHERE inherited_delay_minutes NOT BETWEEN 0 AND greatest(dep_delay_minutes, 0) "
        "OR inherited_delay_minutes > greatest(previous_arr_delay_minutes, 0)"
    )
    assert outside.fetchmany(3) == []
    # the figures that docs/transforms.md quotes
    assert database.execute(
        "SELECT count(*) FILTER (inherited_delay_minutes > 0), sum(inherited_delay_minutes)::INTEGER, "
        "sum(greatest(dep_delay_minutes, 0))::INTEGER FROM found"
    ).fetchall() == [(9113, 276_105, 5_056_783)]
