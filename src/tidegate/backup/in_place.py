"""Put the warehouse as it was at a moment in the place of the one that is; the old one is archived, not lost."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tidegate.backup import wal
from tidegate.backup.moment import Moment
from tidegate.backup.restore import choose, recover
from tidegate.backup.shelf import Backup
from tidegate.settings import Settings
from tidegate.stack import wal_archive, warehouse
from tidegate.stack.home import Home, Say
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.supervisor import Supervisor


@dataclass(frozen=True)
class Replaced:
    """Which backup is the warehouse now, and where the one before lies; None where there was none."""

    backup: Backup
    old: Path | None


def replace(settings: Settings, moment: Moment, say: Say, *, backup_id: str | None = None) -> Replaced:
    """Stop the warehouse, restore beside it, and change the two when the restore has gone well.

    The WAL that the old one had not handed over is read from its own folder, so also of a dead server nothing that
    reached the disk is lost.

    Raises:
        UsageError: no backup leads to the moment.
        BackupError: the recovery did not reach it; the old data are where they were.
    """
    home = Home(settings.home)
    with home.lock(say):
        supervisor = Supervisor(home, say)
        source = warehouse.mine(settings)
        backup = choose(settings, moment, backup_id)
        archive = wal.archive_of(settings, backup.cluster)
        folders = [archive.folder]
        if source.is_made() and source.identity() == backup.cluster:
            if source.running():
                wal.flush(source, archive)
            folders.append(source.directory / "pg_wal")
        warehouse.stop(settings, supervisor)
        if source.directory / "pg_wal" in folders:
            for failed in wal_archive.hand_over(source, warehouse.archive_of(settings)):
                say(f"not archived, so take a new backup afterwards: {failed}")
        beside = source.directory.with_name(f"{source.directory.name}.restored")
        shutil.rmtree(beside, ignore_errors=True)
        try:
            restored = recover(settings, source, backup, moment, beside, wal_folders=folders, log_file=source.log)
            restored.stop()
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            if source.is_made():
                warehouse.start(settings, supervisor)
            raise
        _hand_over_history(restored)
        old = home.archive(source.directory) if source.directory.exists() else None
        beside.rename(source.directory)
        warehouse.start(settings, supervisor)
    return Replaced(backup, old)


def _hand_over_history(server: PostgresServer) -> None:
    """Have the history of the new timeline archived at the next start: only it says where the WAL goes on.

    The recovery itself ran without an archive, so that one that fails leaves no timeline behind that leads nowhere.
    """
    wal_folder = server.directory / "pg_wal"
    for history in wal_folder.glob("*.history"):
        ready = wal_folder / "archive_status" / f"{history.name}.ready"
        if ready.with_suffix(".done").exists():
            continue
        ready.touch()
        if server.user:
            shutil.chown(ready, server.user)
