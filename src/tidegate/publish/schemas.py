"""A schema as a whole: whether it is there, its name, what is said of it, and the tables that stand in it."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from tidegate.stores.postgres import Connection

#: Kinds of pg_class that hold rows of their own.
TABLES = "rp"
#: Whatever can be read: tables, views, materialized views.
READABLE = "rpvm"


@dataclass(frozen=True)
class Column:
    """One column of a table: its name, and its type as PostgreSQL spells it."""

    name: str
    type: str


def exists(connection: Connection, schema: str) -> bool:
    """Return whether there is a schema of that name."""
    return connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema]).fetchone() is not None


def rename(connection: Connection, old: str, new: str) -> None:
    """Rename a schema; takes no lock on what stands in it."""
    connection.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))


def comment_on(connection: Connection, schema: str) -> str | None:
    """Return what is said of a schema; None if nothing is, or there is no such schema."""
    row = connection.execute(
        "SELECT obj_description(oid, 'pg_namespace') AS text FROM pg_namespace WHERE nspname = %s", [schema]
    ).fetchone()
    return row["text"] if row else None


def comment(connection: Connection, schema: str, text: str) -> None:
    """Say something of a schema, in place of what was said before."""
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(schema), sql.Literal(text)))


def columns(connection: Connection, schema: str, kinds: str) -> dict[str, list[Column]]:
    """Return the columns, in their order, of each table of these `kinds` in the schema, by the table's name."""
    rows = connection.execute(
        """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = to_regnamespace(quote_ident(%s)) AND c.relkind = ANY (%s)
        ORDER BY c.relname, a.attnum
        """,
        [schema, list(kinds)],
    ).fetchall()
    found: dict[str, list[Column]] = {}
    for row in rows:
        found.setdefault(row["relname"], []).append(Column(row["attname"], row["type"]))
    return found
