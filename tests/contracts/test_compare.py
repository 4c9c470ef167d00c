"""What a change of a contract means to those who read the dataset and to those who deliver it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.contracts.command import run
from tests.shop import orders_contract

from tidegate.contracts.compare import HOUSE_RULES, Comparison, compare

NOTE = "      - name: note\n        logicalType: string\n        physicalType: text\n        description: Words.\n"
CUSTOMER = "        description: Who ordered.\n        required: true\n"
LATENCY = "slaProperties:\n  - property: latency\n    value: {}\n    unit: d\n"

#: What changes, the rule that finds it, its level for consumers, for producers.
CASES: dict[str, tuple[list[tuple[str, str]], str, str, str]] = {
    "a column that may be empty": (
        [("      - name: paid\n", NOTE + "      - name: paid\n")],
        "nullable-property-added",
        "compatible",
        "compatible",
    ),
    "a column that is never empty": (
        [("      - name: paid\n", NOTE + "        required: true\n      - name: paid\n")],
        "property-added-or-removed",
        "compatible",
        "breaking",
    ),
    "a column dropped": (
        [
            (
                "      - name: customer\n        logicalType: string\n        physicalType: text\n" + CUSTOMER,
                "",
            )
        ],
        "property-added-or-removed",
        "breaking",
        "compatible",
    ),
    "a column renamed": ([("name: customer", "name: buyer")], "property-renamed", "breaking", "breaking"),
    "a column retyped": (
        [
            (
                "logicalType: boolean\n        physicalType: boolean",
                "logicalType: string\n        physicalType: text",
            )
        ],
        "type-changed",
        "breaking",
        "breaking",
    ),
    "a type narrowed": (
        [("physicalType: bigint", "physicalType: integer")],
        "type-changed",
        "breaking",
        "breaking",
    ),
    "a type widened": ([("numeric(12,2)", "numeric(14,2)")], "type-widened", "warning", "compatible"),
    "a type spelled otherwise": (
        [("physicalType: bigint", "physicalType: int8")],
        "type-widened",
        "compatible",
        "compatible",
    ),
    "never empty any more": (
        [(CUSTOMER, CUSTOMER.replace("true", "false"))],
        "required-changed",
        "warning",
        "compatible",
    ),
    "never empty from now on": (
        [("Weight in kilograms.", "Weight in kilograms.\n        required: true")],
        "required-changed",
        "compatible",
        "breaking",
    ),
    "a range narrowed": (
        [("minimum: 0", "minimum: 1")],
        "validation-constraint-changed",
        "compatible",
        "breaking",
    ),
    "a range widened": (
        [("minimum: 0", "minimum: -5")],
        "validation-constraint-changed",
        "warning",
        "compatible",
    ),
    "a set widened": ([("[a, b]", "[a, b, c]")], "quality-constraint-changed", "warning", "compatible"),
    "a set narrowed": ([("[a, b]", "[a]")], "quality-constraint-changed", "compatible", "breaking"),
    "a longer key": (
        [("Who ordered.", "Who ordered.\n        primaryKey: true\n        primaryKeyPosition: 2")],
        "key-constraint-changed",
        "breaking",
        "breaking",
    ),
    "unique no more": (
        [("unique: true", "unique: false")],
        "unique-constraint-changed",
        "breaking",
        "compatible",
    ),
    "no partitions": (
        [("partitioned: true", "partitioned: false")],
        "partition-changed",
        "breaking",
        "breaking",
    ),
    "another grain": (
        [
            (
                "partitioned: true",
                "partitioned: true\n        customProperties: [{property: partitionGrain, value: day}]",
            )
        ],
        "partition-changed",
        "breaking",
        "breaking",
    ),
    "the same grain, spelled out": (
        [
            (
                "partitioned: true",
                "partitioned: true\n        partitionKeyPosition: 1\n"
                "        customProperties: [{property: partitionGrain, value: month}]",
            )
        ],
        "partition-changed",
        "compatible",
        "compatible",
    ),
    "a column at the end": (
        [("mustBe: 0\n", "mustBe: 0\n" + NOTE)],
        "nullable-property-added",
        "compatible",
        "compatible",
    ),
    "one source more": (
        [("customProperties:\n", "  - {server: other, type: local, path: x.csv}\ncustomProperties:\n")],
        "metadata-or-unknown-change",
        "compatible",
        "compatible",
    ),
    "a remark of the house": (
        [("    value: 0.25\n", "    value: 0.25\n  - {property: remark, value: new}\n")],
        "metadata-or-unknown-change",
        "compatible",
        "compatible",
    ),
    "where a promise is felt": (
        [("    unit: d\n", "    unit: d\n    element: orders.ordered_on\n")],
        "metadata-or-unknown-change",
        "compatible",
        "compatible",
    ),
    "another file format": ([("format: csv", "format: parquet")], "source-changed", "compatible", "breaking"),
    "fewer rows refused": (
        [("value: 0.25", "value: 0.1")],
        "refused-share-changed",
        "compatible",
        "breaking",
    ),
    "more rows refused": ([("value: 0.25", "value: 0.5")], "refused-share-changed", "warning", "compatible"),
    "later": ([("value: 2\n    unit: d", "value: 3\n    unit: d")], "promise-changed", "warning", "warning"),
    "personal from now on": (
        [("Who ordered.", "Who ordered.\n        classification: restricted")],
        "classification-changed",
        "warning",
        "warning",
    ),
    "sealed from now on": (
        [("Who ordered.", "Who ordered.\n        classification: confidential")],
        "classification-changed",
        "breaking",
        "breaking",
    ),
    "another table": ([("raw.orders", "core.orders")], "physical-name-changed", "breaking", "breaking"),
    "better words": (
        [("Who ordered.", "Who paid.")],
        "metadata-or-unknown-change",
        "compatible",
        "compatible",
    ),
}


def text(version: str = "1.0.0") -> str:
    choice = (
        "\n        unique: true\n        quality:\n          - type: library\n            metric: invalidValues\n"
        "            arguments: {validValues: [a, b]}\n            mustBe: 0\n"
    )
    whole = orders_contract(share=0.25, version=version)
    head, _, tail = whole.partition("        description: When it left the house.\n")
    code = NOTE.replace("note", "code").rstrip("\n") + choice
    whole = head + "        description: When it left the house.\n" + code + tail
    return whole.replace("customProperties:\n", LATENCY.format(2) + "customProperties:\n", 1)


def changed(pairs: list[tuple[str, str]], version: str = "9.0.0") -> str:
    whole = text(version)
    for before, after in pairs:
        assert whole.count(before) == 1, before
        whole = whole.replace(before, after)
    return whole


def compared(pairs: list[tuple[str, str]], version: str = "9.0.0") -> Comparison:
    return compare(Path("old.yaml"), text(), Path("new.yaml"), changed(pairs, version))


@pytest.mark.parametrize("case", CASES)
def test_each_change_is_found_by_its_rule_and_graded_for_either_side(case: str) -> None:
    pairs, rule, consumers, producers = CASES[case]
    found = [change for change in compared(pairs).changes if change.rule == rule]
    assert (found[0].consumers, found[0].producers) == (consumers, producers)


def test_every_rule_of_the_house_has_a_case() -> None:
    assert {rule.rule_id for rule in HOUSE_RULES} <= {case[1] for case in CASES.values()}


@pytest.mark.parametrize(
    ("case", "enough", "too_low"),
    [
        ("a column dropped", "2.0.0", "1.9.9"),
        ("a range narrowed", "2.0.0", "1.1.0"),
        ("a column that may be empty", "1.1.0", "1.0.1"),
        ("a type widened", "1.1.0", "1.0.9"),
        ("better words", "1.0.1", "1.0.0"),
    ],
)
def test_the_version_rises_as_the_change_asks(case: str, enough: str, too_low: str) -> None:
    pairs = CASES[case][0]
    assert "version-not-raised" not in {change.rule for change in compared(pairs, enough).changes}
    assert "version-not-raised" in {change.rule for change in compared(pairs, too_low).changes}


def test_better_words_under_an_old_version_do_not_break_anybody() -> None:
    assert not compared(CASES["better words"][0], "1.0.0").breaking


def test_the_same_contract_has_no_changes() -> None:
    assert compared([], "1.0.0").changes == ()


def test_the_gravest_change_comes_first() -> None:
    both = CASES["better words"][0] + CASES["a range narrowed"][0]
    assert [change.level for change in compared(both).changes] == ["breaking", "compatible"]


def test_the_command_compares_a_git_revision_with_a_file_and_fails_when_breaking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_PROJECT", str(tmp_path))
    file = tmp_path / "schemas/orders.odcs.yaml"
    file.parent.mkdir()
    file.write_text(text())
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)

    file.write_text(changed(CASES["a type widened"][0], "1.1.0"))
    compatible = run("contract", "diff", "HEAD:schemas/orders.odcs.yaml", str(file))
    assert compatible.exit_code == 0
    assert compatible.output.endswith("1.0.0 → 1.1.0: compatible\n")

    file.write_text(changed(CASES["a column dropped"][0], "2.0.0"))
    breaking = run("contract", "diff", "--json", "HEAD:schemas/orders.odcs.yaml", str(file))
    assert breaking.exit_code == 1
    told = json.loads(breaking.output)
    assert (told["breaking"], told["changes"][0]["rule"]) == (True, "property-added-or-removed")
    assert told["changes"][0]["message"] == "Removed property customer"


def test_a_revision_that_does_not_exist_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_PROJECT", str(tmp_path))
    refused = run("contract", "diff", "HEAD:schemas/none.yaml", "other.yaml")
    assert refused.exit_code == 1
    assert "no contract at HEAD:schemas/none.yaml" in refused.output
