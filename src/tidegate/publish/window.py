"""What readers see of the marts: a schema of views, each of which chooses a set of tables by the reader's snapshot.

PostgreSQL looks up names in the newest catalog, whatever snapshot a transaction holds: were the tables themselves
exchanged, a transaction that began before would find tables whose rows it cannot see. So the window is opened on
the next set while it still shows the present one, and what changes it is a row (`ops.marts_swap`), which every
snapshot has or has not. Which builds those sets are is no business of this module.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from psycopg import sql

from tidegate.errors import BusyError
from tidegate.publish import views
from tidegate.stores.postgres import Connection, impatient, table

WINDOW, _OPENING, _LEAVING = "marts", "marts_opening", "marts_leaving_"
#: How long the removal of what nobody should use any more waits for those who still do.
_COURTESY = "100ms"
#: Seconds within which a statement has looked up all its names, also on a busy machine.
_MOMENT = 2.0


@dataclass(frozen=True)
class _Column:
    name: str
    type: str


def swap_number(connection: Connection) -> int:
    """Return the number of the newest swap; 0 before the first."""
    row = connection.execute("SELECT coalesce(max(swap_id), 0) AS n FROM ops.marts_swap").fetchone()
    return int(row["n"]) if row else 0


def is_open_for(connection: Connection, swap: int) -> bool:
    """Return whether the window shows what swap number `swap` asks for, and nothing is about to change it."""
    row = connection.execute(
        "SELECT obj_description(oid, 'pg_namespace') AS told FROM pg_namespace WHERE nspname = %s", [WINDOW]
    ).fetchone()
    return row is not None and row["told"] == _told(swap)


def open_on(connection: Connection, swap: int, before: str | None, after: str) -> None:
    """Make the views anew: they show `before` to whoever does not see swap number `swap`, and `after` to all others.

    `before` and `after` are schemas; renaming them later does not move the view. What may read the old views
    may read the new ones. Nobody is waited for: the old views step aside under another name.
    """
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(_OPENING)))
    old = _columns(connection, before) if before else {}
    for name, columns in _columns(connection, after).items():
        arms = _arms(name, columns, swap, (before, old[name]) if before and name in old else None, after)
        view = table(_OPENING, name)
        connection.execute(sql.SQL("CREATE VIEW {} AS {}").format(view, sql.SQL(" UNION ALL ").join(arms)))
        views.comment(connection, view, views.comments_on(connection, after, name))
        for schema in (after, WINDOW):
            granted = views.grants_on(connection, schema, name)
            views.grant(connection, view, [one for one in granted if one["privilege"] == "SELECT"])
    _let_in(connection)
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(_OPENING), sql.Literal(_told(swap))))
    if schema_exists(connection, WINDOW):
        _set_aside(connection, WINDOW)
    rename_schema(connection, _OPENING, WINDOW)


def _let_in(connection: Connection) -> None:
    """Whoever may use the window that is there may use the one that takes its place."""
    users = connection.execute(
        """
        SELECT DISTINCT r.rolname FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) a
        LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE n.nspname = %s AND a.grantee <> n.nspowner AND a.privilege_type = 'USAGE'
        """,
        [WINDOW],
    ).fetchall()
    for user in users:
        who = sql.SQL("PUBLIC") if user["rolname"] is None else sql.Identifier(user["rolname"])
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(_OPENING), who))


def _arms(
    name: str, columns: list[_Column], swap: int, before: tuple[str, list[_Column]] | None, after: str
) -> list[sql.Composed]:
    shown = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    if before is None:
        return [sql.SQL("SELECT {} FROM {}").format(shown, table(after, name))]
    schema, there = before
    # A column that the set before lacks, or has as another type, is empty in it.
    same = sql.SQL(", ").join(
        sql.Identifier(c.name) if c in there else sql.SQL("NULL::" + c.type + " AS {}").format(sql.Identifier(c.name))
        for c in columns
    )
    nothing = sql.SQL(", ").join(sql.SQL("NULL::" + c.type) for c in columns)
    seen = sql.SQL("(SELECT coalesce(max(swap_id), 0) FROM ops.marts_swap)")
    limits = {"seen": seen, "swap": sql.Literal(swap), "last": sql.Literal(swap - 1)}
    return [
        sql.SQL("SELECT {columns} FROM {table} WHERE {seen} >= {swap}").format(
            columns=shown, table=table(after, name), **limits
        ),
        sql.SQL("SELECT {columns} FROM {table} WHERE {seen} = {last}").format(
            columns=same, table=table(schema, name), **limits
        ),
        sql.SQL("SELECT {nothing} WHERE {seen} < {last} AND ops.outlived()").format(nothing=nothing, **limits),
    ]


def _columns(connection: Connection, schema: str, kinds: str = "rpvm") -> dict[str, list[_Column]]:
    rows = connection.execute(
        """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind = ANY (%s)
        ORDER BY c.relname, a.attnum
        """,
        [schema, list(kinds)],
    ).fetchall()
    found: dict[str, list[_Column]] = {}
    for row in rows:
        found.setdefault(row["relname"], []).append(_Column(row["attname"], row["type"]))
    return found


def settle(connection: Connection) -> None:
    """Wait a moment for statements that found names in the window of before, and may be looking up more of them.

    Such a statement would show two sets at once if the swap came between two of its names. Whoever is still
    active after the moment is long past that, and shows one.
    """
    deadline = time.monotonic() + _MOMENT
    while time.monotonic() < deadline:
        row = connection.execute(
            """
            SELECT count(*) AS n FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
            JOIN pg_namespace s ON s.oid = c.relnamespace JOIN pg_stat_activity a ON a.pid = l.pid
            WHERE l.locktype = 'relation' AND l.database = a.datid AND a.datname = current_database()
                AND c.relkind = 'v' AND starts_with(s.nspname, %s)
                AND l.pid <> pg_backend_pid() AND coalesce(a.state, 'active') = 'active'
            """,
            [_LEAVING],
        ).fetchone()
        connection.commit()
        if not row or not row["n"]:
            return
        time.sleep(0.01)


def make_room(connection: Connection, schema: str) -> None:
    """Let `schema` be rebuilt without waiting for whoever still reads it: then it steps aside under another name."""
    tables = [table(schema, name) for name in _columns(connection, schema, kinds="rp")]
    connection.commit()
    try:
        with impatient(connection, _COURTESY):
            for name in tables:
                connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(name))
    except BusyError:
        with connection.transaction():
            _set_aside(connection, schema)


def clear_away(connection: Connection) -> None:
    """Drop what has stepped aside, unless somebody still reads it: then the next call will."""
    names = _leaving(connection)
    connection.commit()
    for name in names:
        with suppress(BusyError), impatient(connection, _COURTESY):
            connection.execute("SET LOCAL client_min_messages = warning")
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


def _set_aside(connection: Connection, schema: str) -> None:
    taken = [int(name.removeprefix(_LEAVING)) for name in _leaving(connection)]
    rename_schema(connection, schema, f"{_LEAVING}{max(taken, default=0) + 1}")


def _leaving(connection: Connection) -> list[str]:
    rows = connection.execute("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", [_LEAVING]).fetchall()
    return [str(row["nspname"]) for row in rows]


def schema_exists(connection: Connection, schema: str) -> bool:
    """Return whether there is a schema of that name."""
    return connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema]).fetchone() is not None


def rename_schema(connection: Connection, old: str, new: str) -> None:
    """Rename a schema; takes no lock on what stands in it."""
    connection.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))


def _told(swap: int) -> str:
    return f"The published marts, since swap {swap}."
