"""The tables of batches, wherever they stand: staged, published, replaced, set aside; and those of streams' partitions.

The name of a batch's table ends with its id; what rows of a topic are written to belongs to no batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from tidegate.contracts.types import SEALED
from tidegate.stores.postgres import Connection, table


@dataclass(frozen=True)
class BatchTable:
    """The table of one batch, or of a stream's partition, whose `batch_id` is empty.

    `schema` is of the moment of asking, `oid` stays. `columns` maps names to types, in order.
    """

    oid: int
    schema: str
    name: str
    batch_id: str
    dataset: str
    columns: Mapping[str, str]

    @property
    def sql(self) -> sql.Composed:
        """Its name, quoted."""
        return table(self.schema, self.name)

    @property
    def turn(self) -> str:
        """The name of its lock, where it is of a stream's partition; those of batches have claims."""
        return turn(self.schema, self.name)

    @property
    def sealed(self) -> tuple[str, ...]:
        """The columns whose values are sealed."""
        return tuple(name for name, kind in self.columns.items() if kind == SEALED)


def turn(schema: str, name: str) -> str:
    """Return the name of the lock under which one process at a time changes rows of a stream's partition, or settles it."""
    return f"rows of {schema}.{name}"


def of_batches(connection: Connection, dataset: str | None = None, batch_id: str | None = None) -> list[BatchTable]:
    """Return every table of a batch, of those of a dataset or of one batch, the oldest batch's first."""
    rows = connection.execute(
        """
        SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, b.batch_id, b.dataset,
            json_object_agg(a.attname, format_type(a.atttypid, NULL) ORDER BY a.attnum) AS columns
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN ops.batch AS b ON b.batch_id = right(c.relname, 16)
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relkind = 'r' AND (%(dataset)s::text IS NULL OR b.dataset = %(dataset)s)
          AND (%(batch_id)s::text IS NULL OR b.batch_id = %(batch_id)s)
        GROUP BY c.oid, n.nspname, c.relname, b.batch_id, b.dataset, b.created_at
        ORDER BY b.created_at, b.batch_id
        """,
        {"dataset": dataset, "batch_id": batch_id},
    ).fetchall()
    return [BatchTable(**row) for row in rows]


def of_streams(connection: Connection, dataset: str | None = None) -> list[BatchTable]:
    """Return every table that rows of a topic are written to, which no batch has brought along, of all datasets or one."""
    rows = connection.execute(
        """
        SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, '' AS batch_id, p.relname AS dataset,
            json_object_agg(a.attname, format_type(a.atttypid, NULL) ORDER BY a.attnum) AS columns
        FROM pg_class AS c
        JOIN pg_inherits AS i ON i.inhrelid = c.oid
        JOIN pg_class AS p ON p.oid = i.inhparent AND p.relkind = 'p'
        JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.oid = p.relnamespace
        JOIN ops.table_layout AS l ON l.dataset = p.relname
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relkind = 'r' AND n.nspname IN ('raw', 'core') AND (%(dataset)s::text IS NULL OR l.dataset = %(dataset)s)
          AND NOT EXISTS (SELECT FROM ops.batch WHERE batch_id = right(c.relname, 16))
        GROUP BY c.oid, n.nspname, c.relname, p.relname ORDER BY c.relname
        """,
        {"dataset": dataset},
    ).fetchall()
    return [BatchTable(**row) for row in rows]
