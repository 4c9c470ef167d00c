"""Every value of a strategy as a flat list, and which of them may be left open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from tidegate.strategy.document import Entry
from tidegate.strategy.model import Named, Statement, Strategy, Target
from tidegate.strategy.read import GROUPS


@dataclass(frozen=True)
class Field:
    """One value of a strategy, by its place in it; `optional` where it may be left as the template has it."""

    name: str
    line: int
    text: str
    optional: bool

    @property
    def blank(self) -> bool:
        """Whether it is still to be filled in."""
        return Entry(self.text, self.line).blank


def every_field(strategy: Strategy) -> list[Field]:
    """Return every value that a strategy has, with its place in it and its line, in the document's order."""
    return list(_fields("", strategy, optional=False))


def _fields(name: str, value: Any, *, optional: bool, forced: bool = False) -> Iterator[Field]:
    """Return the fields of a value; one that asks for itself only "if needed" may stay open, unless `forced`."""
    match value:
        case Entry(text=text, line=line):
            asked = "if needed" in text.casefold() or "if any" in text.casefold()
            yield Field(name, line, text, not forced and (optional or asked))
        case Statement(entry=entry) | Named(value=entry):
            yield from _fields(name, entry, optional=optional, forced=forced)
        case tuple():
            yield from _rows(name, value, optional=optional)
        case _ if is_dataclass(value) and not isinstance(value, type | Target):
            for one in fields(value):
                if not one.metadata.get("numbering"):
                    below = f"{name}.{one.name}" if name else one.name
                    may_be_open = optional or bool(one.metadata.get("optional"))
                    yield from _fields(below, getattr(value, one.name), optional=may_be_open, forced=forced)


def _rows(name: str, rows: tuple[Any, ...], *, optional: bool) -> Iterator[Field]:
    """Return the fields of rows: one that nobody has touched is none, but where one is needed, the first must be filled in."""
    blanks = [[field.blank for field in _fields("", row, optional=False)] for row in rows]
    needed = not optional and all(map(all, blanks))
    for number, (row, blank) in enumerate(zip(rows, blanks, strict=True), 1):
        place = f"{name}[{_called(row) or number}]"
        # A name that the form gives is no row to spare.
        untouched = all(blank) and not isinstance(row, Statement | Named)
        forced = untouched and needed and number == 1
        yield from _fields(place, row, optional=untouched, forced=forced)


def _called(row: Any) -> str:
    if not isinstance(row, Statement | Named):
        return ""
    group = f"{row.group}: " if isinstance(row, Statement) and row.group in GROUPS and row.name else ""
    return f"{group}{row.name}"
