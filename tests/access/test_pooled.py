"""Rows of tenants through the real pool, whose clients share one connection to the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.access.conftest import House
from tests.conftest import PASSWORD

from tidegate.stack import pool as pools
from tidegate.stack import port
from tidegate.stack.pgbouncer import PgBouncer, Sizes

COUNT = "SELECT count(*) FROM raw.bookings"


@pytest.fixture(scope="module")
def pool(house: House, reachable_folder: Path) -> Iterator[PgBouncer]:
    folder = reachable_folder / "pool-of-tenants"
    pool = PgBouncer(folder, "console", folder.with_suffix(".log"), port.choose(21000, folder, set()))
    pools.lead_to(pool, house.server, house.database, Sizes(clients=20, per_user=1, in_all=8))
    pool.start()
    yield pool
    pool.stop()


def connect(pool: PgBouncer, house: House, login: str) -> psycopg.Connection[Any]:
    # What is prepared by protocol stays in a server's session, which the next transaction may not have.
    return psycopg.connect(pool.dsn(house.database, login, PASSWORD), autocommit=True, prepare_threshold=None)


def visible(connection: psycopg.Connection[Any], tenant: str | None = None) -> set[str]:
    with connection.transaction():
        if tenant:
            connection.execute("SELECT ops.enter(%s)", [tenant])
        return {row[0] for row in connection.execute("SELECT DISTINCT carrier FROM raw.bookings")}


LEFT: dict[str, tuple[str, ...]] = {
    "entered": ("BEGIN", "SELECT ops.enter('UA')", COUNT, "COMMIT"),
    "rolled back": ("BEGIN", "SELECT ops.enter('UA')", COUNT, "ROLLBACK"),
    "kept for the session": (
        "BEGIN", "SELECT ops.enter('UA')",
        "SELECT set_config('tidegate.tenant', current_setting('tidegate.tenant'), false)", "COMMIT",
    ),
    "set by hand": ("SET tidegate.tenant = 'UA'",),
    "prepared": ("PREPARE mine AS SELECT carrier FROM raw.bookings",),
    "a temporary table": ("CREATE TEMP TABLE bookings AS SELECT 'UA'::text AS carrier",),
    "a path": ("SET search_path = pg_temp",),
}  # fmt: skip


@pytest.mark.parametrize("left", LEFT)
def test_what_a_client_leaves_in_the_pool_shows_the_next_one_nothing(house: House, pool: PgBouncer, left: str) -> None:
    with connect(pool, house, "app") as first, connect(pool, house, "app") as second:
        (mine,) = first.execute("SELECT pg_backend_pid()").fetchone() or (None,)
        for statement in LEFT[left]:
            if (
                left != "a temporary table"
                or house.administrate("SELECT has_database_privilege('app', current_database(), 'TEMP') AS may")[0][
                    "may"
                ]
            ):
                first.execute(statement)  # type: ignore[call-overload]
        (theirs,) = second.execute("SELECT pg_backend_pid()").fetchone() or (None,)
        assert mine == theirs
        assert second.execute("SELECT coalesce(current_setting('tidegate.tenant', true), '')").fetchone() == ("",)
        assert second.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
        assert second.execute("SHOW search_path").fetchone() == ('"$user", public',)
        assert visible(second) == set()
        assert visible(second, "DL") == {"DL"}


def test_a_login_of_a_tenant_sees_its_own_rows_through_the_pool(house: House, pool: PgBouncer) -> None:
    for tenant in ("UA", "DL"):
        with connect(pool, house, f"app_{tenant}") as connection:
            assert visible(connection) == {tenant}


@pytest.mark.parametrize("login", ["postgres", "backup"])
def test_who_is_bound_by_no_policy_is_not_let_into_the_pool(house: House, pool: PgBouncer, login: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        connect(pool, house, login)
