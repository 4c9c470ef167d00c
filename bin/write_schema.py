"""Write migrations/schema.sql: what all migrations together make, from a scratch server that they are applied to."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

import psycopg

from tidegate.migrate import door
from tidegate.settings import Settings
from tidegate.stack import dump, port
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database, ensure_role, ensure_roles

CHECKOUT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Start, migrate, dump, stop."""
    password = secrets.token_hex(24)
    with tempfile.TemporaryDirectory(prefix="tidegate-schema-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        directory = folder / "postgres"
        server = PostgresServer(directory, "scratch", folder / "log", port.choose(21000, directory, set()))
        server.start()
        try:
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                ensure_role(connection, "tidegate", password)
                ensure_roles(connection, CHECKOUT, "tidegate")
                ensure_database(connection, "warehouse", "tidegate")
            url = server.dsn("warehouse", "tidegate", password)
            door.upgrade(url, CHECKOUT)
            text = dump.schema(Settings(project=CHECKOUT, home=folder / "home", warehouse_url=url))
        finally:
            server.stop()
    (CHECKOUT / "migrations" / "schema.sql").write_text(text)


if __name__ == "__main__":
    main()
