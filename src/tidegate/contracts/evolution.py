"""From the table that is there to the table that a contract asks for: steps that keep every row, or breaches.

Pure: where the layouts come from and how steps are run is told in `publish.evolve`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from tidegate.contracts.model import Contract, partition_in_words
from tidegate.contracts.types import SEALED, widens


@dataclass(frozen=True)
class Shape:
    """One column of a table: its PostgreSQL type, and whether it is NOT NULL."""

    type: str
    required: bool


@dataclass(frozen=True)
class Layout:
    """What a table looks like to those who read and fill it; `partition` is None where it is not known."""

    columns: dict[str, Shape]
    key: tuple[str, ...]
    partition: str | None = None

    @classmethod
    def of(cls, contract: Contract) -> Layout:
        """Return the layout that the contract asks for."""
        columns = {column.name: Shape(column.stored_type, column.required) for column in contract.columns}
        return cls(columns, contract.key, partition_in_words(contract.partitioning))


@dataclass(frozen=True)
class Step:
    """One change of a table that keeps its rows: `add` or `widen` a column to a type, or `relax` NOT NULL."""

    kind: Literal["add", "widen", "relax"]
    column: str
    type: str

    def ddl(self, table: sql.Composable) -> sql.Composed:
        """Return the statement that takes the step on `table`."""
        forms = {
            "add": "ALTER TABLE {table} ADD COLUMN {column} {type}",
            "widen": "ALTER TABLE {table} ALTER COLUMN {column} TYPE {type}",
            "relax": "ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL",
        }
        return sql.SQL(forms[self.kind]).format(
            table=table, column=sql.Identifier(self.column), type=sql.SQL(self.type)
        )

    def __str__(self) -> str:
        words = {
            "add": f"add column {self.column} {self.type}",
            "widen": f"widen column {self.column} to {self.type}",
            "relax": f"let column {self.column} be empty",
        }
        return words[self.kind]


@dataclass(frozen=True)
class Breach:
    """One change that a table with rows in it cannot go through: of which columns, what, and what to do."""

    columns: tuple[str, ...]
    what: str
    remedy: str


_BESIDE = "publish the new form beside it, as a dataset of its own, and move its readers there"


def plan(before: Layout, after: Layout) -> tuple[list[Step], list[Breach]]:
    """Return how the table gets from `before` to `after`: the steps in order, and what forbids it."""
    changes = list(_changes(before, after))
    steps = [change for change in changes if isinstance(change, Step)]
    return steps, [change for change in changes if isinstance(change, Breach)]


def _changes(before: Layout, after: Layout) -> Iterator[Step | Breach]:
    for name in before.columns:
        if name not in after.columns:
            yield Breach((name,), f"drops column {name}{_renamed(before, after, name)}", _keep(name))
    for name, shape in after.columns.items():
        yield from _of_column(name, before.columns.get(name), shape)
    if before.key != after.key:
        what = f"changes the key from ({', '.join(before.key)}) to ({', '.join(after.key)})"
        yield Breach((*before.key, *after.key), what, _BESIDE)
    if None not in (before.partition, after.partition) and before.partition != after.partition:
        yield Breach((), f"changes what a partition is from {before.partition} to {after.partition}", _BESIDE)


def _of_column(name: str, old: Shape | None, new: Shape) -> Iterator[Step | Breach]:
    if old is None:
        if new.required:
            what = f"adds column {name}, never empty, and rows published before have no value for it"
            yield Breach((name,), what, "add it with `required: false`")
        else:
            yield Step("add", name, new.type)
        return
    if widens(old.type, new.type):
        yield Step("widen", name, new.type)
    elif SEALED in (old.type, new.type) and old.type != new.type:
        seals = new.type == SEALED
        rows = "hold it in plain" if seals else "hold it sealed"
        yield Breach(
            (name,), f"{'seals' if seals else 'unseals'} column {name}, and rows published before {rows}", _BESIDE
        )
    elif old.type != new.type:
        what = f"changes column {name} from {old.type} to {new.type}"
        yield Breach((name,), what, f"keep {old.type}, and add a column of the new type under another name")
    if old.required and not new.required:
        yield Step("relax", name, new.type)
    elif new.required and not old.required:
        what = f"says that column {name} is never empty, and rows published before may be"
        yield Breach((name,), what, "keep `required: false`; expectations/ can judge new batches more strictly")


def _renamed(before: Layout, after: Layout, name: str) -> str:
    """Guess at a renaming: a new column of the same type stands where the old one stood."""
    place = list(before.columns).index(name)
    names = list(after.columns)
    if place < len(names) and names[place] not in before.columns:
        heir = names[place]
        if after.columns[heir].type == before.columns[name].type:
            return f" (renames it to {heir})"
    return ""


def _keep(name: str) -> str:
    return f"keep {name} with `required: false`, or {_BESIDE}"
