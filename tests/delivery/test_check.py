"""What keeps a strategy from being used, and what is only told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.delivery.filling import fill

from tidegate.strategy import draft, look
from tidegate.strategy.check import Finding, check
from tidegate.strategy.fields import every_field

FILLED = fill(draft.text("databaseEng"))


def found(tmp_path: Path, *changes: tuple[str, str], text: str = FILLED) -> list[Finding]:
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = tmp_path / "strategy.md"
    path.write_text(text)
    return check(look(path))


def fatal(tmp_path: Path, *changes: tuple[str, str], text: str = FILLED) -> list[Finding]:
    return [finding for finding in found(tmp_path, *changes, text=text) if finding.fatal]


def test_a_strategy_that_is_filled_in_can_be_used(tmp_path: Path) -> None:
    assert fatal(tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("**Hard Deadline**: 2027-12-31", "**Hard Deadline**: 2027-01-01", "is due 2027-01-08, after the deadline 2027-01-01 (line "),
        ("| 2027-01-08 |", "| 2026-12-24 |", "is due 2026-12-24, before the one above it (2027-01-01)"),
        ("**Auto-approve threshold**: $0", "**Auto-approve threshold**: $8", "up to $8 is approved without asking, which is above < $7 of line "),
        ("- RTO: 15 minutes", "- RTO: 1 hour", "RTO is <= 1 h here and < 15 min in line "),
        ("- RTO: 15 minutes", "- RTO: 15 minutes\n- RTO: 16 minutes (on Sundays)", "RTO is <= 16 min here and < 15 min"),
        ("- [ ] Query P95 < 50ms", "- [ ] Query P95 < 40ms", "query P95 is < 40 ms here and < 50 ms in line "),
        ("- [ ] >= 80% test coverage", "- [ ] >= 70% test coverage", "coverage is >= 70% here and >= 80% in line "),
        ("**Auto-approve threshold**: $0", "**Auto-approve threshold**: €0", "€0 is approved without asking, and < $7 of line"),
        ("- RTO: 15 minutes", "- RTO: > 15 minutes", "RTO > 15 min is met by the worse ones"),
        ("- [ ] >= 80% test coverage", "- [ ] < 80% test coverage", "< 80% is met by the worse ones"),
        ("pool > 90%", "pool > 70%", "pool utilisation alerts at > 70%, which the target of line "),
        ("response P95: < 50ms", "response P95: < 50%", "query P95 is measured as time, and < 50% is none"),
        ("P0 — Must-Have (Launch Blockers)\n", "P0 — Must-Have (Launch Blockers)\n| # | Feature | Description | Acceptance Criteria | Complexity |\n|--|--|--|--|--|\n| 1 | Moorings | hold | | M |\n\n", "P0 feature 'Moorings' has no acceptance criteria"),
    ],
)  # fmt: skip
def test_what_contradicts_is_told_with_the_line_of_the_later_one(tmp_path: Path, old: str, new: str, told: str) -> None:
    findings = fatal(tmp_path, (old, new))
    (one,) = [finding for finding in findings if told in finding.told]
    assert one.kind == "contradiction"
    lines = (tmp_path / "strategy.md").read_text().splitlines()
    # It names a line in which one of the two stands.
    assert any(word in lines[one.line - 1] for word in (*new.split(), "2027-01-08"))


def test_the_same_number_in_another_unit_contradicts_nothing(tmp_path: Path) -> None:
    assert fatal(tmp_path, ("- RTO: 15 minutes", "- RTO: 0.25 h"), ("P95 < 50ms under", "P95 < 0.05 s under")) == []


def test_nothing_that_is_open_and_mandatory_gets_through(tmp_path: Path) -> None:
    findings = fatal(tmp_path, ("**Definition of Done**: ", "**Definition of Done**: [FILL IN] "))
    assert [(one.kind, one.told.partition(":")[0]) for one in findings] == [("to fill in", "success.done")]


def test_a_row_that_is_half_filled_in_is_open_even_where_none_is_needed(tmp_path: Path) -> None:
    row = "| 1 | A pier | long | [What is measured] | M |"
    old = next(
        line
        for n, line in enumerate(FILLED.splitlines())
        if line.startswith("| 1 |") and n > FILLED[: FILLED.index("### P1")].count("\n")
    )
    text = FILLED[: FILLED.index("### P1")] + FILLED[FILLED.index("### P1") :].replace(old, row, 1)
    assert [one.told.partition(":")[0] for one in fatal(tmp_path, text=text)] == ["features.p1[1].acceptance"]


def test_a_row_that_nobody_touched_may_stay_beside_one_that_is_filled_in(tmp_path: Path) -> None:
    text = draft.text("databaseEng")
    first, spare = "| 1 | [FILL IN] | [What it does] | [What is measured] | [S/M/L/XL] |", "features.p0[2].name"
    with_row = {
        one.told.partition(":")[0]: one.kind for one in found(tmp_path, (first, "| 1 | a | b | c | M |"), text=text)
    }
    assert (with_row[spare], "features.p0[1].name" in with_row) == ("may stay open", False)
    without = {one.told.partition(":")[0]: one.kind for one in found(tmp_path, (first + "\n", ""), text=text)}
    # It says "if needed", but it is the only one left.
    assert without["features.p0[1].name"] == "to fill in"


def test_what_is_not_measurable_is_told_and_keeps_nobody(tmp_path: Path) -> None:
    findings = found(tmp_path)
    told = {one.told for one in findings if one.kind == "not measurable"}
    assert any("it takes months of watching" in one for one in told)
    assert not any("GDPR" in one for one in told), "the probe `erasure` measures it"
    assert not any("Replication lag" in one for one in told), "the probe `replication` measures it"


def test_a_demand_without_a_number_is_told_of(tmp_path: Path) -> None:
    findings = found(tmp_path, ("- Query response P95: < 50ms", "- Query response P95: low"))
    told = [one.told for one in findings if one.kind == "not measurable" and "P95: low" in one.told]
    assert told == [
        "Query response P95: low (queries with an index) (Query Performance Gate): it states no number for p95_ms of the probe explain: write one"
    ]


def test_a_criterion_that_is_ticked_by_hand_counts_for_nothing(tmp_path: Path) -> None:
    (one,) = [f for f in found(tmp_path, ("- [ ] Every index", "- [x] Every index")) if "ticked by hand" in f.told]
    assert (one.kind, one.fatal) == ("not read", False)


def test_no_field_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "strategy.md"
    path.write_text(FILLED)
    names = {field.name.partition("[")[0].partition(".")[0] for field in every_field(look(path).strategy)}
    assert names == {
        "title", "team", "identity", "audience", "features", "technical", "requirements", "testing", "timeline", "cost", "success",
        "references", "out_of_scope", "constraints", "scaling", "proof", "preservation", "autosync", "context",
    }  # fmt: skip
