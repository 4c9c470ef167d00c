"""What the form v3.1 is made of: labels with text, lists, tables and numbers, looked up by name; what is not there is a problem."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

from tidegate.strategy import quantity
from tidegate.strategy.document import Block, Document, Entry, Item, Problem, Row, Section, key
from tidegate.strategy.model import Named, Purpose, Statement, Target
from tidegate.strategy.quantity import Bound, Comparison, QuantityError

_NONE = re.compile(r"^(n/?a|none)\b|^-$", re.I)
#: Shares of which more is better, and of which less is.
_MORE = re.compile(r"uptime|availab|coverage|success|\bpass|\bhit\b|accura|complete|on.time", re.I)
_LESS = re.compile(r"utili[sz]ation|usage|\berror|\bfail|\bloss\b|\blost\b|\bmiss|\bfull\b", re.I)


def meant(subject: str, bound: Bound, purpose: Purpose) -> Comparison | None:
    """Return how a number without a comparison is meant, a duration as at most that; None where it could be either."""
    if purpose == "expected":
        return "="
    if purpose != "target":
        return "<="
    match bound.unit.dimension:
        case "share" if bound.value == 100:
            return ">="
        case "share":
            more, less = _MORE.search(subject), _LESS.search(subject)
            return None if bool(more) == bool(less) else ">=" if more else "<="
        case "rate":
            return ">="
        case "count":
            return "=" if bound.value == 0 else None
        case _:
            return "<="


class Form:
    """A document whose parts are asked for by name; the problems, and what was asked for, are kept."""

    def __init__(self, parsed: Document) -> None:
        self.document = parsed
        self.problems = list(parsed.problems)
        self.seen: set[int] = set()
        self.sections: dict[str, Section] = {}
        self.absent: set[str] = set()

    # ── Where things stand ───────────────────────────────────────────────────────────────────────────────

    def find(self, title: str, *labels: str, optional: bool = False) -> Block:
        """Return the block of a label, by whichever of its names; an empty one where there is none."""
        section = self.sections[title]
        wanted = [key(label) for label in labels]
        found = [block for block in section.blocks if block.label and key(block.label) in wanted]
        self.seen.update(map(id, found))
        for again in found[1:]:
            self.problem(again.line, f"**{again.label}** again", f"it once (line {found[0].line})", "keep one of them")
        if not found and not optional and title not in self.absent:
            advice = "add the line; write `N/A` where there is nothing to say"
            self.problem(section.line, f"no **{labels[0]}** in {title!r}", f"`**{labels[0]}**: …`", advice)
        return found[0] if found else Block("", section.line)

    def text(self, title: str, *labels: str, optional: bool = False) -> Entry:
        """Return what stands after a label."""
        return self.find(title, *labels, optional=optional).value

    def items(self, title: str, *labels: str, optional: bool = False) -> tuple[Item, ...]:
        """Return the list below a label; unless `optional`, something must be in it."""
        block = self.find(title, *labels, optional=optional)
        if block.label and not block.items and not optional:
            self.problem(block.line, f"nothing below **{block.label}**", "a list: `- …`", "add a line at least")
        return tuple(block.items)

    def item(self, block: Block, label: str, *, optional: bool = False) -> Entry:
        """Return the text of `- **Label**: text`, bold or not, found by the label's first words."""
        for item in block.items:
            name, text = (item.label, item.text) if item.label else _split(item.text)
            if key(name).startswith(key(label)):
                return Entry(text, item.line)
        if not optional and block.label:
            self.problem(block.line, f"no {label!r} under **{block.label}**", f"`- **{label}**: …`", "add the line")
        return Entry("", block.line)

    def named(self, title: str, *labels: str, money: bool = False) -> tuple[Named, ...]:
        """Return the list of names and values below a label; with `money`, the sums in them, too."""
        named = []
        for item in self.items(title, *labels):
            name, text = (item.label, item.text) if item.label else _split(item.text)
            value = Entry(text, item.line)
            named.append(Named(name, value, self.targets(name, value, "money") if money else ()))
        return tuple(named)

    def rows(
        self, title: str, what: str, *columns: str, block: Block | None = None, needed: bool = True
    ) -> Iterator[list[Entry]]:
        """Return the cells of a table in the order of the columns, of which the first one tells it from other tables."""
        blocks = [block] if block else self.sections[title].blocks
        tables = [found for found in blocks if any(key(column) == key(columns[0]) for column in found.columns)]
        if not tables:
            if title not in self.absent:
                line = block.line if block and block.label else self.sections[title].line
                self.problem(
                    line, f"no table of {what}", f"`| {' | '.join(columns)} |`", "add it, with a line of dashes below"
                )
            return
        self.seen.update(map(id, tables))
        if needed and not any(table.rows for table in tables):
            self.problem(
                tables[0].line, f"a table of {what} without a row", f"`| {' | '.join(columns)} |`", "add a row"
            )
        for table in tables:
            names = [next((c for c in table.columns if key(c).endswith(key(column))), None) for column in columns]
            for column, name in zip(columns, names, strict=True):
                if name is None:
                    line = table.rows[0].line - 2 if table.rows else table.line
                    self.problem(
                        line, f"a table of {what} without the column {column!r}", " | ".join(columns), "add the column"
                    )
            for row in table.rows:
                yield [_cell(row, name) for name in names]

    def problem(self, line: int, found: str, expected: str, advice: str) -> None:
        """Write a problem down."""
        self.problems.append(Problem(line, found, expected, advice))

    # ── Numbers ──────────────────────────────────────────────────────────────────────────────────────────

    def targets(
        self, name: str, entry: Entry, purpose: Purpose, *, strict: bool = False, counts: bool = False
    ) -> tuple[Target, ...]:  # fmt: skip
        """Return the numbers of a text; what is still to be filled in has none."""
        if entry.blank or _NONE.match(entry.text):
            return ()
        try:
            found = list(quantity.find(entry.text, "=", strict=strict, counts=counts))
        except QuantityError as error:
            self.problem(entry.line, f"{error.found} in {_short(entry.text)!r}", error.expected, error.advice)
            return ()
        targets, end = [], 0
        for number, one in enumerate(found):
            following = found[number + 1].start if number + 1 < len(found) else len(entry.text)
            before = re.split(r"[,;(]\s*|\band\b", entry.text[end : one.start])[-1]
            after = re.split(
                r"[,;]|\band\b" if following < len(entry.text) else r"[,;]", entry.text[one.end : following]
            )[0]
            subject, condition = " ".join(filter(None, [name, _bare(before)])), _bare(after)
            bound, end = one.bound, one.end
            if one.implied:
                comparison = meant(f"{subject} {condition}", bound, purpose)
                if comparison is None:
                    told = f"{bound}".removeprefix("= ")
                    self.problem(entry.line, f"{told!r} without a comparison in {_short(entry.text)!r}",
                                 f"`>= {told}` or `<= {told}`", "write which one is meant")  # fmt: skip
                    continue
                bound = replace(bound, comparison=comparison)
            targets.append(Target(subject, bound, entry.line, condition, one.implied, purpose))
        return tuple(targets)

    def statement(
        self, group: str, item: Item, purpose: Purpose = "target", *, strict: bool = False, counts: bool = False
    ) -> Statement:  # fmt: skip
        """Return an item as a sentence with its numbers."""
        name, text = (item.label, item.text) if item.label else _split(item.text)
        said = Entry(f"{item.label}: {item.text}" if item.label else item.text, item.line)
        targets = self.targets(name, Entry(text, item.line), purpose, strict=strict, counts=counts)
        return Statement(group, name, said, targets, item.checked)

    def amount(self, entry: Entry, name: str, purpose: Purpose, example: str) -> Statement:
        """Return a statement that must hold a number."""
        told = len(self.problems)
        targets = self.targets(name, entry, purpose, strict=True)
        if not entry.blank and not targets and len(self.problems) == told:
            self.problem(entry.line, f"{_short(entry.text)!r} as {name}", f"a number such as `{example}`", "write one")
        return Statement("", name, entry, targets)

    def one_of(self, entry: Entry, what: str, *letters: str) -> Entry:
        """Insist that a value is one of a few letters."""
        if not entry.blank and entry.text.upper() not in letters:
            self.problem(entry.line, f"{entry.text!r} as {what}", f"one of {', '.join(letters)}", "write one of them")
        return entry

    def boxes(self, title: str, *labels: str) -> tuple[Item, ...]:
        """Return the list below a label, each item of which must have a box."""
        items = self.items(title, *labels)
        for item in items:
            if item.checked is None:
                self.problem(
                    item.line,
                    f"{_short(item.text)!r} without a box",
                    "`- [x] …` or `- [ ] …`",
                    "tick it or leave it empty",
                )
        return items

    def day(self, entry: Entry) -> date | None:
        """Return the day that a value names; a problem where it names none."""
        found = re.search(r"\d{4}-\d\d-\d\d", entry.text)
        try:
            if found:
                return date.fromisoformat(found.group())
        except ValueError:
            pass  # the 31st of February
        if not entry.blank:
            self.problem(
                entry.line,
                f"the date {entry.text!r}",
                "one such as 2026-12-31, or a `flexible` deadline",
                "write it so",
            )
        return None


def _split(text: str) -> tuple[str, str]:
    """Return name and value of `Name: value`; a colon within brackets separates nothing."""
    name, colon, value = text.partition(": ")
    return (name.strip(), value.strip()) if colon and name.count("(") == name.count(")") else ("", text)


def _cell(row: Row, name: str | None) -> Entry:
    return row.cells[name] if name else Entry("", row.line)


def _bare(text: str) -> str:
    """Return words without the punctuation and the small words that only join them to a number."""
    words = re.sub(r"[()\s]+", " ", text).strip(" :.-—/")
    return re.sub(r"^(and|alert on|alert when|verified)\s+|\s+(is|are|and|of|at)$", "", words, flags=re.I)


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
