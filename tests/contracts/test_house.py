"""What the house asks of contracts, and that those of this repository keep it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contracts.command import run
from tests.shop import Shop, orders, orders_contract

from tidegate.contracts import house, load_all
from tidegate.contracts.lineage import Lineage
from tidegate.contracts.suite import base_suite
from tidegate.settings import Settings

COMPLETE = """\
slaProperties:
  - {property: latency, value: 2, unit: d}
  - {property: retention, value: 1, unit: y}
  - {property: frequency, value: 1, unit: month}
customProperties:
"""

#: What is missing → the change that makes it so, the text on the line that the finding names, what it says.
FINDINGS = {
    "a description of the dataset": (
        ("    description: What was ordered.\n", ""),
        "- name: orders",
        "the dataset has no description",
    ),
    "what one row is": (
        ("    dataGranularityDescription: One row per order.\n", ""),
        "- name: orders",
        "dataGranularityDescription is missing",
    ),
    "a description": (
        ("        description: Who ordered.\n", ""),
        "- name: customer",
        "column customer has no description",
    ),
    "a description that says more than the type": (
        ("Who ordered.", "text"),
        "- name: customer",
        "column customer has no description that says more",
    ),
    "an owner": (("  name: shop\n", "  description: Somebody.\n"), "team:", "no owner"),
    "freshness": (("latency", "availability"), "slaProperties:", "no freshness"),
    "retention": (("retention", "availability"), "slaProperties:", "no retention"),
    "frequency": (("frequency", "availability"), "slaProperties:", "no frequency"),
    "a source": (
        (orders_contract()[orders_contract().index("servers:") : orders_contract().index("customP")], ""),
        "apiVersion",
        "no source",
    ),
    "a transform": (
        ("raw.orders", "core.orders"),
        "servers:",
        "nothing makes orders: add transforms/orders.py",
    ),
    "who holds an option": (
        ("minimum: 0", "exclusiveMinimum: 0"),
        "exclusiveMinimum",
        "nothing holds exclusiveMinimum of column amount_euro",
    ),
    "who holds a quality rule": (
        ("Who ordered.", "Who ordered.\n        quality: [{type: library, metric: nullValues, mustBe: 0}]"),
        "quality:",
        "nothing holds this quality rule of column customer",
    ),
    "who holds a quality rule of the dataset": (
        (
            "    description: What was ordered.\n",
            "    description: What was ordered.\n    quality: [{type: library, metric: rowCount, mustBe: 5}]\n",
        ),
        "quality:",
        "nothing holds this quality rule of the dataset",
    ),
    "who masks a classification": (
        ("Who ordered.", "Who ordered.\n        classification: secret"),
        "classification:",
        "no mask is known for classification 'secret' of column customer; known are public, restricted, confidential",
    ),
    "what a column refers to": (
        ("Who ordered.", "Who ordered.\n        relationships: [{type: foreignKey, to: people.id}]"),
        "relationships:",
        "column customer refers to people.id, which no contract here has",
    ),
}


def agree(shop: Shop, *changes: tuple[str, str]) -> Path:
    text = orders_contract().replace("customProperties:\n", COMPLETE, 1)
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after, 1)
    path = shop.root / "schemas/orders.odcs.yaml"
    path.write_text(text)
    return path


#: What nobody can hold of a column whose values are sealed.
SEALED = {
    "be part of the key": ("primaryKey: true", "primaryKey: true\n        classification: confidential", "primaryKey"),
    "be unique": ("Who ordered.", "Who ordered.\n        classification: confidential\n        unique: true", "unique"),
    "name partitions": ("Day of the order.", "Day of the order.\n        classification: confidential", "partitioned"),
    "refer to another dataset": (
        "Who ordered.",
        "Who ordered.\n        classification: confidential\n        relationships: [{type: foreignKey, to: orders.paid}]",
        "relationships",
    ),
    "name tenants": (
        "Who ordered.",
        "Who ordered.\n        classification: confidential\n        tags: [tenant]",
        "tags",
    ),
}


@pytest.mark.parametrize("what", SEALED)
def test_a_sealed_column_is_asked_for_nothing_that_needs_its_values(shop: Shop, what: str) -> None:
    before, after, part = SEALED[what]
    text = agree(shop, (before, after)).read_text()
    at = text.index(f"{part}:", text.index("classification") - 200)
    found = house.check(shop.settings)
    assert [finding.place for finding in found] == [f"schemas/orders.odcs.yaml:{text[:at].count(chr(10)) + 1}"]
    assert f"is confidential, so its values are sealed and cannot {what}" in found[0].sentence


def test_nothing_refers_to_a_sealed_column(shop: Shop) -> None:
    agree(
        shop,
        ("Who ordered.", "Who ordered.\n        classification: confidential"),
        ("Price in euro.", "Price in euro.\n        relationships: [{type: foreignKey, to: orders.customer}]"),
    )
    (found,) = house.check(shop.settings)
    assert "refers to orders.customer, whose values are sealed and never alike" in found.sentence


def test_what_a_transform_makes_has_no_confidential_column(shop: Shop) -> None:
    agree(shop, ("raw.orders", "core.orders"), ("Who ordered.", "Who ordered.\n        classification: confidential"))
    (found,) = house.check(shop.settings)
    assert "what a transform makes is written in plain before it lands" in found.sentence


@pytest.mark.parametrize("case", FINDINGS)
def test_what_a_contract_lacks_is_found_with_its_line(shop: Shop, case: str) -> None:
    change, at, sentence = FINDINGS[case]
    text = agree(shop, change).read_text()
    line = text[: text.index(at)].count("\n") + 1
    found = house.check(shop.settings)
    assert [finding.place for finding in found] == [f"schemas/orders.odcs.yaml:{line}"]
    assert sentence in found[0].sentence


def test_a_complete_contract_has_no_findings(shop: Shop) -> None:
    agree(shop)
    assert house.check(shop.settings, ["orders"]) == []


def test_the_contracts_of_this_repository_keep_the_rules_of_the_house(settings: Settings) -> None:
    assert [str(finding) for finding in house.check(settings)] == []


def test_every_contract_has_a_producer_and_a_gate(settings: Settings) -> None:
    contracts, lineage = load_all(settings), Lineage(settings.project)
    assert len(contracts) >= 7
    for contract in contracts:
        producer = lineage.producer(contract)
        assert producer is not None, contract.dataset
        if contract.schema == "core":
            assert (settings.project / producer).is_file()
            known = {c.dataset for c in contracts}
            assert set(lineage.inputs(contract.dataset)) <= known, contract.dataset
        assert len(base_suite(contract)) > 1, f"{contract.dataset}: a gate needs more than `at least one row`"


def test_check_says_all_in_lines_and_fails(shop: Shop) -> None:
    agree(shop, ("Who ordered.", "text"))
    (shop.root / "schemas/broken.odcs.yaml").write_text("name: [")
    ended = run("contract", "check")
    assert ended.exit_code == 1
    lines = ended.output.splitlines()
    assert lines[0].startswith("schemas/broken.odcs.yaml:2: not valid YAML")
    assert lines[1].startswith("schemas/orders.odcs.yaml:")
    assert len(lines) == 2


def test_check_is_content_when_tables_and_derived_files_agree(shop: Shop) -> None:
    agree(shop)
    assert run("contract", "docs").exit_code == 0
    shop.ingest(orders(1, 2))
    ended = run("contract", "check", "orders")
    assert (ended.exit_code, ended.output) == (
        0,
        "1 contracts are sound, and what is derived from them is current\n",
    )


def test_check_compares_the_tables_of_the_warehouse(shop: Shop) -> None:
    agree(shop)
    shop.ingest(orders(1, 2))
    agree(
        shop,
        ("version: 1.0.0", "version: 1.1.0"),
        ("required: true\n        logicalTypeOptions", "logicalTypeOptions"),
    )
    run("contract", "docs")
    assert run("contract", "check").exit_code == 0
    agree(shop, ("required: true\n        logicalTypeOptions", "logicalTypeOptions"))
    run("contract", "docs")
    assert "still calls itself 1.0.0, as raw.orders does" in run("contract", "check").output.replace("\n", " ")
    agree(shop, ("version: 1.0.0", "version: 2.0.0"), ("name: paid", "name: settled"))
    run("contract", "docs")
    ended = run("contract", "check")
    assert ended.exit_code == 1
    assert "version 2.0.0 drops column paid (renames it to settled)" in ended.output


def test_check_without_a_warehouse_says_that_it_did_not_look(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    agree(shop)
    run("contract", "docs")
    for address in ("postgresql://nobody@127.0.0.1:1/none", ""):
        monkeypatch.setenv("TIDEGATE_WAREHOUSE_URL", address)
        if not address:
            monkeypatch.delenv("TIDEGATE_WAREHOUSE_URL")
        from tidegate.settings import get_settings

        get_settings.cache_clear()
        ended = run("contract", "check")
        assert ended.exit_code == 0
        assert ended.output.startswith("tables were not compared: ")


def test_apply_says_what_it_would_do_does_it_and_has_nothing_left_to_do(shop: Shop) -> None:
    agree(shop)
    assert run("contract", "apply").output == "orders: nothing is published yet\n"
    shop.ingest(orders(1, 2))
    agree(shop, ("version: 1.0.0", "version: 1.1.0"), ("Who ordered.\n        required: true", "Who ordered."))
    told = run("contract", "apply", "--dry-run", "orders").output
    assert told == "orders: would let column customer be empty\n"
    assert "orders: let column customer be empty\n" in run("contract", "apply").output
    assert run("contract", "apply").output == "orders: the table is as version 1.1.0 asks\n"
    assert shop.numbers() == [1, 2]
    agree(shop, ("version: 1.0.0", "version: 2.0.0"), ("name: paid", "name: settled"))
    assert run("contract", "apply").exit_code == 1
