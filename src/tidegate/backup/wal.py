"""The WAL archive: what it holds, whether anything is missing, whether the server still fills it."""

from __future__ import annotations

import gzip
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tidegate.backup.lsn import SEGMENT, Timeline, is_segment, number_of, position
from tidegate.backup.shelf import Backup
from tidegate.errors import BackupError
from tidegate.settings import Settings
from tidegate.stack import warehouse
from tidegate.stack.postgres import PostgresServer
from tidegate.strategy import stated
from tidegate.strategy.stated import Stated

_SUFFIXES = (".zst", ".gz")

_STATE = """
SELECT archived_count, last_archived_wal, last_archived_time, last_failed_wal, last_failed_time,
    coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS failing,
    current_setting('archive_mode') AS mode,
    pg_current_wal_lsn()::text AS lsn,
    ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int AS timeline,
    w.segments AS waiting, w.seconds AS waiting_seconds
FROM pg_stat_archiver
CROSS JOIN LATERAL (
    SELECT count(*) AS segments, coalesce(extract(epoch FROM now() - min(modification)), 0)::float8 AS seconds
    FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'
) AS w
"""


@dataclass(frozen=True)
class Archiving:
    """How the server's archiver stands now; `waiting_seconds` is how long the oldest finished segment has waited."""

    mode: str
    last_archived_wal: str | None
    last_archived_time: datetime | None
    last_failed_wal: str | None
    last_failed_time: datetime | None
    failing: bool
    waiting: int
    waiting_seconds: float
    archived_count: int
    lsn: str
    timeline: int

    def trouble(self, patience: float) -> str | None:
        """Say in a sentence what is wrong, which it also is where a segment waits for more than `patience` seconds."""
        if self.mode == "off":
            return "the server does not archive its WAL (archive_mode is off): `tidegate down`, then `tidegate up`"
        if self.failing:
            return (
                f"the server cannot archive its WAL: {self.last_failed_wal} failed at {self.last_failed_time:%H:%M:%S} "
                f"UTC and {self.waiting} segments wait. PostgreSQL keeps them and tries again, until its disk is full; "
                "`tidegate logs postgres` says why"
            )
        if self.waiting_seconds > patience:
            return (
                f"the archiver is behind: {self.waiting} segments wait, the oldest for {self.waiting_seconds:.0f} s, "
                f"where at most {patience:g} s of commits may be lost"
            )
        return None


@dataclass(frozen=True)
class Archive:
    """The folder that one cluster's WAL is kept in."""

    folder: Path

    def names(self) -> set[str]:
        """Return the names of what is kept, as PostgreSQL calls it."""
        if not self.folder.is_dir():
            return set()
        return {
            f.name.removesuffix(f.suffix) for f in self.folder.iterdir() if f.suffix in _SUFFIXES and f.name[0] != "."
        }

    def timeline(self, number: int) -> Timeline:
        """Return a timeline with its past; raises BackupError when its history is not kept."""
        return Timeline(1) if number == 1 else Timeline.read(number, self._text(f"{number:08X}.history"))

    def newest_timeline(self) -> int:
        """Return the newest timeline of which anything is kept."""
        return max((int(name[:8], 16) for name in self.names() if name[:8].isalnum()), default=1)

    def missing(self, start_lsn: str, end: int, timeline: int) -> list[str]:
        """Return the segments from `start_lsn` up to the one that holds position `end` that are not kept."""
        kept = self.names()
        return [name for name in self.timeline(timeline).segments(position(start_lsn), end) if name not in kept]

    def end(self) -> int:
        """Return the position up to which whole segments are kept."""
        return max((number_of(name) + 1 for name in self.names() if is_segment(name)), default=0) * SEGMENT

    def kept_at(self, name: str) -> float:
        """Return when a segment came to lie here for good, in seconds since 1970."""
        return max(file.stat().st_ctime for file in self.folder.glob(f"{name}.*"))

    def prune(self, oldest: Backup) -> list[str]:
        """Remove the segments that are older than what the oldest backup needs; return their names."""
        needed = position(oldest.start_lsn) // SEGMENT
        gone = sorted(name for name in self.names() if is_segment(name[:24]) and number_of(name) < needed)
        for name in gone:
            for suffix in _SUFFIXES:
                (self.folder / f"{name}{suffix}").unlink(missing_ok=True)
        return gone

    def _text(self, name: str) -> str:
        packed = self.folder / f"{name}.gz"
        if packed.exists():
            return gzip.decompress(packed.read_bytes()).decode()
        packed = packed.with_suffix(".zst")
        if packed.exists():
            return subprocess.run(["zstd", "-qdc", packed], capture_output=True, text=True, check=True).stdout
        raise BackupError(f"{name} is missing in {self.folder}: without it nobody knows which WAL follows on which")


def archive_of(settings: Settings, cluster: str) -> Archive:
    """Return the archive of the cluster with that identity."""
    return Archive(warehouse.archive_of(settings) / cluster)


def rpo(settings: Settings) -> Stated:
    """Return how many seconds of commits may be lost at most: what waits longer than this to be archived is trouble."""
    return stated.target(settings.project, "RPO")


def look(server: PostgresServer) -> Archiving:
    """Ask the running server how its archiver stands."""
    with ask(server) as connection:
        return _look(connection)


def ask(server: PostgresServer) -> psycopg.Connection[dict[str, Any]]:
    """Connect to the warehouse of a server as its superuser; each statement is a transaction."""
    return psycopg.connect(
        server.dsn("warehouse"), autocommit=True, row_factory=dict_row, application_name="tidegate backup"
    )


def flush(server: PostgresServer, archive: Archive, patience: float = 60) -> None:
    """Have the server hand over all its WAL up to this moment, and wait until it is kept.

    Raises:
        BackupError: it was not within `patience` seconds.
    """
    with ask(server) as connection:
        # A commit of its own: a recovery to a moment before now can only stop at one that came after it.
        connection.execute("SELECT pg_logical_emit_message(true, 'tidegate', 'flush')")
        row = connection.execute("SELECT pg_walfile_name(pg_switch_wal()) AS name").fetchone() or {}
        wait_for(connection, archive, row["name"], patience)


def wait_for(connection: psycopg.Connection[dict[str, Any]], archive: Archive, name: str, patience: float) -> float:
    """Wait until a segment is kept; return the seconds that it took.

    Raises:
        BackupError: it was not within `patience` seconds.
    """
    began = time.monotonic()
    while name not in archive.names():
        state = _look(connection)
        if time.monotonic() - began > patience or (state.failing and time.monotonic() - began > patience / 4):
            told = state.trouble(patience) or f"{name} did not come within {patience:.0f} s"
            raise BackupError(f"the WAL up to this moment is not archived: {told}")
        time.sleep(0.1)
    return time.monotonic() - began


def _look(connection: psycopg.Connection[dict[str, Any]]) -> Archiving:
    row = connection.execute(_STATE).fetchone()
    if row is None:
        raise BackupError("the server says nothing of its archiver")
    return Archiving(**row)
