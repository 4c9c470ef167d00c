"""The tables that there are, as values: the ledger's and the marts' from PostgreSQL's catalog, the datasets' from contracts.

A dataset that nobody has delivered yet has no table, and belongs into every picture all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tidegate.contracts import Contract
from tidegate.contracts.dictionary import LINEAGE
from tidegate.contracts.types import canonical
from tidegate.errors import TerminalError
from tidegate.publish.marts import CURRENT
from tidegate.stores.postgres import Connection

LEDGER = ("ops", "quarantine")
#: By what name readers know the marts.
MARTS = "marts"


@dataclass(frozen=True)
class Column:
    """One column, and what is said of it."""

    name: str
    type: str
    required: bool
    told: str


@dataclass(frozen=True)
class Reference:
    """Columns that name a row of another table; `kept` by PostgreSQL itself, or else by the programs and gates that write."""

    columns: tuple[str, ...]
    target: str
    kept: bool


@dataclass(frozen=True)
class Table:
    """One table; `key` is empty where it has none, `rules` are its CHECK constraints as PostgreSQL says them."""

    schema: str
    name: str
    told: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    references: tuple[Reference, ...] = ()
    rules: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


#: What names a row elsewhere and is no foreign key: of a batch or a build alike, or written before the other row is.
_BY_PROGRAMS = {
    ("ops.step", "subject"): "ops.batch",
    ("ops.verdict", "subject"): "ops.batch",
    ("ops.decision", "subject"): "ops.batch",
    ("ops.fence", "subject"): "ops.batch",
    ("quarantine.refused_row", "batch_id"): "ops.batch",
    ("ops.audit_seal", "audit_id"): "ops.audit",
}


def ledger(connection: Connection) -> list[Table]:
    """Return the tables of the ledger and the quarantine, by name."""
    return [table for schema in LEDGER for table in _read(connection, schema, schema)]


def marts(connection: Connection, project: Path) -> list[Table]:
    """Return the published marts, by name; their keys are those that dbt holds them to.

    Raises:
        TerminalError: no marts have been published.
    """
    found = _read(connection, CURRENT, MARTS, grains(project))
    if not found:
        raise TerminalError("no marts are published yet, and their tables are a part of this: `tidegate run` first")
    dimensions = {table.key: str(table) for table in found if table.name.startswith("dim_")}
    return [
        Table(
            t.schema, t.name, t.told, t.columns, t.key,
            tuple(
                Reference((c.name,), dimensions[c.name,], kept=False)
                for c in t.columns if (c.name,) in dimensions and dimensions[c.name,] != str(t)
            ),
        )
        for t in found
    ]  # fmt: skip


def datasets(contracts: Sequence[Contract]) -> list[Table]:
    """Return the published tables of datasets as their contracts ask for them."""
    places = {contract.dataset: f"{contract.schema}.{contract.table}" for contract in contracts}
    return [
        Table(
            contract.schema,
            contract.table,
            f"{contract.description} {contract.grain}".strip(),
            (
                *(Column(c.name, c.stored_type, c.required, c.told) for c in contract.columns),
                *(Column(name, "text", True, told) for name, told in LINEAGE.items()),
            ),
            (*contract.key, "_partition") if contract.key else (),
            tuple(
                Reference((c.name,), places[c.references.split(".")[0]], kept=False)
                for c in contract.columns
                if c.references is not None and c.references.split(".")[0] in places
            ),
        )
        for contract in sorted(contracts, key=lambda contract: (contract.schema != "raw", contract.dataset))
    ]


def grains(project: Path) -> dict[str, tuple[str, ...]]:
    """Return the columns by which each model's rows are one of a kind, as its own file says."""
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted((project / "models" / "marts").glob("*.yml")):
        document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for model in document.get("models", []):
            for check in model.get("data_tests", []):
                if isinstance(check, dict) and "unique_grain" in check:
                    found[model["name"]] = tuple(check["unique_grain"]["arguments"]["columns"])
    return found


def _read(
    connection: Connection, schema: str, called: str, keys: dict[str, tuple[str, ...]] | None = None
) -> list[Table]:
    rows = connection.execute(
        """
        SELECT c.relname AS name, obj_description(c.oid, 'pg_class') AS told,
            (SELECT array_agg(a.attname::text ORDER BY place) FROM pg_index AS i
             CROSS JOIN unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (number, place)
             JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.number
             WHERE i.indrelid = c.oid AND i.indisprimary) AS key,
            (SELECT jsonb_agg(jsonb_build_array(a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                                                coalesce(col_description(c.oid, a.attnum), '')) ORDER BY a.attnum)
             FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
            (SELECT jsonb_agg(jsonb_build_array(
                    (SELECT jsonb_agg(a.attname ORDER BY place) FROM unnest(k.conkey) WITH ORDINALITY AS n (number, place)
                     JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = n.number),
                    k.confrelid::regclass::text) ORDER BY k.conname)
             FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype = 'f') AS refers,
            (SELECT array_agg(pg_get_expr(k.conbin, c.oid) ORDER BY k.conname)
             FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype = 'c') AS rules
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY c.relname
        """,
        [schema],
    ).fetchall()
    found = []
    for row in rows:
        name = f"{called}.{row['name']}"
        columns = tuple(Column(column, canonical(kind), *rest) for column, kind, *rest in row["columns"])
        kept = [Reference(tuple(own), target, kept=True) for own, target in row["refers"] or ()]
        loose = [
            Reference((column.name,), _BY_PROGRAMS[name, column.name], kept=False)
            for column in columns
            if (name, column.name) in _BY_PROGRAMS
        ]
        key = tuple(row["key"] or (keys or {}).get(row["name"], ()))
        rules = tuple(row["rules"] or ())
        found.append(Table(called, row["name"], row["told"] or "", columns, key, (*kept, *loose), rules))
    return found
