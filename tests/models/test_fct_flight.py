"""An increment of fct_flight ends as a full refresh would, whatever became of the published batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from tests.models import sample

from tidegate import dbt
from tidegate.contracts import load
from tidegate.settings import Settings

JANUARY, FEBRUARY = sample.MONTHS
Change = Callable[[psycopg.Connection, Settings, Path], None]


def late_correction(connection: psycopg.Connection, settings: Settings, demo_files: Path) -> None:
    """Deliver February again, with another delay and a flight less."""
    sample.publish(connection, load(settings, "flights"), demo_files, FEBRUARY, delivery=2)
    connection.execute("update raw.flights set arr_delay = arr_delay + 1 where _partition = %s", (FEBRUARY,))
    connection.execute("delete from raw.flights where _partition = %s and flight = 1545", (FEBRUARY,))


def undone_month(connection: psycopg.Connection, settings: Settings, demo_files: Path) -> None:
    sample.retract(connection, load(settings, "flights"), FEBRUARY)


def made_by_older_code(connection: psycopg.Connection, settings: Settings, demo_files: Path) -> None:
    """Leave a table that an earlier version of the model made: other values, a column less."""
    connection.execute("update marts_next.fct_flight set code_fingerprint = 'older', is_on_time = false")
    connection.execute("alter table marts_next.fct_flight drop column distance_miles")


def two_publishes_old(connection: psycopg.Connection, settings: Settings, demo_files: Path) -> None:
    """Leave the table that rotation brings back: it has January only, and raw is two deliveries ahead."""
    connection.execute("delete from marts_next.fct_flight where partition_key = %s", (FEBRUARY,))
    sample.publish(connection, load(settings, "flights"), demo_files, "2013-03")
    late_correction(connection, settings, demo_files)


def nothing(connection: psycopg.Connection, settings: Settings, demo_files: Path) -> None:
    pass


def _fct_flight(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    columns = connection.execute(
        "select string_agg(quote_ident(column_name), ', ' order by column_name)"
        " from information_schema.columns where table_schema = 'marts_next' and table_name = 'fct_flight'"
    ).fetchone()
    assert columns is not None
    return connection.execute(
        f"select {columns[0]} from marts_next.fct_flight order by time_hour, carrier, flight"
    ).fetchall()


@pytest.mark.parametrize(
    ("change", "written"),
    [
        (nothing, 0),
        (late_correction, None),
        (undone_month, 0),
        (made_by_older_code, 51955),
        (two_publishes_old, None),
    ],
)
def test_an_increment_ends_as_a_full_refresh(
    change: Change, written: int | None, scratch: Settings, demo_files: Path
) -> None:
    assert scratch.warehouse_url is not None
    with psycopg.connect(scratch.warehouse_url.get_secret_value(), autocommit=True) as connection:
        change(connection, scratch, demo_files)
        in_raw = connection.execute("select count(*) from raw.flights").fetchone()

        increment = dbt.build(scratch, ["fct_flight"])
        after_increment = _fct_flight(connection)
        dbt.build(scratch, ["fct_flight"], full_refresh=True)

        assert (len(after_increment),) == in_raw
        assert after_increment == _fct_flight(connection)
    if written is not None:
        assert [result.rows for result in increment if result.name == "fct_flight"] == [written]
