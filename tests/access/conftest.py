"""A warehouse with bookings of many carriers, an unclassified dataset and marts, and a login for every role and tenant."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.conftest import CHECKOUT, KEYS, OWNER, PASSWORD, TEMPLATE
from tests.publish.showroom import Showroom
from tests.shop import MARCH, Shop

from tidegate.run.bookings import deliver
from tidegate.settings import load_settings
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database, ensure_role
from tidegate.stack.roles import OF_A_TENANT, ROLES, bind
from tidegate.wave import ingest

TENANTS = ("UA", "DL")
MONTHS = ("2013-01", "2013-02")
SEATS = 300


@dataclass
class House:
    """The warehouse, and connections to it by login, each opened once."""

    shop: Shop
    server: PostgresServer
    database: str
    _open: dict[str, psycopg.Connection[Any]] = field(default_factory=dict)

    def url(self, login: str) -> str:
        return self.server.dsn(self.database, login, PASSWORD)

    def connect(self, login: str, **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(login), autocommit=True, **options)

    def as_(self, login: str) -> psycopg.Connection[Any]:
        """The connection of a login; every test leaves it as it found it."""
        if login not in self._open:
            self._open[login] = self.connect(login)
        return self._open[login]

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()

    def administrate(self, statement: str) -> list[dict[str, Any]]:
        """Run a statement as the server's superuser, whom no policy binds."""
        with psycopg.connect(self.server.dsn(self.database), autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def partitions(self) -> list[str]:
        return [
            row["name"]
            for row in self.administrate(
                "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'raw.bookings'::regclass "
                "ORDER BY 1"
            )
        ]

    def unguarded(self) -> list[str]:
        """Tables of bookings, wherever they were published once, in which tenants are not kept apart."""
        rows = self.administrate(
            "SELECT c.oid::regclass::text AS name FROM pg_class AS c WHERE relname LIKE 'bookings%' AND relkind IN ('r', 'p') "
            "AND relnamespace::regnamespace::text IN ('raw', 'archive') AND NOT (relrowsecurity AND relforcerowsecurity "
            "AND (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid) = 2)"
        )
        return [row["name"] for row in rows]


@pytest.fixture(scope="module")
def house(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder, name = tmp_path_factory.mktemp("house"), f"house_{uuid.uuid4().hex[:12]}"
    root = folder / "project"
    (root / "schemas").mkdir(parents=True)
    shutil.copy(CHECKOUT / "schemas/bookings.odcs.yaml", root / "schemas")
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection, pytest.MonkeyPatch.context() as patch:
        ensure_database(connection, name, OWNER, TEMPLATE)
        # Grants on a database stay with the one that is copied.
        connection.execute(f"GRANT CONNECT ON DATABASE {name} TO {', '.join(ROLES)}, backup")  # type: ignore[call-overload]
        for role in (*ROLES, "backup"):
            ensure_role(connection, role, PASSWORD)
        patch.setenv("TIDEGATE_PROJECT", str(root))
        patch.setenv("TIDEGATE_HOME", str(folder / "home"))
        patch.setenv("TIDEGATE_WAREHOUSE_URL", postgres.dsn(name, OWNER, PASSWORD))
        patch.setenv("TIDEGATE_ENCRYPTION_KEYS", KEYS)
        found = House(Shop(load_settings(), root), postgres, name)
        with psycopg.connect(postgres.dsn(name), autocommit=True) as inside:
            for role in OF_A_TENANT:
                for tenant in TENANTS:
                    bind(inside, role, tenant, PASSWORD)
        found.shop.agree()
        found.shop.ingest(MARCH)
        deliver(found.shop.settings, MONTHS, SEATS)
        for month in MONTHS:
            ingest(found.shop.settings, "bookings", month)
        Showroom(found.shop).publish("first", 3)
        yield found
        found.close()
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


@pytest.fixture
def published(house: House) -> list[dict[str, Any]]:
    """Every published booking, of all carriers."""
    return house.administrate("SELECT * FROM raw.bookings ORDER BY booking_id")
