"""Connections to the warehouse; whatever cannot be reached is a transient error that says where it looked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg.abc import QueryNoTemplate
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from tidegate.errors import BusyError, StackError, UnavailableError, first_line
from tidegate.settings import Settings

Connection = psycopg.Connection[dict[str, Any]]

#: How long a statement that changes a published table waits for its readers before it gives way to them: others
#: queue behind it meanwhile. Not less than PostgreSQL's deadlock_timeout (1 s), after which autovacuum gives way to it.
LOCK_TIMEOUT = "2s"

_LIBPQ = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "options": "PGOPTIONS",
}


def warehouse_url(settings: Settings) -> str:
    """Return the warehouse's address with its password; never print it (see `without_password`)."""
    if settings.warehouse_url is None:
        raise StackError("no warehouse: run `tidegate up`, or set TIDEGATE_WAREHOUSE_URL to your own server")
    return settings.warehouse_url.get_secret_value()


def without_password(url: str) -> str:
    """Return the address as it may be shown: without its password."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    place = f"{parts.hostname or ''}:{parts.port}" if parts.port else parts.hostname or ""
    return urlunsplit((parts.scheme, user + place, parts.path, "", ""))


def libpq_environment(settings: Settings) -> dict[str, str]:
    """Return the warehouse's PG… variables, which psql, pg_dump and dbt's profile read; the password among them."""
    return libpq_environment_of(warehouse_url(settings))


def libpq_environment_of(url: str) -> dict[str, str]:
    """Return an address as PG… variables."""
    parts = conninfo_to_dict(url)
    return {_LIBPQ[part]: str(value) for part, value in parts.items() if part in _LIBPQ and value}


def connect(settings: Settings, *, autocommit: bool = False) -> AbstractContextManager[Connection]:
    """Open a connection to the warehouse; see `connect_to`."""
    return connect_to(warehouse_url(settings), autocommit=autocommit)


@contextmanager
def connect_to(url: str, *, autocommit: bool = False) -> Iterator[Connection]:
    """Open a connection whose rows are dictionaries; commits at the end, rolls back on an error.

    Raises:
        UnavailableError: the server does not answer, or went away meanwhile.
        BusyError: a lock was not granted in time, or the transaction lost a race.
    """
    try:
        with psycopg.connect(
            url, autocommit=autocommit, row_factory=dict_row, application_name="tidegate", connect_timeout=10
        ) as connection:
            yield connection
    except (
        psycopg.errors.LockNotAvailable,
        psycopg.errors.DeadlockDetected,
        psycopg.errors.SerializationFailure,
    ) as error:
        raise BusyError(f"the warehouse's tables are in use ({first_line(error)}); try again") from error
    except psycopg.errors.DiskFull as error:
        raise UnavailableError(
            f"the warehouse's disk is full ({first_line(error)}); free space there and run this again: "
            "nothing was published"
        ) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise UnavailableError(
            f"the warehouse at {without_password(url)} does not answer ({first_line(error)}); "
            "`tidegate status` shows the stack, `tidegate up` starts it"
        ) from error


@contextmanager
def exclusive(connection: Connection, what: str) -> Iterator[None]:
    """Hold the advisory lock named `what` for as long as the block runs.

    The lock belongs to the session: a killed process frees it at once.

    Raises:
        BusyError: another process holds it.
    """
    query = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0)) AS granted"
    row = connection.execute(query, [what]).fetchone()
    if not row or not row["granted"]:
        raise BusyError(f"{what} is being worked on by another process; try again when it has ended")
    try:
        yield
    finally:
        if not connection.closed and not connection.broken:
            # A session that has ended took its lock with it; why the block failed says more.
            with suppress(psycopg.OperationalError):
                connection.rollback()
                connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [what])


def take_turn(connection: psycopg.Connection[Any], what: str, *, shared: bool = False) -> None:
    """Wait for the advisory lock named `what`, and hold it until the transaction ends: alone, or with others who share it.

    How long it waits is the transaction's `lock_timeout`.
    """
    lock = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    connection.execute(sql.SQL("SELECT {}(hashtextextended(%s, 0))").format(sql.SQL(lock)), [what])


@contextmanager
def impatient(connection: Connection, lock_timeout: str = LOCK_TIMEOUT) -> Iterator[None]:
    """Run the block in a transaction that gives way to readers rather than let others queue behind it.

    Raises:
        BusyError: a lock was not granted within `lock_timeout`; nothing was done.
    """
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(lock_timeout)))
            yield
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise BusyError("readers hold the published table; try again") from error


def table(schema: str, name: str) -> sql.Composed:
    """Return `"schema"."name"`, quoted."""
    return sql.SQL("{}.{}").format(sql.Identifier(schema), sql.Identifier(name))


def number(connection: Connection, query: QueryNoTemplate, parameters: Sequence[Any] | None = None) -> int:
    """Return the one whole number that a query finds; 0 where it finds none."""
    row = connection.execute(query, parameters).fetchone()
    return int(next(iter(row.values())) or 0) if row else 0


def exists(connection: Connection, schema: str, name: str) -> bool:
    """Return whether a table, view or partitioned table of that name exists."""
    query = "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relname = %s"
    return connection.execute(query, [schema, name]).fetchone() is not None
