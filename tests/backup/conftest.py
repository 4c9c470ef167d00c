"""One embedded warehouse that archives its WAL, as `tidegate up` makes it, for all tests of backups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from tests.whole import CHECKOUT, Stack
from typer.testing import CliRunner, Result

from tidegate import cli
from tidegate.settings import get_settings
from tidegate.stack import warehouse

ELSEWHERE = {"airflow_url": "http://127.0.0.1:9", "spark_master": "local[1]"}


class Kept(Stack):
    """The stack, what one types at it, and a table whose rows are told apart."""

    def run(self, *words: str) -> Result:
        get_settings.cache_clear()
        try:
            return CliRunner().invoke(cli.build(), ["backup", *words])
        finally:
            # The command's log went to a stream that is closed by now.
            structlog.reset_defaults()

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)

    def ask(self, query: str, dsn: str | None = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(dsn or self.superuser, autocommit=True) as connection:
            cursor = connection.execute(query)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    @property
    def superuser(self) -> str:
        return warehouse.reach(self.settings).dsn("warehouse")

    def write(self, name: str) -> tuple[str, str]:
        """Commit a row; return the moment after it as a time and as a position in the WAL."""
        self.ask(f"INSERT INTO core.kept VALUES ('{name}')")
        ((time, lsn),) = self.ask("SELECT clock_timestamp()::text, pg_current_wal_insert_lsn()::text")
        return time.replace(" ", "T"), lsn

    def names(self, dsn: str | None = None) -> list[str]:
        return [name for (name,) in self.ask("SELECT name FROM core.kept ORDER BY name", dsn)]

    @property
    def archive(self) -> Path:
        return warehouse.archive_of(self.settings) / warehouse.mine(self.settings).identity()

    def unfinished(self) -> list[str]:
        return [path.name for path in (self.home / "backups/base").glob("*.partial")]


@pytest.fixture(scope="package")
def server(reachable_folder: Path) -> Iterator[Kept]:
    stack = Kept(reachable_folder / "kept", ELSEWHERE)
    stack.up()
    for table in ("kept (name text)", "bulk AS SELECT g, md5(g::text) FROM generate_series(1, 50000) AS g"):
        stack.ask(f"SET ROLE tidegate; CREATE TABLE core.{table}")
    yield stack
    stack.down()


@pytest.fixture
def kept(server: Kept, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """The server, running, with no row and at least one backup of before; commands in this process speak to it."""
    monkeypatch.setenv("TIDEGATE_PROJECT", str(CHECKOUT))
    monkeypatch.setenv("TIDEGATE_HOME", str(server.home))
    for name, value in ELSEWHERE.items():
        monkeypatch.setenv(f"TIDEGATE_{name.upper()}", value)
    monkeypatch.setenv("TIDEGATE_BACKUP_TOOL", "pg_basebackup")
    server.ask("TRUNCATE core.kept")
    return server


@pytest.fixture(params=["pg_basebackup", "pgbackrest"])
def tool(request: pytest.FixtureRequest, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two programs that take backups, in turn."""
    monkeypatch.setenv("TIDEGATE_BACKUP_TOOL", request.param)
    return str(request.param)
