"""What a gate says of a batch, what it rests on, and what follows from it."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.conftest import CHECKOUT
from tests.contracts.command import run
from tests.shop import MARCH, Shop, orders

from tidegate.errors import BusyError, ContractError, HeldError, UsageError
from tidegate.gates.expectations import domain_suite
from tidegate.gates.judge import judge
from tidegate.gates.verdict import worst
from tidegate.ingest.land import land
from tidegate.ingest.stage import stage
from tidegate.stores.postgres import connect, exclusive

SUITE = """\
# What an order is, beyond its columns.
expectations:
  - name: nobody is called {name}
    type: unexpected_rows_expectation
    severity: {severity}
    kwargs:
      unexpected_rows_query: SELECT 1 FROM {{batch}} WHERE customer = '{name}'

  - name: weights are few
    type: expect_column_distinct_values_to_be_in_set
    severity: warning
    kwargs: {{column: weight_kg, value_set: [0.5, 12.25]}}

  - name: nothing weighs much
    type: expect_column_max_to_be_between
    severity: warning
    kwargs: {{column: weight_kg, max_value: 100}}
"""


def suite(shop: Shop, severity: str = "critical", name: str = "Eve", text: str | None = None) -> Path:
    path = shop.root / "expectations/orders.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text or SUITE.format(severity=severity, name=name))
    return path


def verdicts(shop: Shop, where: str = "true") -> list[dict[str, Any]]:
    return shop.query(f"SELECT * FROM ops.verdict WHERE {where} ORDER BY verdict_id")


def test_every_verdict_has_value_target_place_version_and_evidence(shop: Shop) -> None:
    suite(shop, severity="warning", name="Ada")
    shop.agree(share=0.5)
    shop.ingest([*MARCH, "4,2024-03-04,Eve,-1,,true,"])
    shop.ingest(orders(10, 12, "2024-04"), "2024-04", "april.csv")
    found = verdicts(shop)
    assert {v["gate"] for v in found} == {
        "contract", "reconciliation", "expectations.contract", "expectations.domain", "published keys"
    }  # fmt: skip
    assert {v["verdict"] for v in found} == {"PASS", "WARN"}
    evidence = {row["evidence_sha256"]: row for row in shop.query("SELECT * FROM ops.evidence")}
    for verdict in found:
        assert verdict["value"], verdict
        assert verdict["target"], verdict
        name, _, line = verdict["target_source"].rpartition(":")
        own = name.startswith("src/")
        lines = ((CHECKOUT if own else shop.root) / name).read_text().splitlines()
        assert lines[int(line) - 1].strip(), verdict
        assert own == (verdict["gate"] == "reconciliation"), verdict
        if own:
            assert lines[int(line) - 1].startswith("def "), verdict
            assert verdict["rule_set_version"] == version("tidegate")
        elif verdict["gate"].startswith("expectations."):
            assert verdict["rule_set_version"] != "1.0.0"
        else:
            assert verdict["rule_set_version"] == "1.0.0"
        file = Path(evidence[verdict["evidence_sha256"]]["path"])
        assert hashlib.sha256(file.read_bytes()).hexdigest() == verdict["evidence_sha256"], verdict
    placed = {v["rule"]: v["target_source"] for v in found if v["gate"] == "expectations.domain"}
    assert placed == {
        "nobody is called Ada": "expectations/orders.yaml:3",
        "weight_kg: column distinct values to be in set": "expectations/orders.yaml:9",
        "weight_kg: column max to be between": "expectations/orders.yaml:14",
    }
    assert {row["kind"] for row in evidence.values()} == {"great_expectations", "count"}


def test_a_failing_domain_rule_holds_the_batch_and_a_warning_publishes_it(shop: Shop) -> None:
    shop.ingest(MARCH)
    before = shop.checksum()
    suite(shop)
    file = shop.file(["7,2024-03-07,Eve,1,,true,", "8,2024-03-08,Eve,1,0.5,true,"], "eve.csv")
    held = run("ingest", "orders", "--partition", "2024-03", "--file", str(file))
    assert held.exit_code == 1
    told = " ".join(held.output.split())
    assert "is held: nobody is called Eve: 2 rows, expected nobody is called Eve" in told
    assert "Published data is as it was" in told
    assert "then `tidegate batch release` or `reject`, with --why" in told
    assert (shop.checksum(), shop.states()) == (before, ["published", "held"])
    assert len(shop.staging()) == 1

    suite(shop, severity="warning")
    shop.ingest(["9,2024-04-01,Eve,1,120.75,true,"], "2024-04", "april.csv")
    assert shop.numbers() == [1, 2, 3, 9]
    warned = verdicts(shop, "partition = '2024-04' AND verdict <> 'PASS'")
    assert [(v["verdict"], v["value"]) for v in warned] == [
        ("WARN", "1 rows"),
        ("WARN", "1 unexpected"),
        ("WARN", "120.75"),
    ]
    assert "WARN" in run("batch", "show", warned[0]["subject"]).output


def test_the_version_of_a_suite_is_that_of_what_it_decides(shop: Shop) -> None:
    def version() -> str:
        found = domain_suite(shop.root, "orders")
        assert found is not None
        return found.version

    path = suite(shop)
    first = version()
    path.write_text("# Another remark.\n\n" + path.read_text())
    assert version() == first
    seen = {first}
    for change in (
        ("critical", "warning"),
        ("Eve'", "Mallory'"),
        ("[0.5,", "[0.6,"),
        ("weights are few", "few weights"),
    ):
        path.write_text(path.read_text().replace(*change))
        seen.add(version())
    assert len(seen) == 5
    assert domain_suite(shop.root, "nothing") is None


def test_rows_that_changed_behind_the_check_are_found_by_the_gate(shop: Shop) -> None:
    """The gate trusts no earlier step: it counts and judges what stands in staging."""
    contract = shop.contract
    batch = land(shop.settings, contract, "2024-03", shop.file(orders(1, 4)))
    landed = Path(batch.landing_url.removeprefix("file:"))
    rows = pq.read_table(landed)
    amounts = rows.column("amount_euro").to_pylist()
    amounts[0] = -amounts[0]
    landed.chmod(0o644)
    changed = rows.set_column(3, "amount_euro", [amounts])
    pq.write_table(changed.cast(rows.schema).slice(0, 3), landed)
    stage(shop.settings, contract, batch.batch_id)
    held = judge(shop.settings, contract, batch.batch_id)
    assert held.state == "held"
    failed = verdicts(shop, "verdict = 'FAIL'")
    assert {(v["gate"], v["value"], v["target"]) for v in failed} == {
        ("reconciliation", "3", "4"),
        ("expectations.contract", "1 of 3 rows", "amount_euro >= 0"),
    }
    assert "rows staged = rows accepted: 3, expected 4" in str(held.held_reason)


def test_a_key_that_is_published_in_another_partition_holds_the_batch(shop: Shop) -> None:
    shop.ingest(orders(1, 5))
    with pytest.raises(HeldError, match=r"\(order_id\) is not published in another partition: 2 of 4 rows, expected 0"):
        shop.ingest(orders(4, 7, "2024-04"), "2024-04", "april.csv")
    assert shop.numbers() == [1, 2, 3, 4, 5]
    # The partition's own rows are no others: a correction may deliver them again.
    shop.ingest(orders(1, 6))
    assert shop.numbers() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("expectations: []\n", "suite domain of .* is empty: a gate without a rule cannot pass anything"),
        ("expectations:\n  - {type: expect_column_to_exist}\n", "expected `expectations:` with name, type, kwargs"),
        ("expectations: [\n", "expected `expectations:` with name"),
        ("# Nothing yet.\n", "expected `expectations:` with name"),
        (
            "expectations:\n  - {name: d, type: expect_column_values_to_be_unique, kwargs: {}}\n",
            r"orders\.yaml:2: .* field required",
        ),
        (
            "expectations:\n  - {name: a, type: expect_the_unknown, kwargs: {}}\n",
            r"orders\.yaml:2: .*expect_the_unknown",
        ),
        (
            "expectations:\n  - {name: b, type: expect_column_values_to_be_unique, kwargs: {column: none}}\n",
            r"expectations/orders\.yaml:2: expect_column_values_to_be_unique could not be judged",
        ),
        (
            "expectations:\n  - name: c\n    type: unexpected_rows_expectation\n"
            "    kwargs: {unexpected_rows_query: 'SELECT nonsense FROM {batch}'}\n",
            r"expectations/orders\.yaml:2: unexpected_rows_expectation could not be judged",
        ),
    ],
)
def test_a_suite_that_cannot_judge_is_an_error_and_no_pass(shop: Shop, text: str, sentence: str) -> None:
    suite(shop, text=text)
    with pytest.raises(ContractError, match=sentence):
        shop.ingest(MARCH)
    assert shop.states() == ["staged"]
    # Once the suite is repaired, the same delivery goes on where it stopped.
    suite(shop)
    shop.ingest(MARCH)
    assert shop.numbers() == [1, 2, 3]


def test_only_what_is_staged_is_judged_and_only_once(shop: Shop) -> None:
    contract = shop.contract
    batch = land(shop.settings, contract, "2024-03", shop.file(MARCH))
    with pytest.raises(UsageError, match="is not staged yet"):
        judge(shop.settings, contract, batch.batch_id)
    stage(shop.settings, contract, batch.batch_id)
    with (
        connect(shop.settings) as other,
        exclusive(other, f"batch {batch.batch_id}"),
        pytest.raises(BusyError, match="is being worked on by another process"),
    ):
        judge(shop.settings, contract, batch.batch_id)
    assert judge(shop.settings, contract, batch.batch_id).state == "judged"
    counted = len(verdicts(shop))
    assert judge(shop.settings, contract, batch.batch_id).state == "judged"
    assert len(verdicts(shop)) == counted


def test_no_verdict_is_no_objection() -> None:
    assert worst([]) == "PASS"
