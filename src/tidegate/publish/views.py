"""Make views that are spoken of and may be read as those before them; above all, while a column's type changes.

PostgreSQL refuses to change the type of a column that a view shows; all happens in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from tidegate.contracts import Contract
from tidegate.contracts.evolution import Step
from tidegate.errors import ContractError
from tidegate.stores.postgres import Connection, table


@dataclass(frozen=True)
class _View:
    name: sql.Composed
    definition: str
    options: str | None
    comments: list[dict[str, Any]]
    grants: list[dict[str, Any]]


@contextmanager
def out_of_the_way(connection: Connection, contract: Contract, widened: Sequence[Step]) -> Iterator[None]:
    """Drop every view on the published table if a column is widened, run the block, create them again.

    Raises:
        ContractError: a materialized view stands on the table: its rows are not ours to make again.
    """
    found = _dependents(connection, contract, widened) if widened else []
    for view in reversed(found):
        connection.execute(sql.SQL("DROP VIEW {}").format(view.name))
    yield
    for view in found:
        options = sql.SQL(f" WITH ({view.options})" if view.options else "")
        connection.execute(sql.SQL("CREATE VIEW {}{} AS {}").format(view.name, options, sql.SQL(view.definition)))
        comment(connection, view.name, view.comments)
        grant(connection, view.name, view.grants)


def _dependents(connection: Connection, contract: Contract, widened: Sequence[Step]) -> list[_View]:
    """Return the views on the table and the views on those, each after all that it reads."""
    rows = connection.execute(
        """
        WITH RECURSIVE reader AS (
            SELECT to_regclass(format('%%I.%%I', %s::text, %s::text))::oid AS id, 0 AS depth
            UNION ALL
            SELECT r.ev_class, reader.depth + 1
            FROM reader
            JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = reader.id
                AND d.classid = 'pg_rewrite'::regclass
            JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> reader.id
        )
        SELECT c.oid, n.nspname, c.relname, c.relkind, pg_get_viewdef(c.oid) AS definition,
            array_to_string(c.reloptions, ', ') AS options, max(reader.depth) AS depth
        FROM reader JOIN pg_class c ON c.oid = reader.id JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE reader.depth > 0
        GROUP BY c.oid, n.nspname ORDER BY max(reader.depth), c.relname
        """,
        [contract.schema, contract.table],
    ).fetchall()
    found = []
    for row in rows:
        if row["relkind"] != "v":
            raise ContractError(
                f"{contract.reference}:{contract.column(widened[0].column).line}: {widened[0]} would change "
                f"{row['nspname']}.{row['relname']}, which is no plain view: drop that first"
            )
        found.append(
            _View(
                table(row["nspname"], row["relname"]),
                row["definition"],
                row["options"],
                comments_on(connection, row["nspname"], row["relname"]),
                grants_on(connection, row["nspname"], row["relname"]),
            )
        )
    return found


def comments_on(connection: Connection, schema: str, name: str) -> list[dict[str, Any]]:
    """Return what is said of a table or view (`column` is None) and of its columns."""
    return connection.execute(
        """
        SELECT a.attname AS column, d.description AS text
        FROM pg_description d
        LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid AND d.objsubid > 0
        WHERE d.classoid = 'pg_class'::regclass
            AND d.objoid = to_regclass(format('%%I.%%I', %s::text, %s::text)) ORDER BY d.objsubid
        """,
        [schema, name],
    ).fetchall()


def grants_on(connection: Connection, schema: str, name: str) -> list[dict[str, Any]]:
    """Return which privilege who was granted on a table or view; a grantee of None is everybody."""
    return connection.execute(
        """
        SELECT a.privilege_type AS privilege, r.rolname AS grantee
        FROM pg_class c CROSS JOIN aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE c.oid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND a.grantee <> c.relowner ORDER BY 2, 1
        """,
        [schema, name],
    ).fetchall()


def comment(connection: Connection, view: sql.Composed, comments: Sequence[dict[str, Any]]) -> None:
    """Say of a view and its columns what was said."""
    for said in comments:
        kind, owner = ("VIEW", view)
        if said["column"]:
            kind, owner = "COLUMN", sql.SQL("{}.{}").format(view, sql.Identifier(said["column"]))
        connection.execute(sql.SQL("COMMENT ON " + kind + " {} IS {}").format(owner, said["text"]))


def grant(connection: Connection, view: sql.Composed, grants: Sequence[dict[str, Any]]) -> None:
    """Grant on a view what was granted."""
    for granted in grants:
        what, who = sql.SQL(granted["privilege"]), grantee(granted["grantee"])
        connection.execute(sql.SQL("GRANT {} ON {} TO {}").format(what, view, who))


def grantee(role: str | None) -> sql.Composable:
    """Return whom a GRANT names: a role, or everybody (None)."""
    return sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
