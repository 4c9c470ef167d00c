"""The two databases of the stack, their owners and the platform's roles, made to exist; calling it again changes nothing.

What lies inside them is migrations' and Airflow's matter; what the roles may do there is migrations' and contracts'.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from tidegate.stack import scram
from tidegate.stack.password import require_strong
from tidegate.stack.postgres import PostgresServer

#: The contributed module that counts statements.
COUNTER = "pg_stat_statements"
#: The module that logs who reads classified columns, as far as it is installed, and how: never a statement's text, which
#: may hold a value. What it logs are reads of what the role `auditor` may read.
READS_LOGGED: Mapping[str, Mapping[str, str]] = {
    "pgaudit": {
        "pgaudit.role": "auditor",
        "pgaudit.log": "none",
        "pgaudit.log_statement": "off",
        "pgaudit.log_parameter": "off",
        "pgaudit.log_catalog": "off",
    }
}


def ensure_role(
    connection: psycopg.Connection, role: str, password: str, *, attributes: str = "NOSUPERUSER NOCREATEDB NOCREATEROLE"
) -> None:
    """Make `role` exist, an ordinary user; the server sees only its password's SCRAM verifier.

    A verifier that fits stays: who has logged in by it (a pool does, for its clients) can do so again.

    Raises:
        UsageError: the password could be guessed.
    """
    require_strong(role, password)
    exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    verb, words = sql.SQL("ALTER" if exists else "CREATE"), sql.SQL(attributes)
    secret: sql.Composable = sql.SQL("")
    if not exists or not scram.matches(_kept(connection, role), password):
        verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        secret = sql.SQL(" PASSWORD {}").format(sql.Literal(verifier))
    connection.execute(sql.SQL("{} ROLE {} LOGIN {}{}").format(verb, sql.Identifier(role), words, secret))


def _kept(connection: psycopg.Connection, role: str) -> str | None:
    """Return the verifier that the server has; None where it shows none."""
    if connection.info.parameter_status("is_superuser") != "on":
        return None
    row = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [role]).fetchone()
    return row[0] if row else None


def ensure_roles(
    connection: psycopg.Connection, project: Path, owner: str, passwords: Mapping[str, str] | None = None
) -> None:
    """Make the roles of `migrations/roles.sql` exist, beside the warehouse's owner; those with a password may log in."""
    with connection.transaction():
        connection.execute("SELECT set_config('tidegate.owner', %s, true)", [owner])
        connection.execute((project / "migrations" / "roles.sql").read_text(encoding="utf-8").encode())
    for role, password in (passwords or {}).items():
        ensure_role(connection, role, password)


def ensure_database(connection: psycopg.Connection, database: str, owner: str, template: str | None = None) -> None:
    """Make `database` exist, owned by `owner` and closed to everybody else.

    A template of one's own is copied file by file: to write each of its blocks into the WAL, too, takes four times the CPU.
    """
    if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
        source = sql.SQL("{} STRATEGY FILE_COPY").format(sql.Identifier(template)) if template else sql.SQL("template1")
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
                sql.Identifier(database), sql.Identifier(owner), source
            )
        )
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))


def ensure_statements_are_counted(server: PostgresServer, database: str, owner: str) -> None:
    """Let `owner` see in `database` how often and how long each statement ran, where the server counts them."""
    with psycopg.connect(server.dsn(database), autocommit=True) as connection:
        loaded = connection.execute("SHOW shared_preload_libraries").fetchone() or ("",)
        if COUNTER in loaded[0]:
            connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(COUNTER)))
            connection.execute(sql.SQL("GRANT pg_read_all_stats TO {}").format(sql.Identifier(owner)))


def ensure_ddl_is_recorded(server: PostgresServer, project: Path, database: str) -> None:
    """Let whatever changes the schema of `database` leave a line in `ops.audit`, once its migrations have made that."""
    with psycopg.connect(server.dsn(database), autocommit=True) as connection:
        connection.execute((project / "migrations" / "audit.sql").read_text(encoding="utf-8").encode())


def ensure_databases(
    server: PostgresServer, owners: dict[str, tuple[str, str]], *, relaxed: Collection[str] = ()
) -> None:
    """Make each database exist: `owners` maps its name to its owner role and that role's password.

    Those that are `relaxed` do not wait for the disk: a machine that loses its power may forget their last half
    second, whole transactions at a time.
    """
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for database, (owner, password) in owners.items():
            ensure_role(connection, owner, password)
            ensure_database(connection, database, owner)
        for database in relaxed:
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(database))
            )
        connection.execute("REVOKE ALL ON DATABASE postgres FROM PUBLIC")
