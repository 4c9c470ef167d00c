"""One embedded warehouse that archives its WAL, as `tidegate up` makes it, for all tests of backups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.whole import WAREHOUSE_ALONE, Typed
from typer.testing import Result

from tidegate.stack import warehouse


class Kept(Typed):
    """The stack, and a table whose rows are told apart."""

    def run(self, *words: str) -> Result:
        return super().run("backup", *words)

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
    stack = Kept(reachable_folder / "kept", WAREHOUSE_ALONE)
    stack.up()
    for table in ("kept (name text)", "bulk AS SELECT g, md5(g::text) FROM generate_series(1, 50000) AS g"):
        stack.ask(f"SET ROLE tidegate; CREATE TABLE core.{table}")
    yield stack
    stack.down()


@pytest.fixture
def kept(server: Kept, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """The server, running, with no row and at least one backup of before; commands in this process speak to it."""
    server.speak_to(monkeypatch)
    server.ask("TRUNCATE core.kept")
    return server


@pytest.fixture(params=["pg_basebackup", "pgbackrest"])
def tool(request: pytest.FixtureRequest, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two programs that take backups, in turn."""
    monkeypatch.setenv("TIDEGATE_BACKUP_TOOL", request.param)
    return str(request.param)
