"""What Markdown would hide, and does not here; and which line everything stands in."""

from __future__ import annotations

import pytest

from tidegate.strategy import document
from tidegate.strategy.document import Block, Entry


def block(text: str, label: str = "A") -> Block:
    (found,) = [b for s in document.parse(f"## S\n\n{text}").sections for b in s.blocks if b.label == label]
    return found


def test_an_item_that_begins_with_a_comparison_keeps_it() -> None:
    items = block("**A**:\n- >= 80% of it\n- [ ] > 5 s\n- <= 3 s\n").items
    assert [(item.text, item.line, item.checked) for item in items] == [
        (">= 80% of it", 4, None), ("> 5 s", 5, False), ("<= 3 s", 6, None),
    ]  # fmt: skip


@pytest.mark.parametrize("below", ["---", "\n---"])
def test_a_field_before_a_rule_stays_a_field(below: str) -> None:
    assert block(f"**A**: one\n{below}\n").value == Entry("one", 3)


def test_fields_on_lines_of_one_paragraph_are_fields_each_with_its_line() -> None:
    text = "**A**: one\n**B** (a remark): two\nand more\n**C?**: three\n"
    assert block(text).value == Entry("one", 3)
    assert block(text, "B").value == Entry("two\nand more", 4)
    assert block(text, "C?").value == Entry("three", 6)


def test_an_indented_field_is_no_code_and_a_bracket_with_a_colon_no_reference() -> None:
    assert block("    **A**: [FILL IN]: x\n").value == Entry("[FILL IN]: x", 3)


def test_remarks_are_not_read_and_swallow_nothing() -> None:
    text = "> a remark: **A**: no\n**A**: yes\n<!-- **A**: no -->\n\n*Closing words: **A**: no*\n"
    assert block(text).value == Entry("yes", 4)


def test_a_table_keeps_its_pipes_and_lines() -> None:
    found = block("**A**:\n| One | Two |\n|---|---|\n| a \\| b | `c` |\n| d | [FILL IN] |\n")
    assert [(row.line, [cell.text for cell in row.cells.values()]) for row in found.rows] == [
        (6, ["a | b", "c"]), (7, ["d", "[FILL IN]"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "line", "told"),
    [
        ("| One | Two |\n|---|---|\n| a |\n", 6, "found a row of 1 cells, expected 2: One | Two; add or remove a `|`"),
        ("| One | Two |\n|---|---|\n| a | b | c |\n", 6, "found a row of 3 cells, expected 2"),
        ("| One | Two |\n|---|---|\n| a | b |\nno row\n", 7, "found a row of 1 cells"),
        ("| One | Two |\n|---|\n| a | b |\n", 4, "found a row of a table that has no head"),
        ("| a | b |\n", 4, "found a row of a table that has no head, expected a head and a line of dashes"),
    ],
)
def test_a_table_that_is_not_whole_is_told_with_its_line(rows: str, line: int, told: str) -> None:
    problems = document.parse(f"## S\n\n**A**:\n{rows}").problems
    assert (problems[0].line, told in str(problems[0])) == (line, True)


def test_windows_line_ends_change_no_line() -> None:
    assert document.parse("## S\r\n\r\n**A**: one\r\n").sections[0].blocks[1].value == Entry("one", 3)


@pytest.mark.parametrize(
    ("text", "blank"),
    [
        ("[FILL IN]", True), ("[fill in: a date]", True), ("costs [FILL IN] a month", True), ("[Job title]", True), ("", True),
        ("see [the manual](https://example.org)", False), ("written", False), ("[a] and [b] are", False),
    ],
)  # fmt: skip
def test_what_is_open_is_told_from_what_is_written(text: str, blank: bool) -> None:
    assert Entry(text, 1).blank is blank
