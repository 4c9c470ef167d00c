"""A server of its own that may be killed, set up as `tidegate up` does, and a shop whose customers are classified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.conftest import CHECKOUT, OWNER, PASSWORD
from tests.shop import MARCH, Shop

from tidegate.migrate import door
from tidegate.settings import load_settings
from tidegate.stack import port, warehouse
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database, ensure_ddl_is_recorded, ensure_role, ensure_roles
from tidegate.stack.roles import ROLES

DATABASE = "warehouse"


@dataclass
class Watched:
    """A shop, and the server that its warehouse stands on."""

    shop: Shop
    server: PostgresServer
    log: Path

    def as_(self, login: str, **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.dsn(DATABASE, login, PASSWORD), autocommit=True, **options)

    def superuser(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.dsn(DATABASE), autocommit=True)

    def last(self) -> int:
        """The number of the newest line."""
        return int(self._ask("SELECT coalesce(max(audit_id), 0) AS n FROM ops.audit")[0]["n"])

    def lines(self, since: int) -> list[dict[str, Any]]:
        return self._ask(f"SELECT * FROM ops.audit WHERE audit_id > {since} ORDER BY audit_id")

    def facts(self, since: int) -> list[tuple[str, str, int | None]]:
        return [(line["action"], line["object"], line["row_count"]) for line in self.lines(since)]

    def _ask(self, statement: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.server.dsn(DATABASE, OWNER, PASSWORD), row_factory=dict_row) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload,no-any-return]


def classify(shop: Shop) -> None:
    """Write the contract of the orders, in which the customer and the price are nobody's business."""
    shop.agree()
    path = shop.root / "schemas/orders.odcs.yaml"
    text = path.read_text()
    for told in ("Who ordered.", "Price in euro."):
        text = text.replace(f"description: {told}", f"description: {told}\n        classification: restricted")
    path.write_text(text)


@pytest.fixture(scope="module")
def watched(reachable_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder, log = reachable_folder / "audited", reachable_folder / "audited.log"
    # Not waiting for the disk, but for the kernel: what is acknowledged survives a kill.
    server = PostgresServer(folder, "test", log, port.choose(23000, folder, set()), settings={"fsync": "off"})
    server.settings = {**server.settings, "shared_buffers": "128MB", **warehouse.modules(server)}
    server.start()
    root = tmp_path_factory.mktemp("audited")
    try:
        with psycopg.connect(server.dsn(), autocommit=True) as connection, pytest.MonkeyPatch.context() as patch:
            ensure_role(connection, OWNER, PASSWORD)
            ensure_roles(connection, CHECKOUT, OWNER, dict.fromkeys(ROLES, PASSWORD))
            ensure_database(connection, DATABASE, OWNER)
            door.upgrade(server.dsn(DATABASE, OWNER, PASSWORD), CHECKOUT)
            ensure_ddl_is_recorded(server, CHECKOUT, DATABASE)
            patch.setenv("TIDEGATE_PROJECT", str(root / "project"))
            patch.setenv("TIDEGATE_HOME", str(root / "home"))
            patch.setenv("TIDEGATE_WAREHOUSE_URL", server.dsn(DATABASE, OWNER, PASSWORD))
            found = Watched(Shop(load_settings(), root / "project"), server, log)
            classify(found.shop)
            found.shop.ingest(MARCH)
            yield found
    finally:
        server.stop()
