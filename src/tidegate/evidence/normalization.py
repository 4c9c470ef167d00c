"""How far each published table is normalised, by its rows: whether its key is one, and which columns follow from another.

What the tables should look like is no part of it: a dependency that holds in these rows is told of, not forbidden.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import sql

from tidegate.contracts import load_all
from tidegate.contracts.access import is_classified
from tidegate.contracts.dictionary import table as markdown
from tidegate.contracts.model import LINEAGE_COLUMNS
from tidegate.evidence import reference
from tidegate.evidence.probe import CannotRunError, Finding, Ground
from tidegate.observe.catalog import LEDGER, MARTS, Table
from tidegate.publish.marts import CURRENT
from tidegate.stores.duckdb import identifier, literal
from tidegate.stores.postgres import Connection, connect, exists

if TYPE_CHECKING:
    import duckdb

#: Rows on which a dependency is tried first; most do not survive them.
_SAMPLE = 20_000
#: What stands for no value, which is a value like another one here; and what no row has.
_NULL, _NEVER = r"\N", "\x01"
#: Rows that could have broken a dependency, at least: with fewer, columns follow from each other by accident.
_SUPPORT = 100
_WHY = {
    "raw": "as delivered: what a source repeats is kept, so that a delivery can be told from its file",
    "core": "derived, and written whole: it repeats what its readers would have to join",
    MARTS: "derived, and swapped in whole: repeated for readers, and never updated in place",
}


@dataclass(frozen=True)
class Analysis:
    """One table's rows: how many have a key that is not theirs alone, and which columns follow from which one.

    `constant` have one value, or none, in all rows; `follows` maps a determinant to what follows from it.
    """

    table: Table
    key: tuple[str, ...]
    rows: int
    duplicates: int
    constant: tuple[str, ...]
    follows: dict[str, tuple[str, ...]]

    @property
    def dependencies(self) -> int:
        """How many pairs of columns there are of which the second follows from the first."""
        return sum(map(len, self.follows.values()))

    @property
    def form(self) -> str:
        """The highest normal form that no dependency of one column on another, and no type, speaks against."""
        if not self.key or self.duplicates:
            return "none: no key"
        if any(column.type.endswith("[]") or column.type in ("json", "jsonb") for column in self.table.columns):
            return "none: not atomic"
        pairs = [(of, column) for of, columns in self.follows.items() for column in columns]
        outside = [of for of, column in pairs if column not in self.key]
        if any(of in self.key for of in outside):
            return "1NF"
        return "2NF" if outside else "3NF" if pairs else "BCNF"


def normal_forms(ground: Ground) -> Iterator[Finding]:
    """Verify every published table's key on its rows, and search them for columns that follow from another one."""
    classified = {c.name for contract in load_all(ground.settings) for c in contract.columns if is_classified(c)}
    with connect(ground.settings) as connection:
        found = [table for table in reference.tables(ground.settings, connection) if table.schema not in LEDGER]
        there = [table for table in found if exists(connection, _schema(table), table.name)]
        # Rows of every tenant: a key is one across all of them.
        connection.execute("SELECT ops.enter_all()")
        analyses = [analysis for table in there if (analysis := analyse(connection, table, classified)).rows]
    if not analyses:
        raise CannotRunError("nothing is published yet, and a dependency is found in rows: `tidegate run` first")
    broken = [one for one in analyses if one.duplicates or not one.key]
    figures = {
        "tables": len(analyses), "rows": sum(one.rows for one in analyses), "keys_broken": len(broken),
        "dependencies": sum(one.dependencies for one in analyses),
        "below_3nf": sum(one.form not in ("3NF", "BCNF") for one in analyses),
        "without_rows": len(found) - len(analyses), "forms": {str(one.table): one.form for one in analyses},
    }  # fmt: skip
    yield Finding(
        "architecture/normalization_analysis.md", _page(analyses), figures, "GROUP BY each column of each table",
        int(bool(broken)),
    )  # fmt: skip


def analyse(connection: Connection, table: Table, classified: Collection[str] = ()) -> Analysis:
    """Look for dependencies in a table's rows as they are; classified values leave the server as hashes of them."""
    import duckdb

    columns = [column.name for column in table.columns if column.name not in LINEAGE_COLUMNS]
    key = tuple(name for name in table.key if name not in LINEAGE_COLUMNS)
    values = sql.SQL(", ").join(
        sql.SQL("hashtextextended({}::text, 0)" if name in classified else "{}").format(sql.Identifier(name))
        for name in columns
    )
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv, NULL {})").format(
        values, sql.Identifier(_schema(table), table.name), sql.Literal(_NULL)
    )
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as duck:
        file = Path(folder) / "rows.csv"
        with file.open("wb") as written, connection.cursor() as cursor, cursor.copy(query) as rows:
            for block in rows:
                written.write(block)
        duck.execute("SET threads = 2")
        named = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in columns)
        duck.execute(
            f"CREATE TABLE whole AS FROM read_csv({literal(str(file))}, header = false, auto_detect = false, "
            f"nullstr = {literal(_NEVER)}, quote = '\"', escape = '\"', columns = {{{named}}})"
        )
        return _analysis(duck, table, key, columns)


def _analysis(duck: duckdb.DuckDBPyConnection, table: Table, key: tuple[str, ...], columns: Sequence[str]) -> Analysis:
    duck.execute(f"CREATE TABLE sampled AS FROM whole USING SAMPLE reservoir({_SAMPLE} ROWS) REPEATABLE (1)")
    counts = ", ".join(f"count(DISTINCT {identifier(name)})" for name in columns)
    (rows, *distinct) = duck.execute(f"SELECT count(*), {counts} FROM whole").fetchone() or (0,)
    several = {name: count for name, count in zip(columns, distinct, strict=True) if count > 1}
    follows = {}
    for of in (name for name, count in several.items() if rows - count >= _SUPPORT):
        candidates = [name for name in several if name != of]
        for place in ("sampled", "whole"):
            candidates = _following(duck, place, of, candidates)
        if candidates:
            follows[of] = tuple(candidates)
    keyed = ", ".join(map(identifier, key))
    unique = f"SELECT count(*) FROM (SELECT DISTINCT {keyed} FROM whole)"
    (different,) = (duck.execute(unique).fetchone() if key else None) or (rows,)
    constant = tuple(name for name in columns if name not in several) if rows > 1 else ()
    return Analysis(table, key, rows, rows - different, constant, follows)


def _following(duck: duckdb.DuckDBPyConnection, place: str, of: str, candidates: Sequence[str]) -> list[str]:
    """Return those columns that have one value for each value of the column `of`."""
    if not candidates:
        return []
    names = [identifier(name) for name in candidates]
    spans = ", ".join(f"min({name}) = max({name}) AS {name}" for name in names)
    holds = ", ".join(f"bool_and({name})" for name in names)
    row = duck.execute(f"SELECT {holds} FROM (SELECT {spans} FROM {place} GROUP BY {identifier(of)})").fetchone() or ()
    return [name for name, is_so in zip(candidates, row, strict=True) if is_so]


def _page(analyses: Sequence[Analysis]) -> str:
    rows = [
        [
            f"`{one.table}`", f"{one.rows:,}", ", ".join(f"`{name}`" for name in one.key) or "none",
            f"{one.duplicates:,}", one.form, str(one.dependencies), _WHY[one.table.schema] if one.dependencies else "",
        ]
        for one in analyses
    ]  # fmt: skip
    parts = [
        "# Normalisation, as the rows show it",
        f"A key is verified on every row. A dependency was tried on {_SAMPLE:,} rows and confirmed on all of them; it has one column "
        f"on its left side, and at least {_SUPPORT} rows that could have broken it. That it holds in these rows is no promise: "
        "a promise stands in the contract.",
        markdown(["table", "rows", "key", "rows with a key twice", "normal form", "dependencies", "why they stay"], rows),
    ]  # fmt: skip
    for one in (one for one in analyses if one.follows or one.constant):
        parts.append(f"## {one.table}")
        if one.constant:
            parts.append("One value, or none, in all rows: " + ", ".join(f"`{name}`" for name in one.constant) + ".")
        parts.append("\n".join(f"- `{of}` → {_listed(columns)}{_kind(one, of)}" for of, columns in one.follows.items()))
    return "\n\n".join(filter(None, parts)) + "\n"


def _kind(one: Analysis, of: str) -> str:
    return " (a part of the key)" if of in one.key and len(one.key) > 1 else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _schema(table: Table) -> str:
    return CURRENT if table.schema == MARTS else table.schema
