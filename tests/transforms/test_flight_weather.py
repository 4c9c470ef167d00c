"""flight_weather: small cases spelled out, and the whole year against DuckDB's own as-of join."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.transforms.demo_year import Landing

from tidegate.settings import Settings, load_settings
from tidegate.transforms import run

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)

ORACLE = """
SELECT
    f.time_hour, f.carrier, f.flight, f.origin, w.time_hour AS observation_at,
    (epoch(f.time_hour - w.time_hour) / 60)::INTEGER AS observation_age_minutes,
    w.temp AS temp_fahrenheit, w.dewp AS dewp_fahrenheit, w.humid AS humid_percent,
    w.wind_dir AS wind_dir_degrees, w.wind_speed AS wind_speed_mph, w.wind_gust AS wind_gust_mph,
    w.precip AS precip_inches, w.pressure AS pressure_millibars, w.visib AS visib_miles
FROM read_parquet($flights) AS f
ASOF LEFT JOIN read_parquet($weather) AS w ON f.origin = w.origin AND f.time_hour >= w.time_hour
"""


def flight(number: int, hour: int, origin: str = "JFK") -> dict[str, Any]:
    return {"time_hour": NOON + timedelta(hours=hour), "carrier": "AA", "flight": number, "origin": origin}


def observation(hour: int, origin: str = "JFK", **measures: float) -> dict[str, Any]:
    return {"time_hour": NOON + timedelta(hours=hour), "origin": origin} | measures


@pytest.fixture(scope="module")
def cases(
    sail_address: str,
    write: Callable[..., Path],
    database: duckdb.DuckDBPyConnection,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[int, tuple[Any, ...]]:
    """Flight number → (age in minutes, temperature, visibility), all cases in one run."""
    folder = tmp_path_factory.mktemp("flight_weather")
    settings = load_settings(
        project=Path(__file__).parents[2], home=folder / "home", spark_remote=sail_address, spark_master=None
    )
    flights = write(
        "flights",
        *(flight(1, -1), flight(2, 0), flight(3, 2), flight(4, 3), flight(5, 30)),
        *(flight(6, 0, "LGA"), flight(7, 0, "EWR"), flight(8, 3, "EWR")),
        flight(9, 0) | {"carrier": "DL"},
    )
    weather = write(
        "weather",
        observation(0, temp=40.0, visib=10.0),
        observation(3, temp=41.5),  # visibility was not recorded
        observation(-24, "EWR", temp=30.0),
        observation(4, "EWR", temp=99.0),
    )
    output = run(settings, "flight_weather", {"flights": [flights], "weather": [weather]}, folder)
    found = database.execute(
        "SELECT flight, observation_age_minutes, temp_fahrenheit, visib_miles FROM read_parquet($path)",
        {"path": output.path},
    )
    return {row[0]: row[1:] for row in found.fetchall()}


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        pytest.param(1, (None, None, None), id="none-before-the-first-observation"),
        pytest.param(2, (0, 40.0, 10.0), id="that-of-the-hour-itself"),
        pytest.param(3, (120, 40.0, 10.0), id="the-last-one-when-the-hour-lacks-one"),
        pytest.param(4, (0, 41.5, None), id="an-unrecorded-measure-is-not-filled-from-an-older-observation"),
        pytest.param(5, (27 * 60, 41.5, None), id="however-old-it-is"),
        pytest.param(6, (None, None, None), id="none-where-nothing-was-observed"),
        pytest.param(7, (24 * 60, 30.0, None), id="of-its-own-airport"),
        pytest.param(8, (27 * 60, 30.0, None), id="never-a-later-one"),
        pytest.param(9, (0, 40.0, 10.0), id="shared-by-all-flights-of-the-hour"),
    ],
)
def test_a_flight_gets_the_last_observation(
    cases: dict[int, tuple[Any, ...]], number: int, expected: tuple[Any, ...]
) -> None:
    assert cases[number] == expected


def test_the_year_agrees_with_an_as_of_join(
    sail: Settings, landing: Landing, database: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    flights, weather = landing.flights(), landing.weather()
    output = run(sail, "flight_weather", {"flights": flights, "weather": weather}, tmp_path / "out")
    database.execute(
        f"CREATE OR REPLACE TEMP TABLE expected AS {ORACLE}",
        {"flights": [str(path) for path in flights], "weather": [str(path) for path in weather]},
    )
    database.execute("CREATE OR REPLACE TEMP TABLE found AS FROM read_parquet($path)", {"path": output.path})
    assert output.rows == 336_776
    for left, right in (("expected", "found"), ("found", "expected")):
        assert database.execute(f"FROM {left} EXCEPT ALL FROM {right}").fetchmany(3) == []
