"""What a release will meet: pending migrations over the real rows with readers at work, health after it, and the way back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg

from tidegate.backup import drill, shelf
from tidegate.backup import take as backups
from tidegate.errors import TidegateError, first_line
from tidegate.evidence import queries as important
from tidegate.evidence.probe import CannotRunError, Finding, Ground
from tidegate.migrate import door, steps
from tidegate.stack import standby, warehouse
from tidegate.stores.postgres import connect

#: Seconds between two looks of a reader.
_PACE = 0.01


def staging_migration(ground: Ground) -> Iterator[Finding]:
    """Apply what is pending to the rehearsal while a reader reads; where nothing is, the last one, taken back before."""
    project, url = ground.settings.project, ground.rehearsal.dsn()
    _, todo = door.plan(url, project)
    if not todo:
        todo = steps.read(project)[-1:]
        door.downgrade(url, project, todo[0].before)
    told = []
    with _Reader(ground.rehearsal.dsn("readonly")) as reader:
        for step in todo:
            began = time.monotonic()
            door.upgrade(url, project, step.revision)
            told.append(f"{step.revision} ({step.phase}) {step.title}: {time.monotonic() - began:.3f} s")
    stalled = 1000 * max(reader.seconds, default=0.0)
    told.append(
        f"a reader asked {len(reader.seconds)} times meanwhile, waited {stalled:.1f} ms at most, {len(reader.errors)} errors"
    )
    figures = {
        "migrations": len(todo), "reads": len(reader.seconds), "longest_read_ms": round(stalled, 1),
        "failed_reads": len(reader.errors),
    }  # fmt: skip
    yield Finding(
        "tests/release/staging_migration.log", "\n".join([*told, *reader.errors]), figures, "tidegate migrate up",
        int(bool(reader.errors)),
    )  # fmt: skip


def app_health(ground: Ground) -> Iterator[Finding]:
    """After the newest migration: every role logs in, and every important query answers."""
    place = ground.rehearsal
    door.upgrade(place.dsn(), ground.settings.project)
    told, failed = [], 0
    # Whoever feeds a replica reads the WAL, and enters no database.
    logins = [login for login in place.passwords if login != standby.ROLE]
    for login in logins:
        try:
            with psycopg.connect(place.primary.dsn("warehouse", login, place.passwords[login])) as connection:
                connection.execute("SELECT 1")
            told.append(f"ok   {login} logs in")
        except psycopg.Error as error:
            failed += 1
            told.append(f"FAIL {login}: {first_line(error)}")
    known = important.read(ground.settings.project)
    with connect(place.settings(ground.settings), autocommit=True) as connection:
        for query in known:
            try:
                timing = important.measure(connection, query, 5)
                told.append(f"ok   {query.name}: {timing.p50_ms:.2f} ms")
            except TidegateError as error:
                failed += 1
                told.append(f"FAIL {error}")
    figures = {"logins": len(logins), "queries": len(known), "failed": failed}
    yield Finding("tests/release/app_health.log", "\n".join(told), figures, "SELECT as each role", int(failed > 0))


def backup_restore(ground: Ground) -> Iterator[Finding]:
    """Take a backup of the warehouse, restore it beside it, compare every row, measure what was promised."""
    settings = ground.settings
    if not warehouse.is_mine(settings):
        raise CannotRunError("the warehouse is a server of your own: whoever runs it backs it up, and restores it")
    if not shelf.backups(settings):
        backups.take(settings)
    found = drill.drill(settings)
    told = [f"{v.verdict} {v.told}" for v in found.verdicts]
    figures = {
        "rto_seconds": round(found.rto, 2), "rpo_seconds": round(found.rpo, 2), "tables": found.tables,
        "rows": found.rows, "tables_that_differ": len(found.differences),
    }  # fmt: skip
    text = "\n".join([f"backup {found.backup_id}", *told, *found.differences])
    yield Finding("tests/release/backup_restore.log", text, figures, "tidegate backup restore", int(bool(found.failed)))


class _Reader:
    """Reads the ledger over and over in a thread of its own; keeps how long each time took, and what went wrong."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> _Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _read(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            while not self._enough.is_set():
                began = time.monotonic()
                try:
                    connection.execute("SELECT count(*) FROM ops.batch").fetchall()
                except psycopg.Error as error:
                    self.errors.append(first_line(error))
                self.seconds.append(time.monotonic() - began)
                self._enough.wait(_PACE)
