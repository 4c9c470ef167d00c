"""Whether a copy of the warehouse tells of a person: values of classified columns that are still what they were.

How a copy is masked is the rehearsal's matter; how it is looked at takes nothing from that code, so that what it overlooks is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from tidegate.contracts import load_all
from tidegate.contracts.access import is_classified
from tidegate.evidence import made_up
from tidegate.evidence.probe import Finding, Ground
from tidegate.rehearsal.mask import mask
from tidegate.run.bookings import DATASET, deliver
from tidegate.stores.postgres import Connection, connect, connect_to
from tidegate.wave import ingest

_COLUMNS = """
SELECT n.nspname AS schema, c.relname AS name, a.attname AS column, format_type(a.atttypid, NULL) AS type
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_attribute AS a ON a.attrelid = c.oid
WHERE c.relkind = ANY (%s) AND a.attname = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND (c.relkind <> 'v' OR n.nspname = 'masked')
ORDER BY 1, 2, 3
"""
#: Of which an equal value is no accident; of the other types it is looked whether all of them are coarse.
_TELLING = ("text", "character varying", "ops.sealed", "bytea", "jsonb")
_COARSE = {
    "date": "{0} = date_trunc('year', {0})::date",
    "timestamp with time zone": "{0} = date_trunc('year', {0})",
    "timestamp without time zone": "{0} = date_trunc('year', {0})",
    "boolean": "NOT {0}",
}
_MONTH, _SEATS = "2013-01", 200


@dataclass(frozen=True)
class Left:
    """One column of the copy: how many values it has, and how many of them are those of the warehouse."""

    table: str
    column: str
    values: int
    found: int


def left_over(ground: Ground) -> Iterator[Finding]:
    """Look for the warehouse's classified values where there may be none: in the rehearsal, and in the views that mask."""
    contracts = load_all(ground.settings)
    names = sorted({c.name for contract in contracts for c in contract.columns if is_classified(c)})
    with connect(ground.settings) as connection:
        original, shown = _original(connection, names)
    if original:
        copy = ground.rehearsal.primary.dsn("warehouse")
        found = _in_copy(copy, names, original)
    else:
        # Nobody is in the warehouse: what a rehearsal would do to somebody is tried on made-up passengers.
        with made_up.warehouse(ground, "masking") as settings:
            deliver(settings, [_MONTH], _SEATS)
            ingest(settings, DATASET, _MONTH)
            copy = ground.rehearsal.primary.dsn("masking")
            with connect_to(copy) as connection:
                original, shown = _original(connection, names)
            mask(copy, contracts)
            found = _in_copy(copy, names, original)
    bad = [one for one in (*found, *shown) if one.found]
    figures = {
        "columns": len(found), "values": sum(one.values for one in found), "compared_with": len(original),
        "found": sum(one.found for one in found), "shown": sum(one.found for one in shown),
    }  # fmt: skip
    lines = [
        f"{'FAIL' if one.found else 'ok  '} {one.table}.{one.column}: {one.found} of {one.values} values are the warehouse's"
        for one in (*found, *shown)
    ]
    yield Finding("tests/security/masking.log", "\n".join(lines), figures, "SELECT md5(…) of both", int(bool(bad)))


def _original(connection: Connection, names: Sequence[str]) -> tuple[set[str], list[Left]]:
    """Return the hashes of the classified values of a warehouse, and how many of them its masking views show."""
    # Rows of every tenant; what is compared are hashes.
    connection.execute("SELECT ops.enter_all()")
    original = _hashes(connection, _columns(connection, names))
    return original, [_look(connection, row, original) for row in _columns(connection, names, ("v",))]


def _in_copy(dsn: str, names: Sequence[str], original: set[str]) -> list[Left]:
    with connect_to(dsn, autocommit=True) as copy:
        return [_look(copy, row, original) for row in _columns(copy, names)]


def _columns(connection: Connection, names: Sequence[str], kinds: Sequence[str] = ("r", "m")) -> list[dict[str, Any]]:
    return connection.execute(_COLUMNS, [list(kinds), list(names)]).fetchall()


def _hashes(connection: Connection, columns: Sequence[dict[str, Any]]) -> set[str]:
    found: set[str] = set()
    for row in (row for row in columns if row["type"] in _TELLING):
        found |= {one["hash"] for one in connection.execute(_of(row)).fetchall()}
    return found


def _look(copy: Connection, row: dict[str, Any], original: set[str]) -> Left:
    table = f"{row['schema']}.{row['name']}"
    if row["type"] in _TELLING:
        hashes = [one["hash"] for one in copy.execute(_of(row)).fetchall()]
        return Left(table, row["column"], len(hashes), sum(one in original for one in hashes))
    column = sql.Identifier(row["column"])
    coarse = sql.SQL(_COARSE.get(row["type"], "{0} = 0")).format(column)
    query = sql.SQL("SELECT count({0}) AS values, count({0}) FILTER (WHERE NOT ({1})) AS found FROM {2}")
    (counts,) = copy.execute(query.format(column, coarse, sql.Identifier(row["schema"], row["name"]))).fetchall()
    return Left(table, row["column"], counts["values"], counts["found"])


def _of(row: dict[str, Any]) -> sql.Composed:
    return sql.SQL("SELECT DISTINCT md5({0}::text) AS hash FROM {1} WHERE {0} IS NOT NULL").format(
        sql.Identifier(row["column"]), sql.Identifier(row["schema"], row["name"])
    )
