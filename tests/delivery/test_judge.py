"""Gates: evidence and target make a verdict; what was not measured does not pass, and nobody but a person lets it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tests.delivery.originals import ROOT

from tidegate.delivery import team
from tidegate.delivery.judge import Case, hash_of_rule, judge, may_change, name_of_rule, waiver_of
from tidegate.delivery.ledger import Approval, Done, Exhibit
from tidegate.delivery.manifest import Finding
from tidegate.gates.verdict import Verdict, worst
from tidegate.strategy import read
from tidegate.strategy.gate import Gate

NOW = datetime(2026, 11, 21, tzinfo=UTC)
TEAM = team.read(ROOT / "teams" / "database.yaml")
STRATEGY = read(ROOT / "strategies" / "database.md")
CASE = Case(TEAM, STRATEGY)


def exhibit(probe: str, sha256: str | None = "e" * 64, reason: str | None = None, **figures: Any) -> Exhibit:
    return Exhibit("2", "PG", 1, probe, f"{probe}.log" if sha256 else "", sha256, reason, figures, NOW)


def done(role: str, wave: str, artifacts: dict[str, str], state: Any = "done", reason: str | None = None) -> Done:
    return Done(wave, role, 1, state, artifacts, reason, NOW, NOW)


def decided(kind: Any, sha256: str, decision: Any = "approve", subject: str = "x") -> Approval:
    return Approval(kind, subject, sha256, decision, "Ada", "read it", NOW)


def rule(said: list[Verdict], name: str) -> Verdict:
    return next(one for one in said if one.rule.startswith(name))


def test_a_figure_within_its_target_passes_and_names_its_evidence_and_line() -> None:
    said = rule(
        judge(Gate.PGTAP, replace(CASE, exhibits=(exhibit("pgtap", failed=0, flaky=False, tests=9),))), "pgtap failed"
    )
    assert (said.verdict, said.value, said.target, said.evidence_sha256) == ("PASS", "0 (pgtap.log)", "= 0", "e" * 64)
    file, _, line = said.target_source.partition(":")
    assert (ROOT / file).read_text().splitlines()[int(line) - 1].strip() == "- pgtap failed = 0"


def test_a_target_of_the_strategy_is_held_in_its_own_unit() -> None:
    slow = judge(Gate.QUERY, replace(CASE, exhibits=(exhibit("explain", p95_ms=50.0, unintended_whole_reads=[]),)))
    fast = judge(Gate.QUERY, replace(CASE, exhibits=(exhibit("explain", p95_ms=49.9, unintended_whole_reads=[]),)))
    assert (rule(slow, "query P95, line").verdict, rule(fast, "query P95, line").verdict) == ("FAIL", "PASS")
    assert rule(slow, "query P95, line").target_source == f"{STRATEGY.path}:92"


def test_of_several_files_the_one_that_is_farthest_off_speaks() -> None:
    files = (
        replace(exhibit("explain", p95_ms=900.0), path="a", sha256="a" * 64),
        replace(exhibit("explain", p95_ms=60.0), path="b", sha256="b" * 64),
        replace(exhibit("explain", p95_ms=1.0), path="c", sha256="c" * 64),
    )
    said = rule(judge(Gate.QUERY, replace(CASE, exhibits=files)), "query P95, line")
    assert (said.verdict, said.value, said.evidence_sha256) == ("FAIL", "900 ms (a), and 1 more", "a" * 64)


def test_a_list_that_must_be_empty_counts_its_entries_and_a_truth_is_one() -> None:
    said = judge(
        Gate.QUERY, replace(CASE, exhibits=(exhibit("explain", unintended_whole_reads=["raw.flights"], p95_ms=1),))
    )
    assert rule(said, "explain unintended_whole_reads").verdict == "FAIL"
    flaky = judge(Gate.PGTAP, replace(CASE, exhibits=(exhibit("pgtap", failed=0, flaky=True, tests=9),)))
    assert rule(flaky, "pgtap flaky").verdict == "FAIL"


@pytest.mark.parametrize(
    ("taken", "told"),
    [
        ((), "not measured: the probe pgtap was not run for this delivery"),
        ((exhibit("pgtap", tests=3),), "not measured: the probe pgtap has no figure failed"),
        ((exhibit("pgtap", None, "pg_prove is not installed"),), "not measured: pg_prove is not installed"),
    ],
)
def test_what_was_not_measured_does_not_pass(taken: tuple[Exhibit, ...], told: str) -> None:
    said = rule(judge(Gate.PGTAP, replace(CASE, exhibits=taken)), "pgtap failed")
    assert (said.verdict, said.value) == ("FAIL", told)


@given(gate=some.sampled_from(list(Gate)))
def test_no_gate_passes_on_nothing_at_all(gate: Gate) -> None:
    assert worst(judge(gate, CASE)) == "FAIL"


def test_the_strategy_may_excuse_what_nothing_measures_but_not_what_is_measured() -> None:
    unmeasured = rule(judge(Gate.QA, CASE), "coverage, line")
    assert unmeasured.verdict == "WARN"
    assert "waived in the strategy by the maintainers" in unmeasured.value
    measured = rule(judge(Gate.QA, replace(CASE, exhibits=(exhibit("coverage", percent=12.0),))), "coverage, line")
    assert measured.verdict == "FAIL"


def test_what_no_probe_measures_is_no_reason_for_a_role_to_work_again(tmp_path: Path) -> None:
    text = (ROOT / "strategies" / "database.md").read_text()
    criterion = "- [ ] No secret is in any commit\n"
    assert criterion in text
    path = tmp_path / "strategy.md"
    path.write_text(text.replace(criterion, f"{criterion}- [ ] Documentation is complete\n"))
    said = judge(Gate.ENGINEERING, replace(CASE, strategy=read(path)))
    assert may_change(rule(said, "artifacts of PG"))
    assert not may_change(rule(said, "documentation, line"))


def test_a_waiver_that_names_a_measure_excuses_no_other_of_its_sentence() -> None:
    line = STRATEGY.testing.coverage.entry.line
    migrations = [v for v in judge(Gate.MIGRATION, CASE) if v.target_source.endswith(f":{line}")]
    assert migrations
    assert {one.verdict for one in migrations} == {"FAIL"}


def test_a_waiver_is_for_the_rule_as_it_failed() -> None:
    case = replace(CASE, exhibits=(exhibit("pgtap", failed=2, flaky=False, tests=9),))
    failed = rule(judge(Gate.PGTAP, case), "pgtap failed")
    waiver = decided("waiver", hash_of_rule(failed), subject=name_of_rule(failed))
    let_pass = rule(judge(Gate.PGTAP, replace(case, approvals=(waiver,))), "pgtap failed")
    assert let_pass.verdict == "WARN"
    assert "waived by Ada: read it" in let_pass.value
    worse = replace(case, exhibits=(exhibit("pgtap", failed=3, flaky=False, tests=9),), approvals=(waiver,))
    assert rule(judge(Gate.PGTAP, worse), "pgtap failed").verdict == "FAIL"
    assert waiver_of(failed, [waiver]) == waiver
    assert waiver_of(rule(judge(Gate.PGTAP, worse), "pgtap failed"), [waiver]) is None


def test_an_artifact_must_lie_there_as_it_was_made() -> None:
    paths = TEAM.roles["PM"].artifacts["1"]
    made = (done("PM", "1", dict.fromkeys(paths, "a")),)
    whole = dict.fromkeys(paths, "a") | {"KANBAN.md": "k"}
    assert worst(judge(Gate.PLANNING, replace(CASE, work=made, files=whole))) == "PASS"
    assert (
        "is missing"
        in rule(judge(Gate.PLANNING, replace(CASE, work=made, files={"KANBAN.md": "k"})), "artifacts of PM").value
    )
    edited = replace(CASE, work=made, files=whole | {paths[0]: "b"})
    assert rule(judge(Gate.PLANNING, edited), "artifacts of PM").value == f"{paths[0]} was changed by hand"


def test_a_role_without_work_is_told_of_and_keeps_nobody() -> None:
    idle = (done("NOSQL", "2", {}, "skipped", "no MongoDB"),)
    said = rule(judge(Gate.ENGINEERING, replace(CASE, work=idle)), "artifacts of NOSQL")
    assert (said.verdict, said.value) == ("WARN", "none: no MongoDB")


def test_a_manifest_that_does_not_hold_refuses_and_what_could_not_be_measured_is_told() -> None:
    roles = [code for code, role in TEAM.roles.items() if "2" in role.evidence]
    case = replace(CASE, work=tuple(done(code, "2", {}) for code in roles))
    assert worst(judge(Gate.EVIDENCE, case)) == "PASS"
    edited = Finding("PG_manifest.md", "pg/version.log", "the file has changed since")
    assert rule(judge(Gate.EVIDENCE, replace(case, manifests=(edited,))), "manifest of PG").verdict == "FAIL"
    missing = replace(edited, missing=True, told="could not run: no Redis")
    assert rule(judge(Gate.EVIDENCE, replace(case, manifests=(missing,))), "manifest of PG").verdict == "WARN"


def test_qa_passes_only_when_all_gates_of_its_wave_have_and_it_is_signed() -> None:
    others = [gate for gate, rules in TEAM.gates.items() if rules.wave == "3" and gate is not Gate.QA]
    passed = tuple(Verdict(gate.value, "r", "PASS", "", "", "", "1") for gate in others)
    case = replace(CASE, verdicts=passed, signed={"qa/QA_SIGNOFF.md": True})
    echoes = [rule(judge(Gate.QA, case), gate.value) for gate in others]
    assert worst([*echoes, rule(judge(Gate.QA, case), "qa/QA_SIGNOFF.md")]) == "PASS"
    assert rule(judge(Gate.QA, replace(case, signed={})), "qa/QA_SIGNOFF.md").verdict == "FAIL"
    for gate in others:
        worse = tuple(replace(v, verdict="FAIL") if v.gate == gate.value else v for v in passed)
        assert rule(judge(Gate.QA, replace(case, verdicts=worse)), gate.value).verdict == "FAIL"
        missing = tuple(v for v in passed if v.gate != gate.value)
        assert rule(judge(Gate.QA, replace(case, verdicts=missing)), gate.value).value == "has not judged"


def test_qa_refuses_what_a_program_left_that_ended_badly_though_no_gate_asks_for_its_figures() -> None:
    well, badly = exhibit("app_health", failed=0, exit_status=0), exhibit("slow_queries", exit_status=2)
    said = [
        rule(judge(Gate.QA, replace(CASE, exhibits=found)), "what was measured ended well")
        for found in ((well,), (well, badly))
    ]
    assert [(one.verdict, one.value) for one in said] == [
        ("PASS", "all 1 files"),
        ("FAIL", "slow_queries.log ended with 2"),
    ]


def test_an_approval_is_for_exactly_what_was_shown() -> None:
    def said(*given: Approval, now: str = "a") -> Verdict:
        return rule(judge(Gate.DEPLOYMENT, replace(CASE, approvals=given, subjects={"deployment": now})), "deployment")

    assert said().value == "nobody has decided"
    assert said(decided("deployment", "a")).verdict == "PASS"
    assert "has changed since" in said(decided("deployment", "a"), now="b").value
    assert said(decided("deployment", "a"), now="b").verdict == "FAIL"
    assert said(decided("deployment", "a"), decided("deployment", "a", "reject")).value.startswith("rejected by Ada")
    assert said(decided("cost", "a")).verdict == "FAIL"
