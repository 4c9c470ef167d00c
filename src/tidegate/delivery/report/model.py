"""What a report is made of, whatever it is printed as: sections of figures, tables and charts, each with where it comes from.

A link is a path from `.team/` on; how it looks and which file it goes into is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import datetime
from typing import Any, Literal

from tidegate.gates.verdict import Decision

GateState = Literal["passed", "failed", "not yet"]
#: Of charts; `bars` lie and have names, `columns` stand side by side by series, `stack` adds up, `steps` and `line` go over time.
ChartKind = Literal["bars", "columns", "stack", "steps", "line"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """What stands in a table: text, and the file it was read in; `verdict` gives it a colour, `number` its right edge."""

    text: str
    link: str = ""
    verdict: Decision | None = None
    number: bool = False


@dataclass(frozen=True)
class Figure:
    """One number that counts: what it is, how much, of which unit, what it should be, what its gate said, and its file."""

    label: str
    value: str
    unit: str
    link: str
    target: str = ""
    verdict: Decision | None = None
    note: str = ""

    @property
    def measure(self) -> str:
        """The unit as it stands behind the value: one card, two cards."""
        if self.value != "1" or len(self.unit) < 4:
            return self.unit
        return {"people": "person", "queries": "query"}.get(self.unit, self.unit.removesuffix("s"))


@dataclass(frozen=True)
class Table:
    """A table; its first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Chart:
    """A chart: rows of `name`, `value`, and where it has some `series` and `target`; `sentence` says what is to be seen."""

    kind: ChartKind
    title: str
    sentence: str
    unit: str
    rows: tuple[Row, ...]
    link: str
    order: tuple[str, ...] = ()


@dataclass(frozen=True)
class Absent:
    """Something that a section should have and has not, with the reason."""

    what: str
    why: str


@dataclass(frozen=True)
class Section:
    """One of the eleven, or of the twelve: what its figures amount to in a sentence, and what is missing of it."""

    number: int
    title: str
    sentence: str
    figures: tuple[Figure, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    absent: tuple[Absent, ...] = ()


@dataclass(frozen=True)
class GateLook:
    """A gate as the first page shows it; `told` is what it failed on, or waits for."""

    name: str
    state: GateState
    wave: str
    rules: int
    told: str


@dataclass(frozen=True)
class Waiting:
    """Something that does not go on, and whose turn it is."""

    what: str
    whom: str
    told: str


@dataclass(frozen=True)
class Report:
    """A whole report: the first page's facts, and the sections in the team document's order."""

    number: int
    made_at: datetime
    team: str
    delivery_id: str
    state: str
    wave: str
    wave_name: str
    started_by: str
    strategy: str
    commit: str
    began_at: datetime
    ended_at: datetime | None
    age: str
    headline: str
    done: int
    cards: int
    gates: tuple[GateLook, ...]
    waiting: tuple[Waiting, ...]
    sections: tuple[Section, ...]
    source: str
    """The file beside the report that holds the ledger's rows as they were read."""
    evidence: tuple[Table, ...] = field(default=())

    def counted(self, state: GateState) -> int:
        """Return how many gates are in a state."""
        return sum(gate.state == state for gate in self.gates)


def widths(wanted: Sequence[float], room: float) -> list[float]:
    """Return how wide columns are: as they ask where that is no more than their part, the others share what is left."""
    found = dict[int, float]()
    for place in sorted(range(len(wanted)), key=lambda one: wanted[one]):
        found[place] = min(wanted[place], (room - sum(found.values())) / (len(wanted) - len(found)))
    return [found[place] for place in range(len(wanted))]


def changed(part: Any, change: Callable[[str], str]) -> Any:
    """Return a part of a report with every text in it changed, links and names of rows too."""
    if isinstance(part, str):
        return change(part)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{one.name: changed(getattr(part, one.name), change) for one in fields(part)})
    if isinstance(part, tuple):
        return tuple(changed(one, change) for one in part)
    if isinstance(part, list):
        return [changed(one, change) for one in part]
    if isinstance(part, dict):
        return {key: changed(one, change) for key, one in part.items()}
    return part
