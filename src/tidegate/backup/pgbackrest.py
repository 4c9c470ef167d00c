"""Full and incremental backups with pgBackRest: packed, and of what has not changed only once.

It keeps files only; the WAL goes where it goes with every tool (`tidegate.stack.wal_archive`).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tidegate.backup import programs
from tidegate.backup.shelf import Kind
from tidegate.errors import BackupError
from tidegate.stack.port import LOOPBACK
from tidegate.stack.postgres import SUPERUSER, PostgresServer

NAME = "pgbackrest"
_LABEL = "label"
_BAD = re.compile(r"(?:invalid|missing|error|mismatch)[^\n]*", re.I)
#: pgBackRest itself lets go of nothing: `tidegate.backup.retention` does.
_KEEP_ALL = "--repo1-retention-full=9999999"
#: From here on it can put small files, of which a database has thousands, into one: a wait for the disk each is saved.
_BUNDLES = (2, 39)


def is_installed() -> bool:
    """Return whether this machine has it."""
    return shutil.which(NAME) is not None


def version() -> tuple[int, int]:
    """Return the version of the program, such as (2, 45); (0, 0) where it does not say."""
    said = subprocess.run([NAME, "version"], capture_output=True, text=True, check=False).stdout
    numbers = re.search(r"(\d+)\.(\d+)", said)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


def take(server: PostgresServer, folder: Path, kind: Kind) -> dict[str, Any]:
    """Take a backup into the repository and note its label in `folder`; return what is known of it.

    Raises:
        UnavailableError: the disk is full, or the program was ended; nothing is left of the attempt.
        BackupError: it failed otherwise.
    """
    where = [f"--pg1-path={server.directory}", f"--pg1-port={server.port}", f"--pg1-user={SUPERUSER}"]
    if not (_repository(folder) / "backup" / server.identity() / "backup.info").exists():
        _expect("no repository was made", _run(server, folder, "stanza-create", *where, "--no-online"))
    how = [
        "--no-archive-check",
        "--start-fast",
        "--no-resume",
        "--job-retry=0",
        "--compress-type=zst",
        "--compress-level=1",
        *(["--repo1-bundle"] if version() >= _BUNDLES else []),
    ]
    short = "--type=full" if kind == "full" else "--type=incr"
    done = _run(server, folder, "backup", *where, *how, _KEEP_ALL, short)
    if done.returncode != 0:
        _clear_unfinished(server, folder)
    _expect("no backup was taken", done)
    newest = _known(server, folder)[-1]
    (folder / _LABEL).write_text(f"{server.identity()} {newest['label']}\n")
    return {
        "timeline": int(newest["archive"]["start"][:8], 16),
        "start_lsn": newest["lsn"]["start"],
        "stop_lsn": newest["lsn"]["stop"],
        "size": newest["info"]["repository"]["delta"],
    }


def damage(server: PostgresServer, folder: Path) -> str | None:
    """Return what is wrong with the backup or with one that it is based on, by every file's checksum; None if nothing."""
    label = _label(folder)
    mine = [backup for backup in _known(server, folder) if backup["label"] == label]
    if not mine:
        return f"the repository has no backup {label}"
    needed = {label, *(mine[0]["reference"] or [])}
    done = _run(server, folder, "verify", "--log-level-console=info")
    _expect("the repository cannot be verified", done)
    said = [line for line in done.stdout.splitlines() if any(name in line for name in needed) and _BAD.search(line)]
    return "; ".join(" ".join(line.split()) for line in said)[:600] or None


def extract(server: PostgresServer, folder: Path, target: Path) -> None:
    """Restore the backup into the empty folder `target`, which the server's user owns.

    Raises:
        UnavailableError: the disk is full.
        BackupError: it failed otherwise.
    """
    done = _run(server, folder, "restore", f"--pg1-path={target}", f"--set={_label(folder)}", "--type=none", lock=True)
    if done.returncode != 0:
        shutil.rmtree(target, ignore_errors=True)
    _expect(f"the backup could not be restored to {target}", done)
    if server.user:
        subprocess.run(["chown", "-R", f"{server.user}:", target], check=True)


def remove(server: PostgresServer, folder: Path) -> None:
    """Remove the backup's files from the repository."""
    label = _label(folder)
    labels = [backup["label"] for backup in _known(server, folder)]
    if labels == [label]:
        # pgBackRest never lets go of the last one it has, not knowing that another tool has taken newer ones.
        for kind in ("backup", "archive"):
            shutil.rmtree(_repository(folder) / kind / _stanza(server, folder), ignore_errors=True)
    elif label in labels:
        _expect("the backup could not be removed", _run(server, folder, "expire", f"--set={label}", lock=True))


def _label(folder: Path) -> str:
    return (folder / _LABEL).read_text().split()[1]


def _stanza(server: PostgresServer, folder: Path) -> str:
    """Return the identity of the cluster that the backup was, or is to be, taken from."""
    noted = folder / _LABEL
    return noted.read_text().split()[0] if noted.exists() else server.identity()


def _repository(folder: Path) -> Path:
    return folder.parent.parent / NAME


def _known(server: PostgresServer, folder: Path) -> list[dict[str, Any]]:
    done = _run(server, folder, "info", "--output=json")
    _expect("the repository cannot be read", done)
    return [backup for stanza in json.loads(done.stdout) for backup in stanza.get("backup", ())]


def _clear_unfinished(server: PostgresServer, folder: Path) -> None:
    """Remove what a backup that failed has left: pgBackRest would keep it for the next attempt, and the disk is full."""
    known = {backup["label"] for backup in _known(server, folder)}
    for left in (_repository(folder) / "backup" / server.identity()).glob("20*"):
        if left.is_dir() and left.name not in known:
            shutil.rmtree(left)


def _expect(what: str, done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode != 0:
        raise programs.failure(what, done)


def _run(
    server: PostgresServer, folder: Path, command: str, *options: str, lock: bool = False
) -> subprocess.CompletedProcess[str]:
    program, repository = shutil.which(NAME), _repository(folder)
    if program is None:
        raise BackupError(f"this backup was taken with {NAME}, which this machine has not: install it")
    repository.mkdir(mode=0o700, exist_ok=True)
    words = [program, "--no-config", f"--stanza={_stanza(server, folder)}", f"--repo1-path={repository}"]
    if lock or command in ("backup", "stanza-create"):
        words.append(f"--lock-path={repository / 'lock'}")
    # No database is named: it is asked for the one that PGHOST leads to, and is told no socket.
    return subprocess.run(
        [*words, "--log-level-file=off", *options, command],
        env={**programs.environment(server), "PGHOST": LOOPBACK},
        capture_output=True,
        text=True,
        check=False,
        umask=0o077,
        restore_signals=False,
    )
