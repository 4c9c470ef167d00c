"""Take a backup, and look at one again: whole on disk, and followed by all WAL up to now."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from tidegate.backup import pgbackrest, record, shelf, tools, wal
from tidegate.backup.lsn import SEGMENT, position
from tidegate.backup.shelf import PARTIAL, Backup, Kind
from tidegate.errors import BackupError, UsageError
from tidegate.settings import Settings
from tidegate.stack import warehouse
from tidegate.stack.postgres import PostgresServer
from tidegate.stores.postgres import connect, exclusive

log = structlog.get_logger(__name__)

#: A little less than a week, so that what runs at the same hour of each week finds it over.
FULL_EVERY = timedelta(days=6, hours=12)


def take(settings: Settings, kind: Kind | None = None) -> Backup:
    """Take a backup of the running warehouse, of the kind that is due when None; readers and writers notice nothing.

    Raises:
        UsageError: an incremental one was asked for, and there is nothing to base it on.
        StackError: the warehouse does not run, or is not ours.
        BusyError: another backup is being taken.
        UnavailableError: the disk is full; nothing is left of the attempt.
    """
    server, tool = warehouse.reach(settings), tools.chosen(settings)
    with alone(settings):
        shelf.clear_unfinished(settings)
        base = _base(settings, tool.NAME, server.identity())
        kind = kind or _due(base, shelf.backups(settings))
        if kind == "incremental" and base is None:
            raise UsageError("there is no verified backup of pgbackrest to base an incremental one on: take a full one")
        name = shelf.new_id(kind)
        folder = shelf.folder_of(settings, name)
        partial = folder.with_name(folder.name + PARTIAL)
        partial.mkdir(mode=0o700, parents=True)
        started = datetime.now(UTC)
        try:
            facts = tool.take(server, partial, kind)
            ended, based_on = datetime.now(UTC), base.backup_id if base and kind == "incremental" else None
            backup = Backup(
                name, kind, tool.NAME, server.identity(), started_at=started, ended_at=ended, based_on=based_on, **facts
            )
            shelf.keep(partial, backup)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        record.write(settings, shelf.backups(settings))
    log.info("backup taken", backup_id=name, bytes=backup.size, seconds=round(backup.seconds, 1))
    return backup


def verify(settings: Settings, backup: Backup) -> Backup:
    """Read all of a backup, see that no WAL is missing between it and now, and note that it is whole.

    Raises:
        BackupError: something is damaged or missing, or the server does not archive; the backup counts as unverified.
    """
    server = warehouse.mine(settings)
    problems = list(_problems(settings, server, backup))
    checked = replace(backup, verified_at=None if problems else datetime.now(UTC))
    shelf.keep(shelf.folder_of(settings, backup.backup_id), checked)
    if server.running():
        record.write(settings, shelf.backups(settings))
    if problems:
        raise BackupError("; ".join(problems))
    return checked


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Be the only one that changes the shelf; raises BusyError when another process does."""
    with connect(settings, autocommit=True) as connection, exclusive(connection, "the shelf of backups"):
        yield


def _base(settings: Settings, tool: str, cluster: str) -> Backup | None:
    """Return what an incremental backup would be based on: the newest, if it is known to be whole."""
    known = [backup for backup in shelf.backups(settings) if (backup.tool, backup.cluster) == (tool, cluster)]
    return known[-1] if tool == pgbackrest.NAME and known and known[-1].verified_at else None


def _due(base: Backup | None, known: list[Backup]) -> Kind:
    """Return the kind of the next backup: a full one once a week, and where there is nothing to base another on."""
    full = [backup.started_at for backup in known if backup.kind == "full"]
    return "incremental" if base and full and datetime.now(UTC) - full[-1] < FULL_EVERY else "full"


def _problems(settings: Settings, server: PostgresServer, backup: Backup) -> Iterator[str]:
    damage = tools.named(backup.tool).damage(server, shelf.folder_of(settings, backup.backup_id))
    if damage:
        yield (
            f"backup {backup.backup_id} is damaged: {damage}. Do not restore from it: take a new one "
            "(`tidegate backup take`), and look after the disk"
        )
    archive = wal.archive_of(settings, backup.cluster)
    if server.running() and server.identity() == backup.cluster:
        state = wal.look(server)
        if trouble := state.trouble(wal.rpo(settings).base):
            yield trouble
        # Segments that wait for the archiver are not lost: PostgreSQL has them.
        end, timeline = position(state.lsn) - state.waiting * SEGMENT, state.timeline
    else:
        end, timeline = archive.end(), archive.newest_timeline()
    missing = archive.missing(backup.start_lsn, end, timeline)
    if missing:
        yield (
            f"the WAL after backup {backup.backup_id} has a gap: {missing[0]} and {len(missing) - 1} others are "
            f"missing in {archive.folder}. It can be restored to moments before the gap only: take a new backup"
        )
