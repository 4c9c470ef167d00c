"""The real models through `tidegate marts`: an increment is right whichever publish its table stems from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.contracts.command import run
from tests.models import sample

from tidegate import dbt
from tidegate.contracts import load
from tidegate.publish import marts
from tidegate.settings import Settings

JANUARY, FEBRUARY = sample.MONTHS
#: A row for each partition: what the facts hold of it, in figures that no two deliveries share.
RAW = "SELECT _partition, count(*), sum(arr_delay), max(_batch_id) FROM raw.flights GROUP BY 1 ORDER BY 1"
FACTS = "SELECT partition_key, count(*), sum(arr_delay_minutes), max(batch_id) FROM {}.fct_flight GROUP BY 1 ORDER BY 1"

FACTS_ALONE = ["stg_flights", "fct_flight"]

Rows = list[tuple[Any, ...]]


@pytest.fixture
def ask(settings: Settings) -> Callable[[str], Rows]:
    assert settings.warehouse_url is not None
    url = settings.warehouse_url.get_secret_value()

    def query(statement: str) -> Rows:
        with psycopg.connect(url) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload, no-any-return]

    return query


def rebuild(settings: Settings) -> tuple[str, int]:
    """Build, judge and publish the facts alone; return the build and the rows that dbt wrote."""
    build_id = marts.prepare(settings)
    (facts,) = [result for result in dbt.build(settings, FACTS_ALONE) if result.name == "fct_flight"]
    assert marts.judge(settings, build_id) == "judged"
    marts.publish(settings, build_id)
    return build_id, facts.rows or 0


def test_increments_follow_corrections_undone_marts_and_undone_batches(
    settings: Settings, ask: Callable[[str], Rows], tmp_path: Path
) -> None:
    files = sample.unpack(tmp_path)
    flights = load(settings, "flights")
    seen = FACTS.format("marts")
    assert settings.warehouse_url is not None
    with psycopg.connect(settings.warehouse_url.get_secret_value(), autocommit=True) as connection:
        sample.load_sample(connection, settings, files)
        rebuild(settings)
        both = ask(seen)
        assert both == ask(RAW)

        sample.publish(connection, flights, files, FEBRUARY, delivery=2)
        connection.execute("UPDATE raw.flights SET arr_delay = arr_delay + 1 WHERE _partition = %s", [FEBRUARY])
        corrected_build, _ = rebuild(settings)
        corrected = ask(seen)
        assert corrected == ask(RAW) != both

        sample.publish(connection, flights, files, "2013-03")
        rebuild(settings)
        assert ask(seen) == ask(RAW)

        assert run("marts", "undo", "--why", "March came too early").exit_code == 0
        assert ask(seen) == corrected
        sample.retract(connection, flights, "2013-03")
        # What is published is what the visible marts are made of: there is nothing to build.
        assert marts.prepare(settings) == corrected_build
        assert marts.is_published(settings, corrected_build)

        # The table of the first build comes round again, with February as first delivered: January stands there.
        sample.retract(connection, flights, FEBRUARY)
        _, written = rebuild(settings)
        assert (written, len(ask(seen))) == (0, 1)
        assert ask(seen) == ask(RAW)
        assert ask(FACTS.format("marts_previous")) == corrected

        # And the table of the marts that were taken back, with a March that is no more; this time with all marts.
        sample.publish(connection, flights, files, FEBRUARY, delivery=3)
        built = run("marts", "build")
        assert built.exit_code == 0, built.output
        assert "models and checks built" in built.output
        assert ask(seen) == ask(RAW)
        everything = ask("SELECT relname FROM pg_class WHERE relnamespace = 'marts'::regnamespace ORDER BY 1")
        assert {("dim_plane",), ("mart_on_time_by_carrier",), ("mart_weather_delay",)} < set(everything)
        assert "nothing has changed since" in run("marts", "build").output

        # A month of cancelled flights: every count adds up, and a suite refuses it.
        before = ask(seen)
        sample.publish(connection, flights, files, FEBRUARY, delivery=4)
        connection.execute(
            "UPDATE raw.flights SET (dep_time, dep_delay, arr_time, arr_delay, air_time) = (NULL, NULL, NULL, NULL, NULL)"
            " WHERE _partition = %s",
            [FEBRUARY],
        )
        held = run("marts", "build")
        assert held.exit_code == 1
        told = " ".join(held.output.split())
        assert "is held: at most 10 in 100 flights are cancelled: " in told
        assert "Readers keep the marts they have; repair the data, the model or the rule" in told
        assert "held" in run("marts", "show").output.splitlines()[0]
        assert ask(seen) == before
