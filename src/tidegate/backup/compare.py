"""What a warehouse holds, as a number of rows and a checksum for each table, so that two can be held side by side."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

#: What is published and what is written down about it; all else can be made from these.
SCHEMAS = ("raw", "core", "marts_current", "ops")

#: Table → (rows, checksum over all of them).
Fingerprints = dict[str, tuple[int, str]]

_TABLES = """
SELECT c.oid, nspname AS schema, relname AS name
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE nspname = ANY (%s) AND relkind IN ('r', 'p') AND NOT relispartition
ORDER BY nspname, relname
"""


def tables(connection: psycopg.Connection[dict[str, Any]]) -> dict[int, tuple[str, str]]:
    """Return schema and name of each table, a partitioned one as a whole, by its object number."""
    found = connection.execute(_TABLES, [list(SCHEMAS)]).fetchall()
    return {row["oid"]: (row["schema"], row["name"]) for row in found}


def fingerprints(connection: psycopg.Connection[dict[str, Any]]) -> Fingerprints:
    """Return what each table holds in the connection's snapshot; the order of rows does not matter."""
    found = {}
    for schema, name in tables(connection).values():
        row = connection.execute(
            sql.SQL(
                "SELECT count(*) AS rows, coalesce(sum(hashtextextended(t::text, 0)), 0)::text AS checksum FROM {} AS t"
            ).format(sql.Identifier(schema, name))
        ).fetchone()
        if row:
            found[f"{schema}.{name}"] = (int(row["rows"]), str(row["checksum"]))
    return found


def differences(source: Fingerprints, copy: Fingerprints) -> list[str]:
    """Return a line for each table that is not the same in both."""
    return [
        f"{name}: {_told(source.get(name))}, restored {_told(copy.get(name))}"
        for name in sorted(source.keys() | copy.keys())
        if source.get(name) != copy.get(name)
    ]


def _told(found: tuple[int, str] | None) -> str:
    return "no such table" if found is None else f"{found[0]} rows (checksum {found[1]})"
