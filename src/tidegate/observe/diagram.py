"""The entity-relationship diagram, in Mermaid: a picture for each part of the warehouse, for one of all would be a thicket.

A picture shows keys and what points elsewhere; every column is told in the dictionary. A table that is pointed at from
another part stands there by its name alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tidegate.observe.catalog import Column, Table

LEDGER = "The ledger: batches and what became of them"
#: The parts, with the schemas of each, in the order in which data flow.
PARTS = {
    "Datasets as delivered": ("raw",),
    "What transforms derive": ("core",),
    "Marts": ("marts",),
    LEDGER: ("ops", "quarantine"),
}
STREAMS = "The ledger: streams"
#: The rest of the ledger tells of no batch: who may do what, what was done, how the warehouse is kept.
HOUSEKEEPING = "The ledger: people, changes and upkeep"


def parts(tables: Sequence[Table]) -> dict[str, list[Table]]:
    """Return the tables by the picture that they belong into."""
    about = {str(t): _about(t) for t in tables if t.schema in ("ops", "quarantine")}
    found = {
        title: [t for t in tables if t.schema in schemas and about.get(str(t), title) == title]
        for title, schemas in PARTS.items()
    }
    return found | {part: [t for t in tables if about.get(str(t)) == part] for part in (STREAMS, HOUSEKEEPING)}


def _about(table: Table) -> str:
    """Return the part of the ledger that a table belongs into, by its name and by what it points at."""
    targets = {str(table), *(reference.target for reference in table.references)}
    if table.name.startswith("stream_") or "ops.stream_batch" in targets:
        return STREAMS
    return LEDGER if targets & {"ops.batch", "ops.marts_build", "ops.evidence"} else HOUSEKEEPING


def mermaid(tables: Sequence[Table]) -> str:
    """Return one picture of `tables`, as Mermaid's `erDiagram`."""
    lines = ["erDiagram"]
    for table in tables:
        shown = list(_shown(table))
        lines.append(f"  {_entity(str(table))} {{" if shown else f"  {_entity(str(table))}")
        lines += [f"    {_word(column.type)} {_word(column.name)}{mark}" for column, mark in shown]
        lines += ["  }"] if shown else []
    for table in tables:
        for target, names in _pointers(table).items():
            kept = any(reference.kept for reference in table.references if reference.target == target)
            line = "||--o{" if kept else "||..o{"
            lines.append(f'  {_entity(target)} {line} {_entity(str(table))} : "{", ".join(names)}"')
    return "\n".join(lines)


def _pointers(table: Table) -> dict[str, list[str]]:
    """Return the tables that a table points at, each with the columns that do: one line a pair."""
    found: dict[str, list[str]] = {}
    for reference in table.references:
        found.setdefault(reference.target, []).extend(reference.columns)
    return found


def _shown(table: Table) -> Iterable[tuple[Column, str]]:
    pointing = {name for reference in table.references for name in reference.columns}
    for column in table.columns:
        marks = [word for word, holds in (("PK", column.name in table.key), ("FK", column.name in pointing)) if holds]
        if marks:
            yield column, f" {', '.join(marks)}"


def _entity(name: str) -> str:
    return f'"{name}"' if "." in name else name


def _word(text: str) -> str:
    """Return a type or a name as one word that Mermaid reads."""
    return re.sub(r"\W+", "_", text).rstrip("_")


def page(tables: Sequence[Table]) -> list[str]:
    """Return the diagram as Markdown: a heading and a picture for each part that has tables."""
    return [
        part
        for title, members in parts(tables).items()
        if members
        for part in (f"## {title}", f"```mermaid\n{mermaid(members)}\n```")
    ]
