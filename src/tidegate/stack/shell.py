"""What a shell or a client program needs to reach the stack: environment variables, never arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, NoReturn
from urllib.parse import urlsplit

from tidegate.errors import StackError, UsageError
from tidegate.settings import Settings
from tidegate.stack import postgres_binaries, roles
from tidegate.stack.airflow_environment import airflow_environment
from tidegate.stores.postgres import libpq_environment
from tidegate.stores.redis import Address

Place = Literal["primary", "pool", "replica"]


def shell_environment(settings: Settings) -> dict[str, str]:
    """Return every variable that `airflow …`, `psql`, `dbt` and PySpark need in a shell."""
    found = airflow_environment(settings)
    if settings.warehouse_url is not None:
        found |= libpq_environment(settings)
    if settings.redis_url is not None:
        found["REDIS_URL"] = url = settings.redis_url.get_secret_value()
        # So that redis-cli need not be told it in its arguments.
        found["REDISCLI_AUTH"] = Address.of(url).password or ""
    others = {
        "TIDEGATE_POOL_URL": settings.pool_url,
        "TIDEGATE_REPLICA_URL": settings.replica_url,
        "TIDEGATE_KAFKA_URL": settings.kafka_url,
    }
    for name, address in others.items():
        if address is not None:
            found[name] = address.get_secret_value()
    if settings.spark_remote is not None:
        found["SPARK_REMOTE"] = settings.spark_remote
    return found


def psql(
    settings: Settings,
    arguments: list[str],
    role: str | None = None,
    tenant: str | None = None,
    place: Place = "primary",
) -> None:
    """Become psql, connected to the warehouse as its owner or as a role, for one tenant if it is named; does not return.

    `place` is where: directly, through the pool, or at the replica.

    Raises:
        UsageError: there is no such role, or it reads no rows of tenants.
        StackError: there is no pool, or no replica.
    """
    address = libpq_environment(settings)
    if role is not None:
        address |= roles.credentials(settings, role, tenant)
    elif tenant is not None:
        raise UsageError("--tenant goes with --role: the owner of the tables sees no tenant's rows")
    if place != "primary":
        address |= _elsewhere(settings, place)
    become_psql(settings, arguments, address)


def become_psql(settings: Settings, arguments: list[str], address: Mapping[str, str]) -> NoReturn:
    """Become psql, connected where the PG… variables of `address` lead; does not return."""
    environment = {**os.environ, **address}
    if not environment.get("PGPASSWORD"):
        # An empty one would be sent; without it, psql looks into ~/.pgpass or asks.
        environment.pop("PGPASSWORD", None)
    program = postgres_binaries.client("psql", settings.postgres_bin)
    os.execve(program, [str(program), *arguments], environment)  # noqa: S606 no shell is meant


def _elsewhere(settings: Settings, place: Place) -> dict[str, str]:
    """Return host and port of the pool or the replica; who connects there is said by other variables."""
    address = settings.pool_url if place == "pool" else settings.replica_url
    if address is None:
        remedy = {
            "pool": "install PgBouncer and run `tidegate up`, or set TIDEGATE_POOL_URL",
            "replica": "`tidegate up --with replica` makes one, or set TIDEGATE_REPLICA_URL",
        }
        raise StackError(f"there is no {place}: {remedy[place]}")
    parts = urlsplit(address.get_secret_value())
    return {"PGHOST": parts.hostname or "", "PGPORT": str(parts.port or 5432)}
