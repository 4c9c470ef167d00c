"""Which locks statements really take on tables that are there already, and for how much work they hold them.

Found by running them in a transaction that is taken back: on a clone, never on the warehouse itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

#: Modes that keep readers out, and those that keep only writers out.
AGAINST_READERS = frozenset({"AccessExclusiveLock"})
AGAINST_WRITERS = frozenset({"ShareLock", "ShareRowExclusiveLock", "ExclusiveLock"})
#: A table of this many rows is read or written anew in well under the time that a reader notices.
FEW_ROWS = 1000

_TABLES = """
SELECT c.oid, c.oid::regclass::text AS name, relfilenode,
    coalesce(seq_scan, 0) + coalesce(n_tup_upd, 0) AS touched
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = relnamespace
LEFT JOIN pg_stat_xact_all_tables AS x ON x.relid = c.oid
WHERE relkind = 'r' AND nspname !~ '^(pg_|information_schema)'
"""


@dataclass(frozen=True)
class Held:
    """A lock on a table: its strongest mode, how many rows the table has, and whether all of them were gone through."""

    table: str
    mode: str
    rows: int
    all_rows: bool

    @property
    def blocks_readers_for_long(self) -> bool:
        """Readers wait while every row of a large table is read or written."""
        return self.mode in AGAINST_READERS and self.all_rows and self.rows > FEW_ROWS

    @property
    def blocks_writers_for_long(self) -> bool:
        """Writers wait while every row of a large table is read or written."""
        return self.mode in AGAINST_READERS | AGAINST_WRITERS and self.all_rows and self.rows > FEW_ROWS


def trace(connection: psycopg.Connection[Any], statements: str) -> list[Held]:
    """Run the statements, note their locks, take everything back; return the locks on tables that were there before."""
    cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
    with connection.transaction(force_rollback=True):
        before = {row["oid"]: row for row in cursor.execute(_TABLES).fetchall()}
        rows = {
            oid: cursor.execute(f"SELECT count(*) AS n FROM {table['name']}").fetchone()["n"]  # type: ignore[index]
            for oid, table in before.items()
        }
        # Again, for counting has gone through every row, too.
        before = {row["oid"]: row for row in cursor.execute(_TABLES).fetchall()}
        cursor.execute(statements)
        after = {row["oid"]: row for row in cursor.execute(_TABLES).fetchall()}
        locks = cursor.execute(
            "SELECT relation AS oid, array_agg(mode) AS modes FROM pg_locks "
            "WHERE pid = pg_backend_pid() AND locktype = 'relation' GROUP BY relation"
        ).fetchall()
    strongest = ["AccessExclusiveLock", "ExclusiveLock", "ShareRowExclusiveLock", "ShareLock", "ShareUpdateExclusiveLock",
             "RowExclusiveLock", "RowShareLock", "AccessShareLock"]  # fmt: skip
    found = []
    for lock in locks:
        if (oid := lock["oid"]) not in before:
            continue
        then, now = before[oid], after.get(oid)
        gone_through = now is None or now["relfilenode"] != then["relfilenode"] or now["touched"] > then["touched"]
        mode = min(lock["modes"], key=strongest.index)
        found.append(Held(then["name"], mode, rows[oid], gone_through))
    return sorted(found, key=lambda held: held.table)
