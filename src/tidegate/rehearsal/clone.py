"""The warehouse as it is now, copied into a server of its own: its files where we have a hand on them, else its rows.

Nobody but the copy's superuser is let in here; whom it may be opened to is decided when it has been masked.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from tidegate.backup import programs
from tidegate.errors import UnavailableError
from tidegate.settings import Settings
from tidegate.stack import dump, port, scram, standby, warehouse
from tidegate.stack.postgres import SUPERUSER, PostgresServer
from tidegate.stack.postgres_binaries import client
from tidegate.stack.postgres_databases import COUNTER, ensure_databases, ensure_roles, ensure_statements_are_counted
from tidegate.stack.secret import LOGINS
from tidegate.stack.standby import Link
from tidegate.stores.postgres import connect

BASE_PORT = 7432
#: Bytes for the WAL that a copy writes while it is used, for each of its servers.
_WAL = 1 << 30
#: A copy may fill the disk up to the share at which the platform gives an alarm.
_FULL = 0.8
_BOUNDED: Mapping[str, str] = {
    # Two servers beside the one that is copied.
    "shared_buffers": "256MB",
    "max_wal_size": "1GB",
    "archive_mode": "off",
    # A hundred clients at once, and whoever looks on.
    "max_connections": "120",
    "wal_log_hints": "on",
}


@dataclass(frozen=True)
class Needs:
    """What a rehearsal takes, in bytes, and what the disk has left."""

    disk: int
    memory: int
    free: int

    @property
    def told(self) -> str:
        """The same in words."""
        return f"{_mib(self.disk)} of disk ({_mib(self.free)} are free), {_mib(self.memory)} of memory"


def needs(settings: Settings, folder: Path, servers: int) -> Needs:
    """Return what `servers` copies of the warehouse will take under `folder`.

    Raises:
        UnavailableError: the disk would be fuller than is safe.
    """
    with connect(settings, autocommit=True) as connection:
        row = connection.execute("SELECT pg_database_size(current_database()) AS bytes").fetchone() or {}
    disk = shutil.disk_usage(folder)
    found = Needs(servers * (int(row["bytes"]) + _WAL), servers * (256 << 20), disk.free)
    if disk.used + found.disk > _FULL * disk.total:
        raise UnavailableError(
            f"a rehearsal needs {found.told}, and the disk of {folder} would be more than {_FULL:.0%} full: free some, "
            "or name another folder with TIDEGATE_HOME. Nothing was done"
        )
    return found


def of_files(source: PostgresServer, folder: Path, password: str) -> PostgresServer:
    """Copy a running server's files to `folder` and start the copy, which still knows its original's passwords.

    Raises:
        UnavailableError: the disk is full.
        BackupError: the files could not be copied.
    """
    _copy(source, folder / "primary")
    server = _server(source, folder, source.password)
    server.start()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {SUPERUSER} PASSWORD '{scram.verifier(password)}'".encode())
        # Connections and variables of Airflow's are no part of what is rehearsed.
        connection.execute("DROP DATABASE IF EXISTS airflow WITH (FORCE)")
    server.password = password
    return server


def owner_of(settings: Settings) -> str:
    """Return the role that owns the warehouse."""
    query = "SELECT pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname = current_database()"
    with connect(settings, autocommit=True) as connection:
        row = connection.execute(query).fetchone() or {}
    return str(row["owner"])


def of_rows(settings: Settings, folder: Path, password: str, owner: str) -> PostgresServer:
    """Dump a warehouse whose files are somebody else's, and load it into a server of one's own.

    Raises:
        UnavailableError: it cannot be dumped, or loaded; the program's words are in the message.
    """
    file = folder / "warehouse.dump"
    dump.whole(settings, file, "--compress=1")
    server = _server(warehouse.server_of(settings), folder, password)
    server.start()
    ensure_databases(server, {"warehouse": (owner, secrets.token_hex(24))})
    ensure_statements_are_counted(server, "warehouse", owner)
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        ensure_roles(connection, settings.project, owner)
        # A dump holds what may be done in the database, not who may enter it.
        entering = sql.SQL(", ").join(map(sql.Identifier, LOGINS))
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE warehouse TO {}").format(entering))
    restore = client("pg_restore", settings.postgres_bin)
    loaded = subprocess.run(
        [restore, "--dbname=warehouse", "--jobs=2", "--exit-on-error", file],
        env=programs.environment(server), capture_output=True, text=True, check=False,
    )  # fmt: skip
    file.unlink()
    if loaded.returncode != 0:
        raise UnavailableError(f"the dump of the warehouse cannot be loaded: {_last(loaded.stderr)}")
    return server


def _copy(source: PostgresServer, data: Path) -> None:
    done = programs.run(
        source, "pg_basebackup", f"--pgdata={data}", "--checkpoint=fast", "--wal-method=stream", "--no-manifest",
        "--no-password", "--no-sync",
    )  # fmt: skip
    if done.returncode != 0:
        shutil.rmtree(data, ignore_errors=True)
        raise programs.failure("the warehouse could not be copied", done)
    if source.user:
        subprocess.run(["chown", "-R", f"{source.user}:", data], check=True)


def follow(primary: PostgresServer, data: Path, link: Link) -> PostgresServer:
    """Make the new folder `data` a replica of a running copy, and start it.

    Raises:
        StackError: it did not start, or does not follow.
    """
    server = PostgresServer(
        data, primary.password, data.with_suffix(".log"), port.choose(BASE_PORT, data, {primary.port}),
        programs_in=primary.programs_in, settings=primary.settings,
    )  # fmt: skip
    standby.admit(primary, link)
    standby.copy(primary, server, link)
    standby.start(primary, server, link)
    return server


def _server(like: PostgresServer, folder: Path, password: str) -> PostgresServer:
    data = folder / "primary"
    # Autovacuum's snapshots would have VACUUM FULL keep rows that masking has just replaced.
    alone = {**bounded(like), "autovacuum": "off"}
    return PostgresServer(
        data, password, folder / "primary.log", port.choose(BASE_PORT, data, {like.port}),
        programs_in=like.programs_in, settings=alone, admits=SUPERUSER,
    )  # fmt: skip


def bounded(like: PostgresServer) -> Mapping[str, str]:
    """Return the settings of a copy's servers, run by the programs that `like` is run by."""
    counted = {"shared_preload_libraries": COUNTER} if like.programs().has_library(COUNTER) else {}
    return {**_BOUNDED, **counted}


def _last(said: str) -> str:
    return " ".join(said.split())[-600:]


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
