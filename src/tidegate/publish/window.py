"""What readers see of the marts: a schema of views, each of which chooses a set of tables by the reader's snapshot.

PostgreSQL looks up names in the newest catalog, whatever snapshot a transaction holds: were the tables themselves
exchanged, a transaction that began before would find tables whose rows it cannot see. So the window is opened on
the next set while it still shows the present one, and what changes it is a row (`ops.marts_swap`), which every
snapshot has or has not. Which builds those sets are is no business of this module.
"""

from __future__ import annotations

import time
from contextlib import suppress

from psycopg import sql

from tidegate.errors import BusyError
from tidegate.publish import schemas, views
from tidegate.publish.schemas import Column
from tidegate.stores.postgres import Connection, impatient, number, table

WINDOW, _OPENING, _LEAVING = "marts", "marts_opening", "marts_leaving_"
#: Roles that may read every mart, also one that was not there before.
_READERS = ("app", "readonly", "analyst")
#: How long the removal of what nobody should use any more waits for those who still do.
_COURTESY = "100ms"
#: Seconds within which a statement has looked up all its names, also on a busy machine.
_MOMENT = 2.0


def swap_number(connection: Connection) -> int:
    """Return the number of the newest swap; 0 before the first."""
    return number(connection, "SELECT coalesce(max(swap_id), 0) FROM ops.marts_swap")


def is_open_for(connection: Connection, swap: int) -> bool:
    """Return whether the window shows what swap number `swap` asks for, and nothing is about to change it."""
    return schemas.comment_on(connection, WINDOW) == _told(swap)


def open_on(connection: Connection, swap: int, before: str | None, after: str) -> None:
    """Make the views anew: they show `before` to whoever does not see swap number `swap`, and `after` to all others.

    `before` and `after` are schemas; renaming them later does not move the view. What may read the old views
    may read the new ones. Nobody is waited for: the old views step aside under another name.
    """
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(_OPENING)))
    old = schemas.columns(connection, before, schemas.READABLE) if before else {}
    for name, columns in schemas.columns(connection, after, schemas.READABLE).items():
        arms = _arms(name, columns, swap, (before, old[name]) if before and name in old else None, after)
        view = table(_OPENING, name)
        connection.execute(sql.SQL("CREATE VIEW {} AS {}").format(view, sql.SQL(" UNION ALL ").join(arms)))
        views.comment(connection, view, views.comments_on(connection, after, name))
        for schema in (after, WINDOW):
            granted = views.grants_on(connection, schema, name)
            views.grant(connection, view, [one for one in granted if one["privilege"] == "SELECT"])
    _let_in(connection)
    schemas.comment(connection, _OPENING, _told(swap))
    if schemas.exists(connection, WINDOW):
        _set_aside(connection, WINDOW)
    schemas.rename(connection, _OPENING, WINDOW)


def _let_in(connection: Connection) -> None:
    """Whoever may use the window that is there may use the one that takes its place; the platform's readers always."""
    users = connection.execute(
        """
        SELECT DISTINCT r.rolname FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) a
        LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE n.nspname = %s AND a.grantee <> n.nspowner AND a.privilege_type = 'USAGE'
        """,
        [WINDOW],
    ).fetchall()
    for user in users:
        who = views.grantee(user["rolname"])
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(_OPENING), who))
    schema, readers = sql.Identifier(_OPENING), sql.SQL(", ").join(map(sql.Identifier, _READERS))
    connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, readers))
    connection.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(schema, readers))


def _arms(
    name: str, columns: list[Column], swap: int, before: tuple[str, list[Column]] | None, after: str
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


def settle(connection: Connection) -> None:
    """Wait a moment for statements that found names in the window of before, and may be looking up more of them.

    Such a statement would show two sets at once if the swap came between two of its names. Whoever is still
    active after the moment is long past that, and shows one.
    """
    deadline = time.monotonic() + _MOMENT
    while time.monotonic() < deadline:
        reading = number(
            connection,
            """
            SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
            JOIN pg_namespace s ON s.oid = c.relnamespace JOIN pg_stat_activity a ON a.pid = l.pid
            WHERE l.locktype = 'relation' AND l.database = a.datid AND a.datname = current_database()
                AND c.relkind = 'v' AND starts_with(s.nspname, %s)
                AND l.pid <> pg_backend_pid() AND coalesce(a.state, 'active') = 'active'
            """,
            [_LEAVING],
        )
        connection.commit()
        if not reading:
            return
        time.sleep(0.01)


def make_room(connection: Connection, schema: str) -> None:
    """Let `schema` be rebuilt without waiting for whoever still reads it: then it steps aside under another name."""
    tables = [table(schema, name) for name in schemas.columns(connection, schema, schemas.TABLES)]
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
    schemas.rename(connection, schema, f"{_LEAVING}{max(taken, default=0) + 1}")


def _leaving(connection: Connection) -> list[str]:
    rows = connection.execute("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", [_LEAVING]).fetchall()
    return [str(row["nspname"]) for row in rows]


def _told(swap: int) -> str:
    return f"The published marts, since swap {swap}."
