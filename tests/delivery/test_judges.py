"""Who judges what: every target and criterion has a gate with a figure that a probe really has, or a reason why not."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest
from tests.delivery.filling import fill
from tests.delivery.originals import ROOT, STRATEGIES, original

from tidegate.evidence.probes import ALL
from tidegate.strategy import draft, read
from tidegate.strategy.gate import Gate
from tidegate.strategy.judges import ALERTS, MEASURES, Judge, Waiver, judged
from tidegate.strategy.quantity import UNITS

JUDGES = sorted({judge for known in (*MEASURES, *ALERTS) for judge in known.judges}, key=str)
MEASURED = [judge for judge in JUDGES if judge.probe]


def shown(path: Path) -> dict[str, set[tuple[str, str]]]:
    """Return, by what a line begins with, the gates and figures that judge it."""
    found: dict[str, set[tuple[str, str]]] = {}
    for one in judged(read(path)):
        gate = one.judge.gate.value if one.judge.gate else ""
        figure = f"{one.judge.probe}.{one.judge.figure}" if one.judge.probe else ""
        found.setdefault(one.text, set()).add((gate, figure))
    return found


def test_the_gates_are_those_of_the_team_document() -> None:
    text = original("database-team.md").read_text()
    section = text[text.index("\n## 13. ") : text.index("\n## 14. ")]
    assert [gate.value for gate in Gate] == re.findall(r"^\| (?!Gate |-)([^|]+?) \|", section, re.M)


@pytest.mark.parametrize("judge", MEASURED, ids=lambda judge: f"{judge.probe}.{judge.figure}")
def test_every_figure_is_one_that_its_probe_writes(judge: Judge) -> None:
    (probe,) = [probe for probe in ALL if probe.name == judge.probe]
    module = sys.modules[probe.run.__module__]
    named = re.findall(r'"(\w+)"', inspect.getsource(module))
    # Names are put together from a load and what pgbench or the pool says; Redis's figures are read a module further.
    put_together = re.findall(
        r'f"\{name\}_(\w+)"|"(failed|tps)"', inspect.getsource(sys.modules["tidegate.evidence.availability"])
    )
    parts = {part for pair in put_together for part in pair} | {"failed"}
    below = (
        re.findall(r'"(\w+)"', inspect.getsource(sys.modules["tidegate.evidence.redis"]))
        if probe.name.startswith("redis")
        else []
    )
    timing = ["p50_ms", "p95_ms", "p99_ms"] if probe.name == "explain" else []
    known = {*named, *below, *timing, *(f"{load}_{part}" for load in ("normal", "saturated") for part in parts)}
    assert judge.figure in known


@pytest.mark.parametrize("judge", JUDGES, ids=str)
def test_a_judge_has_something_to_hold_a_figure_against_or_a_reason(judge: Judge) -> None:
    if judge.probe:
        assert judge.gate
        assert judge.figure
        assert bool(judge.needs) != (judge.unit is not None)
        assert judge.unit is None or judge.unit in UNITS
        assert not judge.missing
    else:
        assert len(judge.missing) > 10


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_that_is_given_is_unknown(name: str) -> None:
    strategy = read(original(name))
    found = judged(strategy)
    assert [one.text for one in found if not one.measure] == []
    assert {one.line for one in found} >= {one.entry.line for one in strategy.success.launch}
    numbers = {(target.line, target.subject) for target in strategy.targets}
    assert {(one.line, one.target.subject) for one in found if one.target} >= numbers


def test_our_own_targets_go_to_the_gates_that_can_judge_them() -> None:
    rows = shown(ROOT / "strategies" / "database.md")
    expected = {
        "Query response P95": {("Query Performance Gate", "explain.p95_ms")},
        "Connection pool utilization": {("Load Test Gate", "pool_stress.normal_utilisation")},
        "Replication lag": {("Failover Gate", "replication.lag_seconds")},
        "Backup RTO": {("QA Pass", "backup_restore.rto_seconds")},
        "RTO": {("QA Pass", "backup_restore.rto_seconds"), ("Failover Gate", "pg_failover.outage_seconds")},
        "RPO": {("QA Pass", "backup_restore.rpo_seconds")},
        "Row-level security keeps": {("Data Compliance Gate", "rls_verification.foreign_rows_seen")},
        "100% migration rollback": {
            ("Migration Reversibility Gate", "migration_each.schema_lines_that_differ"),
            ("Migration Reversibility Gate", "migration_full_chain.tables_that_differ"),
        },
        "All P0 schema": {("Schema Validation Gate", "ddl_syntax.failed"), ("pgTAP Test Gate", "pgtap.failed")},
        "No secret": {("No Secrets Gate", "gitleaks.leaks"), ("No Secrets Gate", "gitleaks_full.leaks")},
        "Zero CRITICAL": {("QA Pass", "pip_audit.vulnerabilities")},
    }
    for beginning, judges in expected.items():
        (found,) = [who for text, who in rows.items() if text.startswith(beginning)]
        assert found == judges, beginning


def strategy_with(tmp_path: Path, old: str, new: str) -> Path:
    path = tmp_path / "strategy.md"
    text = fill(draft.text("databaseEng"))
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_a_sentence_that_no_gate_knows_is_judged_by_nobody(tmp_path: Path) -> None:
    path = strategy_with(tmp_path, "- [ ] Every index says why it is there", "- [ ] The lighthouse is painted")
    (one,) = [one for one in judged(read(path)) if "lighthouse" in one.text]
    assert (one.measure, one.judge.gate, one.judge.probe) == ("", None, "")
    assert "only a person can judge it" in one.judge.missing


def test_a_sentence_without_a_number_does_not_pass_by_a_figure_that_needs_one(tmp_path: Path) -> None:
    path = strategy_with(tmp_path, "- [ ] Query P95 < 50ms under load", "- [ ] Query P95 is good")
    (one,) = [one for one in judged(read(path)) if "is good" in one.text]
    assert (one.judge.probe, one.judge.missing) == (
        "",
        "it states no number for p95_ms of the probe explain: write one",
    )


def test_the_words_of_a_waiver_name_nothing_that_is_judged(tmp_path: Path) -> None:
    line = (
        "- [ ] Documentation is complete (waived by Ada: whoever approves the deployment, and its coverage, reads it)"
    )
    path = strategy_with(tmp_path, "- [ ] Every index says why it is there", line)
    (one,) = [one for one in judged(read(path)) if one.text.startswith("Documentation is")]
    assert (one.text, one.measure) == ("Documentation is complete", "documentation")
    assert one.waiver == Waiver("Ada", "whoever approves the deployment, and its coverage, reads it")


def test_a_sentence_about_two_things_is_judged_by_both(tmp_path: Path) -> None:
    path = strategy_with(
        tmp_path, "- [ ] Every index says why it is there", "- [ ] Indexes have reasons, and no secret is committed"
    )
    assert {one.judge.probe for one in judged(read(path)) if "reasons" in one.text} == {
        "index_usage",
        "gitleaks",
        "gitleaks_full",
    }
