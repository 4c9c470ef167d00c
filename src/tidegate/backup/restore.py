"""Bring the warehouse back as it was at a moment: a server of its own, made from a backup and the WAL after it.

The warehouse itself is not touched here; taking its place is `in_place.py`'s matter.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from tidegate.backup import shelf, tools, wal
from tidegate.backup.moment import Moment
from tidegate.backup.shelf import Backup
from tidegate.errors import BackupError, StackError, UsageError
from tidegate.settings import Settings
from tidegate.stack import port, wal_archive, warehouse
from tidegate.stack.postgres import PostgresServer

log = structlog.get_logger(__name__)

BASE_PORT = 6432
#: Seconds that a recovery may take: the time after which a warehouse is to be back.
PATIENCE = 900
#: Nobody is let in before the moment is reached: a server that readers can enter calls itself ready too early.
_SCRATCH: Mapping[str, str] = {"shared_buffers": "128MB", "archive_mode": "off", "hot_standby": "off"}


@dataclass(frozen=True)
class Restored:
    """A running server with the warehouse as it was; `seconds` passed until it could be written to."""

    server: PostgresServer
    backup: Backup
    moment: Moment
    seconds: float

    def dsn(self, settings: Settings) -> str:
        """Return the address of its warehouse for the owner, password included: that of the warehouse."""
        from tidegate.stack.secret import Secrets

        return self.server.dsn("warehouse", "tidegate", Secrets.load(settings.home).warehouse_password)

    def stop_command(self) -> str:
        """Return what a person types to stop it."""
        words = f"{self.server.programs().folder / 'pg_ctl'} stop -D {self.server.directory}"
        return f"runuser -u {self.server.user} -- {words}" if self.server.user else words

    def remove(self) -> None:
        """Stop the server and remove its folder, log and all."""
        self.server.stop()
        shutil.rmtree(self.server.directory.parent)


def restore(settings: Settings, moment: Moment, into: Path | None = None, *, backup_id: str | None = None) -> Restored:
    """Restore into the empty folder `into` (one of tidegate's own when None) and start the server there.

    What the warehouse has not handed over yet of its WAL is fetched first, if it runs.

    Raises:
        UsageError: the folder is not empty or cannot be entered, or no backup is old enough.
        BackupError: the recovery did not reach the moment.
        UnavailableError: the disk is full.
    """
    began = time.monotonic()
    source = warehouse.mine(settings)
    backup = choose(settings, moment, backup_id)
    place = _place(source, into)
    archive = wal.archive_of(settings, backup.cluster)
    if source.running() and source.identity() == backup.cluster:
        wal.flush(source, archive)
    try:
        server = recover(
            settings,
            source,
            backup,
            moment,
            place / "data",
            wal_folders=[archive.folder],
            log_file=place / "postgres.log",
        )
    except BaseException:
        # What a person may look at stays: the log. The half-restored data would only be taken for the warehouse.
        shutil.rmtree(place / "data", ignore_errors=True)
        raise
    restored = Restored(server, backup, moment, time.monotonic() - began)
    log.info("restored", backup_id=backup.backup_id, moment=str(moment), seconds=round(restored.seconds, 1))
    return restored


def choose(settings: Settings, moment: Moment, backup_id: str | None = None) -> Backup:
    """Return the newest backup that leads to the moment, or the one that was asked for.

    Raises:
        UsageError: there is none, or it ended after the moment.
    """
    newest = shelf.find(settings, backup_id)
    known = [newest] if backup_id else shelf.backups(settings)
    fitting = [backup for backup in known if moment.comes_after(backup)]
    if not fitting:
        raise UsageError(
            f"no backup leads to {moment}: the oldest of those asked for ended at {known[0].ended_at.isoformat()} "
            f"({known[0].stop_lsn})"
        )
    return fitting[-1]


def recover(
    settings: Settings,
    source: PostgresServer,
    backup: Backup,
    moment: Moment,
    data: Path,
    *,
    wal_folders: list[Path],
    log_file: Path,
) -> PostgresServer:
    """Make `data` from the backup and let PostgreSQL replay the WAL up to the moment; return the running server.

    Raises:
        BackupError: it ended before it had reached the moment.
    """
    data.mkdir(mode=0o700, parents=True)
    tools.named(backup.tool).extract(source, shelf.folder_of(settings, backup.backup_id), data)
    fetching = wal_archive.fetching(warehouse.archive_of(settings), wal_folders)
    server = PostgresServer(
        data, source.password, log_file, port.choose(BASE_PORT, data, {source.port}),
        programs_in=source.programs_in, settings={**_SCRATCH, **moment.settings(), "restore_command": fetching},
    )  # fmt: skip
    signal = data / "recovery.signal"
    signal.touch()
    if server.user:
        shutil.chown(signal, server.user)
    try:
        server.start(patience=PATIENCE)
    except StackError as error:
        said = server.log.read_text(errors="replace")
        if "recovery ended before configured recovery target was reached" in said:
            raise BackupError(
                f"{moment} was not reached: the WAL that was kept of cluster {backup.cluster} ends before it. Leave "
                "--to away to have everything that there is"
            ) from error
        raise BackupError(f"the recovery of backup {backup.backup_id} failed: {error}") from error
    return server


def _place(source: PostgresServer, into: Path | None) -> Path:
    """Make the empty folder that the server will lie in, where its user can reach it."""
    if into is None:
        restored = source.directory.parent / "restored"
        restored.mkdir(mode=0o711, exist_ok=True)
        place = restored / f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    else:
        place = into.absolute()
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise UsageError(f"{place} is not empty: name a folder that is, or one that is not there yet")
    place.mkdir(mode=0o711 if source.user else 0o700, parents=True, exist_ok=True)
    if source.user and not warehouse.can_enter(source.user, place):
        raise UsageError(f"user {source.user}, as which PostgreSQL runs, cannot enter {place}: name another folder")
    return place
