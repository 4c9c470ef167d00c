"""Strategies of the form v3.1: the three that were given, filled in or not, ours, and what is not one."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.delivery.filling import fill
from tests.delivery.originals import ROOT, STRATEGIES, original

from tidegate.errors import StrategyError
from tidegate.strategy import draft, look, read
from tidegate.strategy.check import check
from tidegate.strategy.fields import every_field

FILLED = fill(draft.text("databaseEng"))
OURS = ROOT / "strategies" / "database.md"
TARGETS = [
    ("Query response P95", "< 50 ms"), ("Connection pool utilization", "< 80%"), ("Replication lag", "< 1 s"),
    ("Backup RTO", "< 15 min"), ("Database uptime target", ">= 99.99%"), ("RTO", "<= 15 min"), ("RPO", "<= 1 min"),
    ("Test Coverage Target", ">= 80%"), ("Test Coverage Target", ">= 100%"),
]  # fmt: skip
ALERTS = [
    ("replication lag", "> 5 s"),
    ("connection pool", "> 90%"),
    ("disk usage", "> 80%"),
    ("slow queries", "> 1 s"),
]


@pytest.fixture
def strategy(tmp_path: Path) -> Path:
    """A strategy that is filled in."""
    path = tmp_path / "strategy.md"
    path.write_text(FILLED)
    return path


def change(path: Path, old: str, new: str) -> int:
    """Put other words for those, once, and return their line."""
    text = path.read_text()
    assert text.count(old) >= 1, old
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


def problems(path: Path) -> list[str]:
    with pytest.raises(StrategyError) as told:
        read(path)
    return str(told.value).splitlines()


# ── The given ones ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_given_template_is_read_whole_as_it_is(name: str) -> None:
    path = original(name)
    seen = look(path)
    assert (seen.problems, seen.unread) == ((), ())
    lines = path.read_text().splitlines()
    asked = {number for number, line in enumerate(lines, 1) if "[FILL IN" in line and not line.startswith(">")}
    open_lines = {field.line for field in every_field(seen.strategy) if field.blank}
    # A test that is not required may leave open why.
    unticked = {number for number in asked if lines[number - 1].startswith("- [ ]")}
    assert asked - unticked <= open_lines
    assert all(field.text in ("", field.text) and lines[field.line - 1] for field in every_field(seen.strategy))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_given_template_is_usable_once_it_is_filled_in(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(fill(original(name).read_text()))
    assert [finding for finding in check(look(path)) if finding.fatal] == []
    strategy = read(path)
    assert strategy.scaling.most == 15
    assert strategy.cost.tolerance.targets[0].bound.value == 7
    assert [str(target.bound) for target in strategy.cost.forbidden.targets] == ["> $50"]
    assert [str(target.bound) for target in strategy.preservation.threshold.targets] == ["< 90%"]
    assert strategy.timeline.deadline_day == date(2027, 12, 31)
    assert all(milestone.day for milestone in strategy.timeline.milestones)


def test_the_given_database_strategy_has_the_numbers_that_stand_in_it() -> None:
    holds_targets(original("database-strategy.md"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("data-engineering-strategy.md", ["< 1 h", "< 15 min", ">= 99.5%", "< 10 s", ">= 99.5%", "< 1 h", "< 15 min"]),
        ("python-data-strategy.md", ["< 200 ms", "< 500 ms", ">= 99.9%", "<= 1 h", "<= 5 min"]),
    ],
)
def test_the_other_given_strategies_have_theirs(name: str, expected: list[str]) -> None:
    strategy = read(original(name))
    assert [str(t.bound) for one in strategy.requirements for t in one.targets] == expected


def holds_targets(path: Path) -> None:
    strategy = read(path)
    demanded = [*strategy.requirements, strategy.testing.coverage]
    numbers = [target for one in demanded for target in one.targets]
    assert [(t.subject, str(t.bound)) for t in numbers if t.purpose == "target"] == TARGETS
    found = [(t.subject.removeprefix("Alerting "), str(t.bound)) for t in numbers if t.purpose == "alert"]
    assert found == ALERTS
    lines = path.read_text().splitlines()
    assert all(f"{target.bound.value}" in lines[target.line - 1] for target in numbers)
    assert strategy.scaling.most == 15


# ── Ours ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_our_own_strategy_is_complete_and_has_the_targets_of_the_given_one() -> None:
    holds_targets(OURS)
    seen = look(OURS)
    assert [finding for finding in check(seen) if finding.fatal or finding.kind == "not read"] == []
    assert [field.name for field in every_field(seen.strategy) if field.blank] == []


@pytest.mark.parametrize(
    ("ours", "given"), [("data.md", "data-engineering-strategy.md"), ("python.md", "python-data-strategy.md")]
)
def test_our_other_strategies_are_complete_and_have_the_targets_of_the_given_ones(ours: str, given: str) -> None:
    seen = look(ROOT / "strategies" / ours)
    assert [finding for finding in check(seen) if finding.fatal] == []
    assert [field.name for field in every_field(seen.strategy) if field.blank] == []
    bounds = [str(t.bound) for one in seen.strategy.requirements for t in one.targets]
    asked = [str(t.bound) for one in read(original(given)).requirements for t in one.targets]
    assert [bound for bound in asked if bound not in bounds] == []


def test_our_own_strategy_says_nothing_in_the_words_of_the_given_one() -> None:
    given = set(original("database-strategy.md").read_text().splitlines())
    # The heads of tables are the form's, and a line of numbers says the same in any words.
    prose = [
        line for line in OURS.read_text().splitlines() if len(line) > 40 and not re.search(r"\d|-{5}|^\| |^\*\*", line)
    ]
    assert len(prose) > 30
    assert [line for line in prose if line in given and "Zero CRITICAL" not in line] == []


# ── What a reader of the typed strategy gets ─────────────────────────────────────────────────────────────────


def test_every_value_has_the_line_in_which_it_stands(strategy: Path) -> None:
    lines = strategy.read_text().splitlines()
    for field in every_field(read(strategy)):
        shown = re.sub(r"[*`\\]|\[[ x]\] ", "", lines[field.line - 1])
        assert field.text.splitlines()[0].strip() in shown, field


def test_boxes_are_ticked_or_not(strategy: Path) -> None:
    types = read(strategy).testing.types
    assert [one.checked for one in types] == [True] * 5 + [False]
    assert all(one.checked is False for one in read(strategy).success.launch)


@settings(max_examples=40, deadline=None)
@given(
    number=st.decimals("0.001", 10**6, places=3),
    unit=st.sampled_from(["ms", "s", "minutes", "hours"]),
    sign=st.sampled_from(["<", "≤ ", "at most "]),
)
def test_any_target_that_is_written_is_the_target_that_is_read(
    number: object, unit: str, sign: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("target") / "strategy.md"
    path.write_text(FILLED.replace("P95: < 50ms", f"P95: {sign}{number}{unit}", 1))
    first = read(path).requirements[0].targets[0]
    assert (first.subject, first.bound.value, first.condition) == (
        "Query response P95",
        number,
        "queries with an index",
    )
    assert first.bound.unit.dimension == "time"


# ── What is not one ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("old", "new", "shift", "told"),
    [
        ("Strategy v3.1", "Strategy v2", 0, "found the title '.*Strategy v2', expected `# … — Tailored Strategy v3.1`; no other form"),
        ("Activate: `--team databaseEng ", "Activate: `", -3, "no team above the first section"),
        ("## 8. Success Criteria", "## 8. Sucess Criteria", 0, "found the heading '8. Sucess Criteria', expected one of .*; did you mean 'Success Criteria'"),
        ("## 9. Reference", "## 8. Success Criteria\n\n## 9. Reference", 0, "found the section 'Success Criteria' again, expected it once"),
        ("P95: < 50ms", "P95: < 50 parsecs", 0, r"found the unit 'parsecs' in '< 50 parsecs .*', expected one of µs, ms"),
        ("RTO: 15 minutes", "RTO: 15 minuts", 0, "found the unit 'minuts'"),
        ("uptime target: 99.99%", "uptime target: 99,99%", 0, "found the number '99,99' .* write a point before decimals"),
        ("replication lag > 5s", "replication lag > five s", 0, "found '> five s.*' in .*expected a number after the comparison"),
        ("**Max concurrent agents**: 15", "**Max concurrent agents**: many", 0, "found 'many' as the number of agents, expected a whole number"),
        ("**Auto-approve threshold**: $0", "**Auto-approve threshold**: nothing", 0, "found 'nothing .*' as Auto-approve threshold, expected a number such as `[$]0`"),
        ("**Token Budget Tolerance**: < $7", "**Token Budget Tolerance**: little", 0, "found 'little per run' as Token Budget Tolerance"),
        ("**Threshold**: < 90% confidence", "**Threshold**: when unsure", 0, "expected a number such as `< 90%`"),
        ("- RTO: 15 minutes", "- Noise: 5%", 0, "found '5%' without a comparison in '5%', expected `>= 5%` or `<= 5%`; write which one is meant"),
        ("| < 5 s |", "| 3 letters |", 0, "found '3' without a comparison in '3 letters'"),
        ("| M | H |", "| M | huge |", 0, "found 'huge' as impact, expected one of H, M, L"),
        ("**Hard Deadline**: 2027-12-31", "**Hard Deadline**: 2027-02-31", 0, "found the date '2027-02-31', expected one such as"),
        ("**Hard Deadline**: 2027-12-31", "**Hard Deadline**: soon", 0, "found the date 'soon'"),
        ("| M1 |", "| M1 | and |", 0, "found a row of 6 cells, expected 5: # | Milestone | Target Date"),
        ("- [x] Backup and restore tests", "- Backup and restore tests", 0, "found 'Backup and restore tests' without a box"),
        ("**Branch**: `ai-team`", "**Twig**: `ai-team`", -4, r"found no \*\*Branch\*\* in 'GitHub Auto-Sync Policy'"),
        ("**Branch**: `ai-team`", "**Branch**: `a`\n**Branch**: `b`", 1, r"found \*\*Branch\*\* again, expected it once"),
        ("- **Auto-approve threshold**", "- **Approves**", -1, r"found no 'Auto-approve threshold' under \*\*Payment Authorization Rules\*\*"),
        ("| Metric | Target |", "| Metric | Aim |", 0, "found a table of KPIs without the column 'Target'"),
        ("### P0 — Must-Have", "### First — Must-Have", -4, "found no features of P0"),
    ],
)  # fmt: skip
def test_what_is_not_of_the_form_is_a_sentence_with_its_line(
    strategy: Path, old: str, new: str, shift: int, told: str
) -> None:
    line = change(strategy, old, new) + shift
    said = [one for one in problems(strategy) if re.search(told, one)]
    assert said
    assert all(re.match(rf"{re.escape(str(strategy))}:\d+: found .+, expected .+; .+", one) for one in said)
    numbers = [int(one.removeprefix(f"{strategy}:").partition(":")[0]) for one in said]
    assert line in numbers


@pytest.mark.parametrize(
    "section", ["Project Identity", "Non-Functional Requirements", "Success Criteria", "Additional Context"]
)
def test_a_section_that_is_missing_is_named_once(strategy: Path, section: str) -> None:
    text = re.sub(rf"## [\d.]+ {section}.*?(?=\n## |\Z)", "", strategy.read_text(), flags=re.S)
    strategy.write_text(text)
    assert [one for one in problems(strategy) if "no section" in one or "no **" in one] == [
        f"{strategy}:{len(text.splitlines())}: found no section '{section}', expected every section of the form; "
        "add it; `team strategy new` shows the form"
    ]


@pytest.mark.parametrize("what", ["risks", "milestones", "personas"])
def test_a_table_without_a_row_is_told(strategy: Path, what: str) -> None:
    head = {"risks": "| Risk |", "milestones": "| # | Milestone |", "personas": "| Persona |"}[what]
    lines = strategy.read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(head)) + 2
    end = next(n for n in range(start, len(lines)) if not lines[n].startswith("|"))
    strategy.write_text("\n".join(lines[:start] + lines[end:]) + "\n")
    assert any(f"found a table of {what} without a row" in one for one in problems(strategy))


def test_demands_on_speed_without_any_number_are_told(strategy: Path) -> None:
    text = strategy.read_text()
    start, end = text.index("**Performance**:\n"), text.index("**Security**:")
    strategy.write_text(f"{text[:start]}**Performance**:\n- Queries are quick\n\n{text[end:]}")
    line = text[:start].count("\n") + 2
    assert problems(strategy) == [
        f"{strategy}:{line}: found no number under **Performance**, expected a target such as `RTO: < 15 minutes`; add one"
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Uptime: 99.5%", ">= 99.5%"), ("Disk usage: 70%", "<= 70%"), ("Error rate: 1%", "<= 1%"), ("Success rate: 99%", ">= 99%"),
        ("RTO: 15 minutes (high availability)", "<= 15 min"), ("Throughput: 400 rows/s", ">= 400 /s"), ("P95 at most 2 s", "<= 2 s"),
    ],
)  # fmt: skip
def test_a_number_without_a_comparison_is_meant_as_people_mean_it(strategy: Path, written: str, meant: str) -> None:
    change(strategy, "- Replication lag: < 1 second", f"- {written}")
    assert str(read(strategy).requirements[2].targets[0].bound) == meant


def test_two_targets_of_one_sentence_have_each_their_own_words(strategy: Path) -> None:
    change(strategy, "- Replication lag: < 1 second", "- Query P95 &lt; 50 ms and P99 < 90 ms, at peak")
    found = read(strategy).requirements[2].targets
    assert [(t.subject, str(t.bound), t.condition) for t in found] == [
        ("Query P95", "< 50 ms", ""),
        ("P99", "< 90 ms", ""),
    ]


def test_a_label_that_nobody_reads_is_told_of(strategy: Path) -> None:
    line = change(strategy, "**Package Manager**", "**Favourite Colour**: teal\n\n**Package Manager**")
    assert [(entry.text, entry.line) for entry in look(strategy).unread] == [("**Favourite Colour**", line)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", ":1: found an empty file, expected a strategy document: `team strategy new`"),
        (b" \n\n", ":1: found an empty file"),
        ("# Größe\n".encode("latin-1"), ":1: found the byte 0xf6, expected text in UTF-8: save the file as UTF-8"),
        (b"# A\n\n\xff\xfe", ":3: found the byte 0xff"),
        (b"# A\n\0", ":2: found a NUL"),
        (b"{}", ":1: found no title, expected `# "),
        (b"\x89PNG\r\n", ":1: found the byte 0x89"),
    ],
)
def test_what_is_no_document_is_a_sentence(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "strategy.md"
    path.write_bytes(content)
    assert f"{path}{told}" in problems(path)[0]


def test_a_folder_and_nothing_at_all_are_sentences(tmp_path: Path) -> None:
    assert problems(tmp_path)[0].endswith("found a folder, expected a strategy document: name the file in it")
    assert "found nothing that can be read (No such file or directory)" in problems(tmp_path / "none.md")[0]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400))
def test_no_text_whatever_ends_otherwise_than_in_a_sentence(text: str) -> None:
    from tidegate.strategy import document
    from tidegate.strategy.read import _Reader

    assert _Reader(document.parse(text)).run(Path("any.md")).problems


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_line_that_is_lost_or_doubled_ends_in_a_strategy_or_in_sentences(data: st.DataObject) -> None:
    from tidegate.strategy import document
    from tidegate.strategy.read import _Reader

    lines = FILLED.splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    changed = (
        lines[:at]
        + data.draw(st.sampled_from([[], [lines[at]] * 2, [lines[at][: len(lines[at]) // 2]]]))
        + lines[at + 1 :]
    )
    seen = _Reader(document.parse("\n".join(changed))).run(Path("any.md"))
    assert all(1 <= problem.line <= len(changed) for problem in seen.problems)
    check(seen)
