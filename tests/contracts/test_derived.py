"""Pages and dbt sources follow from the contracts, and nobody has to remember to write them."""

from __future__ import annotations

from datetime import timedelta

import yaml
from tests.contracts.command import run
from tests.shop import Shop

from tidegate.contracts import derived, load_all
from tidegate.contracts.dbt_sources import longest_silence
from tidegate.contracts.lineage import Lineage
from tidegate.settings import Settings


def test_what_is_derived_in_this_repository_is_current(settings: Settings) -> None:
    assert [str(finding) for finding in derived.stale(settings)] == []


def test_deriving_twice_gives_the_same_text(settings: Settings) -> None:
    assert derived.derive(settings) == derived.derive(settings)


def test_a_changed_contract_makes_its_files_stale_until_they_are_written(shop: Shop) -> None:
    assert run("contract", "docs").output.splitlines() == [
        "wrote docs/reference/index.md",
        "wrote docs/reference/orders.md",
        "wrote models/staging/_sources.yml",
    ]
    assert run("contract", "docs", "--check").exit_code == 0
    path = shop.root / "schemas/orders.odcs.yaml"
    path.write_text(path.read_text().replace("Who ordered.", "Who | paid."))
    ended = run("contract", "docs", "--check")
    assert ended.exit_code == 1
    page = (shop.root / "docs/reference/orders.md").read_text().splitlines()
    line = next(number for number, text in enumerate(page, start=1) if "Who ordered." in text)
    assert f"docs/reference/orders.md:{line}: not as the contracts say" in ended.output
    assert run("contract", "docs").exit_code == 0
    assert "Who \\| paid." in (shop.root / "docs/reference/orders.md").read_text()


def test_the_page_of_a_dataset_that_is_gone_goes_and_a_page_by_hand_stays(shop: Shop) -> None:
    run("contract", "docs")
    folder = shop.root / "docs/reference"
    (folder / "old.md").write_text((folder / "orders.md").read_text())
    (folder / "by_hand.md").write_text("# Mine\n")
    assert run("contract", "docs", "--check").output.startswith("docs/reference/old.md:1: no contract has this page")
    run("contract", "docs")
    assert sorted(page.name for page in folder.iterdir()) == ["by_hand.md", "index.md", "orders.md"]


def test_a_page_tells_rules_units_references_and_readers(settings: Settings) -> None:
    page = derived.derive(settings)["docs/reference/flights.md"]
    assert "| `distance` | integer | mile | Great-circle distance in statute miles. | is never empty; `>= 1`;" in page
    assert "[airlines](airlines.md).carrier" in page
    assert "is one of EWR, JFK, LGA" in page
    assert "| partition | by month (`year`, `month`) |" in page
    assert "| at the latest after | 2 days |" in page
    assert "| kept for | 7 years |" in page
    assert "- transform `aircraft_leg`: `transforms/aircraft_leg.py`" in page
    assert '  flights["flights"] --> stg_flights["stg_flights"]' in page


def test_the_dbt_sources_describe_every_column_and_know_how_long_silence_may_last(settings: Settings) -> None:
    contracts = load_all(settings)
    document = yaml.safe_load(derived.derive(settings)["models/staging/_sources.yml"])
    tables = {table["name"]: table for source in document["sources"] for table in source["tables"]}
    assert set(tables) == {contract.table for contract in contracts}
    for contract in contracts:
        described = {column["name"]: column["description"] for column in tables[contract.table]["columns"]}
        assert set(described) == {*(c.name for c in contract.columns), "_partition", "_batch_id"}
        assert all(described.values())
    assert tables["flights"]["config"]["freshness"] == {"warn_after": {"count": 33, "period": "day"}}
    assert tables["aircraft_leg"]["config"]["freshness"] == {"warn_after": {"count": 35, "period": "day"}}


def test_a_dataset_that_promises_nothing_is_never_too_late(shop: Shop) -> None:
    contract = shop.contract
    assert longest_silence(contract, {"orders": contract}, Lineage(shop.root)) is None
    text = derived.derive(shop.settings)["models/staging/_sources.yml"]
    assert "freshness" not in text
    path = shop.root / "schemas/orders.odcs.yaml"
    promise = "slaProperties:\n  - {property: latency, value: 90, unit: minutes}\n"
    path.write_text(path.read_text().replace("customProperties:", promise + "customProperties:", 1))
    assert longest_silence(shop.contract, {}, Lineage(shop.root)) is None
    often = promise + "  - {property: frequency, value: 1, unit: h}\n"
    path.write_text(path.read_text().replace(promise, often))
    assert longest_silence(shop.contract, {}, Lineage(shop.root)) == timedelta(minutes=150)
    text = derived.derive(shop.settings)["models/staging/_sources.yml"]
    assert yaml.safe_load(text)["sources"][0]["tables"][0]["config"]["freshness"] == {
        "warn_after": {"count": 3, "period": "hour"}
    }
    page = derived.derive(shop.settings)["docs/reference/orders.md"]
    assert "| at the latest after | 90 minutes |" in page
    assert "Nothing reads it yet." in page
