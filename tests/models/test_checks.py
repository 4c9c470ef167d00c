"""The checks refuse what they exist for, and what dbt says becomes a typed error."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from tests.conftest import CHECKOUT

from tidegate import dbt
from tidegate.errors import HeldError, TerminalError, UnavailableError
from tidegate.settings import Settings, load_settings


@pytest.fixture
def plain(tmp_path: Path) -> Settings:
    """Settings of this checkout with a home of their own and no warehouse."""
    return load_settings(project=CHECKOUT, home=tmp_path / "home", warehouse_url=None)


def _change(settings: Settings, *statements: str) -> None:
    assert settings.warehouse_url is not None
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        for statement in statements:
            connection.execute(statement)


# Two rounds: what fails a check of a model spares dbt the checks of all that is made from it.
MARTS_HARMED = {
    "mart_route_reliability_counts_nest": (
        "update marts_next.mart_route_reliability set arrived_count = flight_count + 1 where dest = 'IAH'"
    ),
    "unique_grain_dim_carrier": "insert into marts_next.dim_carrier values ('UA', 'United once more')",
    "adds_up_to_mart_delay_by_hour": (
        "update marts_next.mart_delay_by_hour set flight_count = flight_count + 1 where scheduled_hour = 6"
    ),
    "accepted_values_mart_weather_delay_precipitation_band": (
        "update marts_next.mart_weather_delay set precipitation_band = 'frogs'"
    ),
}
FACT_HARMED = {"same_rows_as_fct_flight": "delete from marts_next.fct_flight where carrier = 'UA'"}


@pytest.mark.parametrize("harm", [MARTS_HARMED, FACT_HARMED], ids=["marts", "fact"])
def test_each_kind_of_check_refuses_marts_that_do_not_add_up(harm: dict[str, str], scratch: Settings) -> None:
    _change(scratch, *harm.values())
    with pytest.raises(HeldError) as held:
        dbt.build(scratch, ["resource_type:test"])
    assert [check for check in harm if check not in str(held.value)] == []


def test_a_build_whose_check_fails_is_held(scratch: Settings) -> None:
    _change(scratch, "update core.aircraft_leg set inherited_delay_minutes = 2880")
    with pytest.raises(HeldError, match="mart_inherited_delay_share_is_a_share"):
        dbt.build(scratch, ["mart_inherited_delay"])


def test_a_model_that_postgres_refuses_is_terminal_and_names_the_model(scratch: Settings) -> None:
    _change(scratch, "alter table raw.airlines rename column name to full_name")
    with pytest.raises(TerminalError, match=r"stg_airlines.*name.*does not exist"):
        dbt.build(scratch, ["stg_airlines"])


def test_a_warehouse_that_does_not_answer_is_transient(plain: Settings) -> None:
    address = "postgresql://nobody:wrong-secret@127.0.0.1:1/nowhere"
    away = plain.model_copy(update={"warehouse_url": SecretStr(address)})
    with pytest.raises(UnavailableError, match="did not answer") as away_error:
        dbt.build(away, ["stg_airlines"])
    assert "wrong-secret" not in str(away_error.value)


def test_no_warehouse_at_all_says_how_to_get_one(plain: Settings) -> None:
    with pytest.raises(UnavailableError, match="tidegate up"):
        dbt.build(plain)


def test_freshness_without_a_ledger_is_terminal(scratch: Settings) -> None:
    _change(scratch, "alter table ops.batch rename to batches")
    with pytest.raises(TerminalError, match=r"source freshness.*ops.batch.*does not exist"):
        dbt.freshness(scratch)


def test_the_environment_is_as_before_after_a_build(scratch: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "the-users-own.example")
    before = dict(os.environ)
    results = dbt.build(scratch, ["dim_carrier"])
    assert dict(os.environ) == before
    assert [(result.name, result.status, result.rows) for result in results if not result.is_check] == [
        ("dim_carrier", "success", 16)
    ]
    assert all(result.status == "pass" for result in results if result.is_check)


def test_the_manifest_needs_no_warehouse(plain: Settings) -> None:
    assert "mart_on_time_by_carrier" in dbt.manifest(plain).read_text()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://ada:p%40ss@db.example:6543/house?sslmode=require",
            {
                "PGHOST": "db.example",
                "PGPORT": "6543",
                "PGUSER": "ada",
                "PGPASSWORD": "p@ss",
                "PGDATABASE": "house",
                "PGSSLMODE": "require",
            },
        ),
        (
            "postgresql://ada@db.example/house",
            {"PGHOST": "db.example", "PGUSER": "ada", "PGDATABASE": "house"},
        ),
    ],
)
def test_the_address_becomes_what_psql_and_dbt_read(url: str, expected: dict[str, str], plain: Settings) -> None:
    settings = plain.model_copy(update={"warehouse_url": SecretStr(url)})
    found = dbt.environment(settings)
    assert {name: value for name, value in found.items() if name.startswith("PG")} == expected
