"""Take a backup, and look at one again: whole on disk, and followed by all WAL up to now."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from tidegate.backup import basebackup, record, shelf, wal
from tidegate.backup.lsn import SEGMENT, position
from tidegate.backup.shelf import PARTIAL, Backup, Kind
from tidegate.errors import BackupError
from tidegate.settings import Settings
from tidegate.stack import warehouse
from tidegate.stack.postgres import PostgresServer
from tidegate.stores.postgres import connect, exclusive

log = structlog.get_logger(__name__)


def take(settings: Settings, kind: Kind = "full") -> Backup:
    """Take a backup of the running warehouse; readers and writers notice nothing.

    Raises:
        StackError: the warehouse does not run, or is not ours.
        BusyError: another backup is being taken.
        UnavailableError: the disk is full; nothing is left of the attempt.
    """
    server = warehouse.reach(settings)
    with alone(settings):
        shelf.clear_unfinished(settings)
        name = shelf.new_id(kind)
        folder = shelf.folder_of(settings, name)
        partial = folder.with_name(folder.name + PARTIAL)
        partial.mkdir(mode=0o700, parents=True)
        started = datetime.now(UTC)
        try:
            facts = basebackup.take(server, partial)
            ended = datetime.now(UTC)
            backup = Backup(name, kind, basebackup.NAME, server.identity(), started_at=started, ended_at=ended, **facts)
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


def _problems(settings: Settings, server: PostgresServer, backup: Backup) -> Iterator[str]:
    damage = basebackup.damage(server, shelf.folder_of(settings, backup.backup_id))
    if damage:
        yield (
            f"backup {backup.backup_id} is damaged: {damage}. Do not restore from it: take a new one "
            "(`tidegate backup take`), and look after the disk"
        )
    archive = wal.archive_of(settings, backup.cluster)
    if server.running() and server.identity() == backup.cluster:
        state = wal.look(server)
        if state.trouble:
            yield state.trouble
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
