"""The warehouse's roles as logins: those of the embedded server, and the logins that are bound to one tenant.

What a role may do is no business of this module: migrations and contracts grant it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql

from tidegate.errors import UsageError
from tidegate.settings import Settings
from tidegate.stack import addresses, pool, warehouse
from tidegate.stack.postgres_databases import ensure_role
from tidegate.stack.secret import LOGINS, Secrets

#: Whom a person may connect as; `backup` is for programs.
ROLES = ("app", "migration", "readonly", "analyst", "admin")
#: Those of them that read rows, and so may be bound to a tenant.
OF_A_TENANT = ("app", "readonly", "analyst", "admin")
#: How long a password that `rotate` sets is taken.
LASTS = timedelta(days=90)
_TENANT = re.compile(r"[0-9A-Za-z]{1,32}")


def credentials(settings: Settings, role: str, tenant: str | None = None) -> dict[str, str]:
    """Return user and password (PGUSER, PGPASSWORD) of a role, or of its login that is bound to `tenant`.

    On the embedded server the login is made to exist. On a server of one's own there is no password in what is
    returned: psql finds it in ~/.pgpass, or asks.

    Raises:
        UsageError: there is no such role, or it reads no rows of tenants.
        StackError: the embedded server does not run.
    """
    login = _login(role, tenant)
    if "warehouse_url" in addresses.external(settings):
        return {"PGUSER": login, "PGPASSWORD": ""}
    server = warehouse.reach(settings)
    password = Secrets.of_login(settings.home, login)
    with psycopg.connect(server.dsn("warehouse"), autocommit=True) as connection:
        if tenant is not None:
            bind(connection, role, tenant, password)
        expired = "SELECT 1 FROM pg_roles WHERE rolname = %s AND rolvaliduntil < now()"
        if connection.execute(expired, [login]).fetchone():
            rotate(settings, [login])
            password = Secrets.of_login(settings.home, login)
    if tenant is not None:
        pool.learn(settings, server)
    return {"PGUSER": login, "PGPASSWORD": password}


def rotate(settings: Settings, roles: Sequence[str] = ()) -> list[str]:
    """Give logins of the embedded server new, generated passwords, valid for `LASTS`; return their names.

    Those of `roles`, or all: roles, and logins that are bound to a tenant. Open sessions go on; the new passwords are in
    secrets.json before the server knows them, so that a rotation that is killed is mended by the next one.

    Raises:
        UsageError: there is no such login, or the server is one of your own.
        StackError: the embedded server does not run.
    """
    if "warehouse_url" in addresses.external(settings):
        raise UsageError(
            "the warehouse is a server of your own (TIDEGATE_WAREHOUSE_URL): its administrator sets passwords there, "
            "with \\password and VALID UNTIL"
        )
    server = warehouse.reach(settings)
    known = Secrets.load(settings.home).logins
    if unknown := sorted(set(roles) - known.keys()):
        raise UsageError(f"no login is called {unknown[0]!r}; there are {', '.join(sorted(known))}")
    chosen = sorted(roles or known)
    fresh = Secrets.renew_logins(settings.home, chosen)
    with psycopg.connect(server.dsn("warehouse"), autocommit=True) as connection:
        there = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
        chosen = [login for login in chosen if login in there]
        for login in chosen:
            ensure_role(connection, login, fresh[login])
            until = sql.Literal((datetime.now(UTC) + LASTS).isoformat())
            connection.execute(sql.SQL("ALTER ROLE {} VALID UNTIL {}").format(sql.Identifier(login), until))
    pool.learn(settings, server)
    return chosen


def bind(connection: psycopg.Connection, role: str, tenant: str, password: str) -> str:
    """Make the login exist that is `role` for one tenant alone, by an administrator's connection; return its name."""
    login = _login(role, tenant)
    ensure_role(connection, login, password)
    with connection.transaction():
        connection.execute(
            "INSERT INTO ops.tenant_login (login, tenant) VALUES (%s, %s) "
            "ON CONFLICT (login) DO UPDATE SET tenant = excluded.tenant",
            [login, tenant],
        )
        # Bound before it may do anything.
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(login)))
    return login


def _login(role: str, tenant: str | None) -> str:
    if role not in (*ROLES, *LOGINS):
        raise UsageError(f"no role is called {role!r}; there are {', '.join(ROLES)}")
    if tenant is None:
        return role
    if role not in OF_A_TENANT:
        raise UsageError(f"{role} reads no tenant's rows: --tenant goes with {', '.join(OF_A_TENANT)}")
    if not _TENANT.fullmatch(tenant):
        raise UsageError(f"{tenant!r} is no tenant: expected letters and digits, such as a carrier's code (UA)")
    return f"{role}_{tenant}"
