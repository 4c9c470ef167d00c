"""Which backups go: those older than the last few that are known to be whole, and the WAL that only they needed."""

from __future__ import annotations

import shutil

import structlog

from tidegate.backup import record, shelf, tools, wal
from tidegate.backup.shelf import PARTIAL, Backup
from tidegate.backup.take import alone
from tidegate.settings import Settings
from tidegate.stack import warehouse

log = structlog.get_logger(__name__)


def prune(settings: Settings) -> list[Backup]:
    """Remove the backups that are older than the last `backups_kept` verified ones; return those removed.

    While fewer have been verified, nothing goes. WAL that is older than every backup of its cluster goes, too.

    Raises:
        BusyError: another process changes the shelf.
    """
    with alone(settings):
        known = shelf.backups(settings)
        gone = outlived(known, settings.backups_kept)
        server = warehouse.mine(settings)
        # The newest first: what is based on another one goes before it.
        for backup in reversed(gone):
            folder = shelf.folder_of(settings, backup.backup_id)
            tools.named(backup.tool).remove(server, folder)
            # Renamed first: one that is half removed is no backup.
            shutil.rmtree(folder.rename(folder.with_name(folder.name + PARTIAL)))
        left = [backup for backup in known if backup not in gone]
        for cluster in {backup.cluster for backup in left}:
            oldest = min((b for b in left if b.cluster == cluster), key=lambda b: b.started_at)
            removed = wal.archive_of(settings, cluster).prune(oldest)
            if removed:
                log.info("WAL pruned", cluster=cluster, segments=len(removed), up_to=removed[-1])
        record.write(settings, left, removed=gone)
    return gone


def outlived(known: list[Backup], kept: int) -> list[Backup]:
    """Return which backups, given oldest first, the last `kept` verified full ones make superfluous.

    An incremental backup goes with the full one that it is based on, never alone.
    """
    verified = [backup for backup in known if backup.kind == "full" and backup.verified_at]
    if len(verified) < kept:
        return []
    oldest = verified[-kept].started_at
    return [backup for backup in known if backup.started_at < oldest]
