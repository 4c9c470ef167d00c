"""The models' figures against answers that DuckDB works out from the source files alone."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import psycopg
import pytest
from tests.models import sample

MEASURES = """
    count(*), count(*) - count(dep_time), count(arr_delay), count_if(arr_delay < 15),
    case when count(arr_delay) > 0 then count_if(arr_delay < 15) / count(arr_delay) end,
    avg(arr_delay), quantile_cont(arr_delay, 0.95)
"""
WEATHER = """
    select f.*,
        case when wind_speed is null then 'unknown' when wind_speed < 10 then 'under 10 mph'
            when wind_speed < 20 then '10 to 20 mph' when wind_speed < 30 then '20 to 30 mph'
            else '30 mph or more' end as wind,
        case when visib is null then 'unknown' when visib < 1 then 'under 1 mile'
            when visib < 3 then '1 to 3 miles' when visib <= 5 then '3 to 5 miles'
            else 'over 5 miles' end as sight,
        case when precip is null then 'unknown' when precip = 0 then 'none' when precip <= 0.1 then 'light'
            when precip <= 0.3 then 'moderate' else 'heavy' end as rain
    from flights as f left join weather as w on f.origin = w.origin and f.time_hour = w.time_hour
"""
LEGS = """
    select *, lag(flight) over legs as previous, lag(arr_delay) over legs as handed_on from flights
    where tailnum is not null
    window legs as (partition by tailnum order by time_hour, minute, carrier, flight)
    union all by name select * from flights where tailnum is null
"""
ANSWERS = {
    "mart_on_time_by_carrier": f"""
        select carrier, name, make_date(year, month, 1), {MEASURES}
        from flights join airlines using (carrier) group by all
    """,
    "mart_route_reliability": f"select origin, dest, {MEASURES} from flights group by all",
    "mart_delay_by_hour": f"select origin, hour, {MEASURES}, avg(dep_delay) from flights group by all",
    "mart_weather_delay": f"""
        select wind, sight, rain, {MEASURES}, avg(dep_delay), 1 - count(dep_time) / count(*)
        from ({WEATHER}) group by all
    """,
    "mart_inherited_delay": f"""
        with legs as ({LEGS}),
        shares as (
            select *, greatest(dep_delay, 0) as late,
                case when handed_on > 0 and dep_delay > 0 then least(handed_on, dep_delay) else 0 end
                    as inherited
            from legs
        )
        select carrier, name, count(*), count(dep_time), count(previous) filter (where dep_time is not null),
            count_if(inherited > 0), sum(late)::bigint, sum(inherited)::bigint, sum(inherited) / sum(late)
        from shares join airlines using (carrier) group by all
    """,
    "dim_carrier": "select carrier, name from airlines",
    "dim_airport": "select faa, name, lat, lon, alt, tz, dst, tzone from airports",
    "dim_plane": "select tailnum, year, type, manufacturer, model, engines, seats, speed, engine from planes",
    "fct_flight": """
        select time_hour, carrier, flight, make_date(year, month, day), make_date(year, month, 1), tailnum,
            origin, dest, hour, time_hour + to_minutes(minute), sched_dep_time, dep_time, dep_delay,
            sched_arr_time, arr_time, arr_delay, air_time, distance, dep_time is null, arr_delay < 15,
            format('{:04d}-{:02d}', year, month), format('flights-{:04d}-{:02d}-1', year, month)
        from flights
    """,
}
STAGED = {
    "stg_weather": """
        select origin, time_hour, temp, dewp, humid, wind_dir, wind_speed, wind_gust, precip, pressure, visib,
            format('{:04d}-{:02d}', year, month), format('weather-{:04d}-{:02d}-1', year, month)
        from weather
    """,
    "stg_planes": f"{ANSWERS['dim_plane'].replace(' from', ', $$all$$, $$planes-all-1$$ from')}",
    "stg_airports": f"{ANSWERS['dim_airport'].replace(' from', ', $$all$$, $$airports-all-1$$ from')}",
    "stg_airlines": f"{ANSWERS['dim_carrier'].replace(' from', ', $$all$$, $$airlines-all-1$$ from')}",
}


@pytest.fixture(scope="module")
def source_files(demo_files: Path) -> duckdb.DuckDBPyConnection:
    """The published months as DuckDB sees them in the files."""
    duck = duckdb.connect()
    duck.execute("set timezone = 'UTC'")
    for dataset in sample.DATASETS:
        partitions = sample.MONTHS if dataset in {"flights", "weather"} else ("all",)
        parts = " union all ".join(f"from {sample.rows(demo_files, dataset, part)}" for part in partitions)
        duck.execute(f"create table {dataset} as {parts}")
    return duck


@pytest.mark.parametrize("model", [*ANSWERS, *STAGED])
def test_each_model_agrees_with_an_independent_answer(
    model: str, built_warehouse: psycopg.Connection, source_files: duckdb.DuckDBPyConnection
) -> None:
    schema = "staging" if model in STAGED else "marts_next"
    found = built_warehouse.execute(f"select * from {schema}.{model}").fetchall()
    expected = source_files.execute((ANSWERS | STAGED)[model]).fetchall()
    if model == "fct_flight":
        found = [row[:-1] for row in found]  # the code's fingerprint is no figure
    assert len(found) > 1
    assert _comparable(found) == _comparable(expected)


def _comparable(rows: list[tuple[object, ...]]) -> list[list[object]]:
    return sorted(([_plain(value) for value in row] for row in rows), key=repr)


def _plain(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.9g}")  # the two engines add up in another order
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC)
    return value


def test_a_rate_is_of_the_flights_that_arrived(built_warehouse: psycopg.Connection) -> None:
    known = built_warehouse.execute(
        "select flight_count, cancelled_count, arrived_count, on_time_count, on_time_rate"
        " from marts_next.mart_on_time_by_carrier where carrier = 'UA' and month_start = '2013-01-01'"
    ).fetchone()
    assert known is not None
    assert known[4] == known[3] / known[2]
    assert known[2] < known[0] - known[1] < known[0], "the month has cancelled and diverted flights"
