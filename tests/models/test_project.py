"""What every model owes its reader: columns described, its grain stated, a test, docs that can be built."""

from __future__ import annotations

import json
import re
from typing import Any

import psycopg
import pytest
from tests.conftest import PASSWORD
from tests.models.conftest import Build

from tidegate import dbt
from tidegate.settings import Settings


@pytest.fixture(scope="module")
def manifest(built: Build) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((built.target / "manifest.json").read_text())
    return found


@pytest.fixture(scope="module")
def models(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "model"}


def test_dbt_build_typed_at_the_root_builds_every_model_and_passes_every_test(built: Build) -> None:
    assert built.status == 0, built.output
    done = re.search(r"PASS=(\d+) WARN=0 ERROR=0 SKIP=0", built.output)
    assert done
    assert int(done[1]) >= 59
    assert "deprecat" not in built.output.lower()


def test_every_column_that_exists_is_described_and_no_other(
    models: dict[str, dict[str, Any]], built_warehouse: psycopg.Connection
) -> None:
    assert len(models) == 17
    for model in models.values():
        existing = built_warehouse.execute(
            "select column_name from information_schema.columns where table_schema = %s and table_name = %s",
            (model["schema"], model["name"]),
        ).fetchall()
        assert {name for (name,) in existing} == set(model["columns"]), model["name"]
        assert [c["name"] for c in model["columns"].values() if len(c["description"]) < 8] == [], model["name"]


def test_every_model_states_its_grain(models: dict[str, dict[str, Any]]) -> None:
    assert [name for name, model in models.items() if "One row per " not in model["description"]] == []


def test_every_model_is_tested(manifest: dict[str, Any], models: dict[str, dict[str, Any]]) -> None:
    tested = {node.get("attached_node") for node in manifest["nodes"].values() if node["resource_type"] == "test"}
    assert [name for name, model in models.items() if model["unique_id"] not in tested] == []


def test_every_mart_has_an_enforced_contract_a_unit_test_or_none_of_its_own_logic(
    manifest: dict[str, Any], models: dict[str, dict[str, Any]]
) -> None:
    marts = {name for name in models if name.startswith("mart_")}
    assert len(marts) == 6
    assert all(models[name]["contract"]["enforced"] for name in marts)
    unit_tested = {unit["model"] for unit in manifest["unit_tests"].values()}
    # a route's measures are the shared macro and nothing else
    assert unit_tested == (marts - {"mart_route_reliability"}) | {"fct_flight"}


def test_the_report_depends_on_every_mart_that_waits_for_a_build(
    manifest: dict[str, Any], models: dict[str, dict[str, Any]]
) -> None:
    (report,) = manifest["exposures"].values()
    assert set(report["depends_on"]["nodes"]) == {
        model["unique_id"]
        for name, model in models.items()
        if name.startswith("mart_") and model["config"]["materialized"] != "live"
    }


def test_facts_and_marts_land_beside_the_published_ones(models: dict[str, dict[str, Any]]) -> None:
    assert {name: model["schema"] for name, model in models.items()} == {
        name: "staging" if name.startswith("stg_") else "marts_next" for name in models
    }


def test_no_artifact_of_dbt_holds_the_password(built: Build) -> None:
    files = [path for path in (built.settings.home / "dbt").rglob("*") if path.is_file()]
    assert any(path.name == "partial_parse.msgpack" for path in files)
    assert [path.name for path in files if PASSWORD.encode() in path.read_bytes()] == []
    assert PASSWORD not in built.output


def test_docs_are_one_page_with_every_model(built: Build, models: dict[str, dict[str, Any]]) -> None:
    page = dbt.docs(built.settings)
    text = page.read_text()
    assert [name for name in models if name not in text] == []


def test_freshness_is_read_from_the_ledger(built: Build) -> None:
    delivered = ("flights", "weather", "planes", "airports", "airlines")
    published = [f"raw.{dataset}" for dataset in delivered] + ["core.aircraft_leg", "core.flight_weather"]
    # Nobody has booked: bookings are left out of the demo year.
    assert dbt.freshness(built.settings) == {**dict.fromkeys(published, "pass"), "raw.bookings": "warn"}


def test_a_source_that_was_last_published_long_ago_is_stale(scratch: Settings) -> None:
    assert scratch.warehouse_url is not None
    with psycopg.connect(scratch.warehouse_url.get_secret_value()) as connection:
        connection.execute("update ops.batch set published_at = now() - interval '2 years' where dataset = 'weather'")
    found = dbt.freshness(scratch)
    assert {source for source, status in found.items() if status == "warn"} == {"raw.bookings", "raw.weather"}
