"""The record's events are one SQL text, and two engines that share nothing give the same rows for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import psycopg
import pytest
from tests.run.flights import AIRPORTS, CONTRACT, FLIGHTS, columns, lines, load_days

from tidegate.run import events

#: Around the nights on which clocks change, and a storm.
DAYS = (
    (date(2013, 2, 8), date(2013, 2, 9)),
    (date(2013, 3, 9), date(2013, 3, 11)),
    (date(2013, 11, 2), date(2013, 11, 4)),
)
YEAR = date(2013, 1, 1), date(2013, 12, 31)


@pytest.fixture(scope="module")
def year() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as engine:
        load_days(engine, *YEAR)
        engine.sql(f"CREATE TABLE happened AS {events.query(*YEAR, 'flights', 'airports')}")
        yield engine


def one(engine: duckdb.DuckDBPyConnection, query: str) -> Any:
    (row,) = engine.sql(query).fetchall()
    return row[0] if len(row) == 1 else row


def test_duckdb_and_postgresql_give_the_same_rows_in_the_same_order(
    year: duckdb.DuckDBPyConnection, warehouse: str
) -> None:
    with psycopg.connect(warehouse) as connection:
        # What the text says may not depend on where it is asked.
        connection.execute("SET TimeZone = 'Asia/Kathmandu'")
        for table, contract in (("flights", FLIGHTS), ("airports", AIRPORTS)):
            kinds = ", ".join(f"{column.name} {column.postgres_type}" for column in contract.columns)
            connection.execute(f"CREATE TEMP TABLE {table} ({kinds})")
            sql = f"COPY {table} ({columns(contract)}) FROM STDIN (FORMAT csv, HEADER, NULL 'NA')"
            with connection.cursor() as cursor, cursor.copy(sql) as copy:
                copy.write(lines(table))
        for first, last in DAYS:
            text = events.query(first, last, "flights", "airports")
            found = connection.execute(text).fetchall()
            assert found == year.sql(text).fetchall()
            assert len(found) > 3000
            described = connection.execute(f"SELECT * FROM ({text}) AS happened LIMIT 0").description
            assert described is not None
            assert [column.name for column in described] == [column.name for column in CONTRACT.columns]


def test_each_flight_of_the_year_has_the_events_that_its_record_holds(year: duckdb.DuckDBPyConnection) -> None:
    counts = dict(year.sql("SELECT event_type, count(*) FROM happened GROUP BY ALL").fetchall())
    recorded = one(
        year, "SELECT count(*), count(dep_time), count(arr_time), count(*) FILTER (dep_time IS NULL) FROM flights"
    )
    assert counts == dict(zip(events.TYPES, recorded, strict=True))
    assert one(year, f"SELECT count(DISTINCT ({', '.join(CONTRACT.key)})) FROM happened") == sum(counts.values())
    accepted = next(rule.value for rule in CONTRACT.column("event_type").rules if rule.kind == "accepted")
    assert accepted == events.TYPES


def test_no_arrival_of_the_year_contradicts_the_time_in_the_air(year: duckdb.DuckDBPyConnection) -> None:
    # Clocks of fifteen time zones and rules of daylight saving stand behind this: one read wrongly is an hour or more off.
    known, least, most = one(
        year,
        """
        SELECT count(*), min(ground), max(ground) FROM (
            SELECT date_diff('minute', departed.event_at, arrived.event_at) - air_time AS ground
            FROM happened AS departed JOIN happened AS arrived USING (time_hour, carrier, flight)
            JOIN flights USING (time_hour, carrier, flight)
            WHERE departed.event_type = 'departed' AND arrived.event_type = 'arrived' AND air_time IS NOT NULL)
        """,
    )
    assert (known, least, most) == (327346, 5, 235)


def test_the_first_flight_of_the_year_is_told_as_it_flew(year: duckdb.DuckDBPyConnection) -> None:
    # UA 1545 to Houston: scheduled at 5:15, left at 5:17 in New York, arrived at 8:30 an hour west of it.
    told = year.sql("SELECT event_type, event_at, delay_minutes FROM happened WHERE carrier = 'UA' AND flight = 1545 "
                    "AND time_hour = '2013-01-01 10:00Z' ORDER BY event_at").fetchall()  # fmt: skip
    at = datetime(2013, 1, 1, tzinfo=UTC)
    assert told == [
        ("scheduled", at + timedelta(hours=10 - 24, minutes=15), None),
        ("departed", at + timedelta(hours=10, minutes=17), 2),
        ("arrived", at + timedelta(hours=14, minutes=30), 11),
    ]


def test_a_flight_to_an_airport_that_is_not_known_arrives_by_atlantic_time(year: duckdb.DuckDBPyConnection) -> None:
    # B6 725 to Aguadilla: arrived at 10:04 there, four hours behind UTC.
    assert one(year, "SELECT dest, event_at, (SELECT count(*) FROM airports WHERE faa = dest) FROM happened WHERE carrier = 'B6' "
                     "AND flight = 725 AND time_hour = '2013-01-01 10:00Z' AND event_type = 'arrived'") == (
        "BQN", datetime(2013, 1, 1, 14, 4, tzinfo=UTC), 0
    )  # fmt: skip


def test_days_are_asked_for_by_the_local_date_of_the_departure(year: duckdb.DuckDBPyConnection) -> None:
    first, last = DAYS[0]
    rows = year.sql(events.query(first, last, "flights", "airports")).fetchall()
    flights = year.sql("SELECT time_hour, carrier, flight FROM flights WHERE month = 2 AND day IN (8, 9)").fetchall()
    assert Counter(row[:3] for row in rows).keys() == set(flights)
