"""The ledger's rows on backups, `ops.backup`: they follow the shelf, also after a restore took the ledger back in time."""

from __future__ import annotations

from collections.abc import Iterable

from tidegate.backup.shelf import Backup
from tidegate.settings import Settings
from tidegate.stores.postgres import connect


def write(settings: Settings, kept: Iterable[Backup], removed: Iterable[Backup] = ()) -> None:
    """Bring the rows in line with what is on the shelf, and with what has just been removed from it."""
    rows = [(b, False) for b in kept] + [(b, True) for b in removed]
    rows.sort(key=lambda row: row[0].started_at)
    with connect(settings) as connection, connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO ops.backup (backup_id, kind, tool, cluster, timeline, start_lsn, stop_lsn, started_at, ended_at,
                                    bytes, based_on, verified_at, removed_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, CASE WHEN %s THEN now() END)
            ON CONFLICT (backup_id) DO UPDATE SET verified_at = excluded.verified_at,
                removed_at = coalesce(backup.removed_at, excluded.removed_at)
            """,
            [
                (b.backup_id, b.kind, b.tool, b.cluster, b.timeline, b.start_lsn, b.stop_lsn, b.started_at, b.ended_at,
                 b.size, b.based_on, b.verified_at, gone)
                for b, gone in rows
            ],
        )  # fmt: skip
