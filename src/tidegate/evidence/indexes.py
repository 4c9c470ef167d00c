"""The warehouse's indexes: why each is there, whether it is used, and where one is missing; read from the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from tidegate.stores.postgres import Connection

_OURS = "n.nspname IN ('raw', 'core', 'ops', 'quarantine', 'marts_current')"


@dataclass(frozen=True)
class Index:
    """One index; `reason` is its comment, or what it guarantees. Those of partitions are told with their table's."""

    table: str
    name: str
    definition: str
    unique: bool
    reason: str
    scans: int
    size_bytes: int


def of_warehouse(connection: Connection) -> list[Index]:
    """Return every index, by table; a partitioned one with the scans and bytes of all its partitions."""
    rows = connection.execute(
        f"""
        WITH RECURSIVE part AS (
            SELECT i.indexrelid AS root, i.indexrelid AS leaf FROM pg_index AS i
            JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE {_OURS} AND NOT c.relispartition
            UNION ALL
            SELECT root, inhrelid FROM part JOIN pg_inherits ON inhparent = leaf
        )
        SELECT t.oid::regclass::text AS table, c.relname AS name, pg_get_indexdef(c.oid) AS definition,
            i.indisunique AS unique,
            coalesce(obj_description(c.oid), CASE WHEN i.indisprimary THEN 'The key.' END,
                     CASE WHEN k.conname IS NOT NULL THEN 'A guarantee: ' || pg_get_constraintdef(k.oid) || '.' END,
                     '') AS reason,
            (SELECT coalesce(sum(idx_scan), 0)::bigint FROM part JOIN pg_stat_all_indexes AS s ON s.indexrelid = leaf
             WHERE root = c.oid) AS scans,
            (SELECT sum(pg_relation_size(leaf))::bigint FROM part WHERE root = c.oid) AS size_bytes
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indexrelid
        JOIN pg_class AS t ON t.oid = i.indrelid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        LEFT JOIN pg_constraint AS k ON k.conindid = c.oid AND k.contype IN ('u', 'x')
        WHERE {_OURS} AND NOT c.relispartition
        ORDER BY 1, 2
        """
    ).fetchall()
    return [Index(**row) for row in rows]


def unused(indexes: list[Index]) -> list[Index]:
    """Return those that no query has used since the statistics began, and that guarantee nothing."""
    return [index for index in indexes if not index.scans and not index.unique]


def foreign_keys_without(connection: Connection) -> list[str]:
    """Return the foreign keys (`table: columns`) that no index begins with: deleting what they point at reads all rows."""
    rows = connection.execute(
        rf"""
        SELECT k.conrelid::regclass || ': ' || pg_get_constraintdef(k.oid) AS told
        FROM pg_constraint AS k JOIN pg_class AS t ON t.oid = k.conrelid JOIN pg_namespace AS n ON n.oid = t.relnamespace
        WHERE k.contype = 'f' AND k.conparentid = 0 AND {_OURS} AND NOT EXISTS (
            SELECT FROM pg_index AS i
            WHERE i.indrelid = k.conrelid
              AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) ~ '^\(\w+ IS NOT NULL\)$')
              AND (i.indkey::smallint[])[0:cardinality(k.conkey) - 1] @> k.conkey
        )
        ORDER BY 1
        """
    ).fetchall()
    return [str(row["told"]) for row in rows]


def read_whole(connection: Connection, least_rows: int = 10_000) -> list[dict[str, Any]]:
    """Return the large tables that are read whole, most rows first: how often, how many rows a time."""
    return connection.execute(
        f"""
        SELECT s.relid::regclass::text AS table, seq_scan AS times, seq_tup_read / seq_scan AS rows_a_time,
            coalesce(idx_scan, 0) AS by_index
        FROM pg_stat_all_tables AS s JOIN pg_class AS c ON c.oid = relid JOIN pg_namespace AS n ON n.oid = relnamespace
        WHERE {_OURS} AND seq_scan > 0 AND seq_tup_read / seq_scan >= %s
        ORDER BY seq_tup_read DESC
        """,
        [least_rows],
    ).fetchall()


def slowest(connection: Connection, most: int = 10) -> list[dict[str, Any]] | None:
    """Return the statements that took most time since the statistics began, with their plans; None where nobody counts them."""
    if connection.execute("SELECT FROM pg_extension WHERE extname = 'pg_stat_statements'").fetchone() is None:
        return None
    rows = connection.execute(
        """
        SELECT round(total_exec_time::numeric, 1) AS total_ms, calls, round(mean_exec_time::numeric, 2) AS mean_ms,
            rows, regexp_replace(query, '\\s+', ' ', 'g') AS statement, query
        FROM public.pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY total_exec_time DESC LIMIT %s
        """,
        [most],
    ).fetchall()
    return [{**row, "plan": plan(connection, row.pop("query"))} for row in rows]


def plan(connection: Connection, statement: str) -> list[str]:
    """Return the lines of a counted statement's plan, for whatever values; none where nothing is planned, or nobody can.

    Its values are gone (`$1` stands for each), so it is prepared and planned for any of them. Nothing is run.
    """
    prepare = sql.SQL("PREPARE counted AS {}").format(sql.SQL(statement))
    with connection.transaction(force_rollback=True):
        connection.execute("SET TRANSACTION READ ONLY; SET LOCAL plan_cache_mode = force_generic_plan")
        try:
            with connection.transaction():
                # As one that asks for binary rows, it cannot be two statements.
                connection.execute(prepare, binary=True)
        except psycopg.Error:
            return []
        try:
            with connection.transaction():
                row = connection.execute(
                    "SELECT cardinality(parameter_types) AS n FROM pg_prepared_statements WHERE name = 'counted'"
                ).fetchone()
                values = sql.SQL(", ").join([sql.NULL] * (row["n"] if row else 0))
                execute = sql.SQL("EXPLAIN EXECUTE counted ({})" if row and row["n"] else "EXPLAIN EXECUTE counted")
                found = connection.execute(execute.format(values)).fetchall()
        except psycopg.Error:
            return []
        finally:
            connection.execute("DEALLOCATE counted")
    return [str(line["QUERY PLAN"]) for line in found]
