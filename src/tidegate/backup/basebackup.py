"""Full backups with PostgreSQL's own programs: a copy of the data directory with the checksum of every file."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tidegate.backup import programs
from tidegate.backup.shelf import Kind
from tidegate.errors import UsageError
from tidegate.stack.postgres import PostgresServer

NAME = "pg_basebackup"
_DATA = "data"


def take(server: PostgresServer, folder: Path, kind: Kind) -> dict[str, Any]:
    """Take a full backup into `folder`; return its timeline, its first and last position in the WAL, and its size.

    Raises:
        UnavailableError: the disk is full, or the program was ended.
        BackupError: it failed otherwise.
        UsageError: an incremental one was asked for.
    """
    if kind != "full":
        raise UsageError(f"{NAME} takes full backups only: install pgbackrest for incremental ones")
    data = folder / _DATA
    done = programs.run(
        server, "pg_basebackup", f"--pgdata={data}", "--format=plain", "--wal-method=stream", "--checkpoint=fast",
        "--manifest-checksums=SHA256", "--no-password", f"--label={folder.name}",
    )  # fmt: skip
    if done.returncode != 0:
        raise programs.failure("no backup was taken", done)
    (needed,) = json.loads((data / "backup_manifest").read_text())["WAL-Ranges"]
    return {
        "timeline": needed["Timeline"],
        "start_lsn": needed["Start-LSN"],
        "stop_lsn": needed["End-LSN"],
        "size": sum(file.stat().st_size for file in data.rglob("*") if file.is_file()),
    }


def damage(server: PostgresServer, folder: Path) -> str | None:
    """Return what is wrong with the backup, by the checksum of every file and every record of its WAL; None if nothing.

    Raises:
        UnavailableError: the program was ended: what it has not said until then says nothing.
    """
    done = programs.run(server, "pg_verifybackup", "--quiet", folder / _DATA)
    if done.returncode < 0:
        raise programs.failure("the backup was not verified", done)
    return None if done.returncode == 0 else " ".join(done.stderr.split())[:600]


def extract(server: PostgresServer, folder: Path, target: Path) -> None:
    """Copy the backup to the empty folder `target`, which the server's user owns.

    Raises:
        UnavailableError: the disk is full.
    """
    done = subprocess.run(
        ["cp", "-a", "--reflink=auto", "--", f"{folder / _DATA}/.", target], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        shutil.rmtree(target, ignore_errors=True)
        raise programs.failure(f"the backup could not be copied to {target}", done)
    if server.user:
        subprocess.run(["chown", "-R", f"{server.user}:", target], check=True)


def remove(_server: PostgresServer, _folder: Path) -> None:
    """Do nothing: all of the backup lies in its folder, which goes anyway."""
