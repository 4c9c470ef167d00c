"""The index strategy as a page: every index, why it is there, and which of the important queries it serves.

What an index does on a machine (size, scans, plans) is measured by `tidegate queries`, and is no part of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.contracts import Contract
from tidegate.contracts.dictionary import table as markdown
from tidegate.evidence.indexes import Index
from tidegate.evidence.queries import Query

_DEFINITION = re.compile(r"USING (\w+) \((?P<columns>.*?)\)(?: WHERE (?P<only>.*))?\Z")
_READ = re.compile(r"\b(?:from|join)\s+(\w+\.\w+)", re.I)
_COMPARED = re.compile(r"\b(\w+) = %\(")


@dataclass(frozen=True)
class Told:
    """An index as readers know it: its columns in order, which rows alone it holds, why it is there."""

    table: str
    columns: tuple[str, ...]
    only: str
    unique: bool
    reason: str

    @property
    def holds(self) -> str:
        """What it is made of."""
        return f"({', '.join(self.columns)})" + (f" where {self.only}" if self.only else "")


def told(indexes: Sequence[Index], contracts: Sequence[Contract]) -> list[Told]:
    """Return every index by table; a dataset's is its contract's key, whether anything was delivered or not."""
    found = []
    for index in indexes:
        schema, name = index.table.split(".")
        parts = _DEFINITION.search(index.definition)
        if schema in ("raw", "core") or parts is None:
            continue
        columns = tuple(column.strip().strip('"') for column in parts["columns"].split(","))
        only = (parts["only"] or "").removeprefix("(").removesuffix(")").replace("::text", "")
        reason = index.reason
        found.append(Told(f"{schema.removesuffix('_current')}.{name}", columns, only, index.unique, reason))
    for contract in contracts:
        if contract.key:
            where = f"{contract.schema}.{contract.table}"
            found.append(
                Told(where, (*contract.key, "_partition"), "", True, f"The key that {contract.reference} names.")
            )
    return sorted(found, key=lambda index: (index.table, not index.unique, index.columns))


def serving(indexes: Sequence[Told], query: Query) -> list[Told]:
    """Return the index of each table that the query reads by which its parameters are found soonest; none if it has none."""
    compared = set(_COMPARED.findall(query.statement))
    best = {}
    for table in dict.fromkeys(_READ.findall(query.statement)):
        ranked = [(_leading(index, compared), index) for index in indexes if index.table == table]
        usable = [(rank, index) for rank, index in ranked if rank[0]]
        if usable:
            best[table] = max(usable, key=lambda pair: pair[0])[1]
    return list(best.values())


def reasons(indexes: Sequence[Index], contracts: Sequence[Contract], queries: Sequence[Query]) -> dict[str, str]:
    """Return why each index is there, by its name: what it says itself, or the important queries that it serves."""
    known = told(indexes, contracts)
    found = {}
    for index in indexes:
        mine = told([index], ())
        served = [f"`{query.name}`" for query in queries if any(one in serving(known, query) for one in mine)]
        found[index.name] = index.reason or (f"For {', '.join(served)}." if served else "")
    return found


def _leading(index: Told, compared: set[str]) -> tuple[int, float]:
    """Return how many of the index's first columns are compared, and what share of it that is."""
    count = next((n for n, column in enumerate(index.columns) if column not in compared), len(index.columns))
    return count, count / len(index.columns)


def page(indexes: Sequence[Told], queries: Sequence[Query]) -> list[str]:
    """Return the page's parts: the indexes by schema, then the queries with what serves each."""
    served: dict[Told, list[str]] = {}
    for query in queries:
        for index in serving(indexes, query):
            served.setdefault(index, []).append(query.name)
    parts = []
    for schema in dict.fromkeys(index.table.split(".")[0] for index in indexes):
        rows = [
            [
                f"`{index.table}`", f"`{index.holds}`", "yes" if index.unique else "",
                index.reason or f"For {', '.join(f'`{name}`' for name in served.get(index, []))}.",
                ", ".join(f"[{name}](../../queries/{name}.sql)" for name in served.get(index, [])),
            ]
            for index in indexes
            if index.table.startswith(f"{schema}.")
        ]  # fmt: skip
        parts += [f"## {schema}", markdown(["table", "index", "unique", "why", "serves"], rows)]
    rows = [
        [
            f"[{query.name}](../../queries/{query.name}.sql)",
            query.purpose,
            f"P95 < {query.target_ms:g} ms",
            "; ".join(f"`{index.table} {index.holds}`" for index in serving(indexes, query))
            or f"none: {', '.join(f'`{name}`' for name in sorted(query.scans))} is small, and read whole",
        ]
        for query in queries
    ]
    return [*parts, "## The important queries", markdown(["query", "what for", "target", "served by"], rows)]
