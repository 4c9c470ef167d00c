"""The data dictionary of what no contract tells of: the ledger and the marts, from what the catalog says of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tidegate.contracts.dictionary import table as markdown
from tidegate.observe.catalog import Reference, Table

_AMONG = re.compile(r"\(?(\w+) = ANY \(ARRAY\[(.*?)\]\)\)?")


def page(tables: Sequence[Table]) -> list[str]:
    """Return the tables as parts of a page of Markdown: what a row is, every column, what the table refuses."""
    return [part for table in tables for part in _told(table)]


def _told(table: Table) -> Iterator[str]:
    yield f"## {table}"
    yield table.told
    pointers = {name: reference for reference in table.references for name in reference.columns}
    rows = [
        [
            f"`{column.name}`",
            column.type,
            " ".join(
                filter(
                    None,
                    (
                        "key" if column.name in table.key else "",
                        "required" if column.required and column.name not in table.key else "",
                        _pointer(pointers.get(column.name)),
                    ),
                )
            ),
            column.told,
        ]
        for column in table.columns
    ]
    yield markdown(["column", "type", "", "what it is"], rows)
    if table.rules:
        yield "Refused unless:\n\n" + "\n".join(f"- `{_legible(rule)}`" for rule in table.rules)


def _legible(rule: str) -> str:
    """Return a condition without what PostgreSQL adds when it repeats one."""
    bare = rule.replace("::text", "").removeprefix("(").removesuffix(")")
    return _AMONG.sub(r"\1 in (\2)", bare)


def _pointer(reference: Reference | None) -> str:
    if reference is None:
        return ""
    return f"→ {reference.target}" if reference.kept else f"⇢ {reference.target}"
