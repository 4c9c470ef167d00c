"""Where the warehouse's WAL goes, segment by segment, so that a backup can be brought to any later moment.

What archives and fetches are two shell scripts, copied beside the archive where PostgreSQL's user can read them.
Backups, and what the archive holds, are `tidegate.backup`'s matter.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from tidegate.stack.postgres import PostgresServer

#: Seconds after which even a quiet server hands its WAL over. Half of the minute that may be lost at most: the other
#: half is for an archiver that is busy.
TIMEOUT = 30

_SCRIPTS = Path(__file__).parent
_KEEP, _FETCH = "wal_keep.sh", "wal_fetch.sh"


def prepare(server: PostgresServer, folder: Path) -> Mapping[str, str]:
    """Make `folder` ready for the WAL of a made server; return the server's settings that fill it.

    Each cluster has a subfolder of its own: two clusters' segments have the same names.
    """
    archive = folder / server.identity()
    for path in (folder, archive):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if server.user:
            shutil.chown(path, server.user)
    for name in (_KEEP, _FETCH):
        _renew(_SCRIPTS / name, folder / name)
    return {
        "archive_mode": "on",
        "archive_timeout": f"{TIMEOUT}s",
        "archive_command": f"sh {_word(folder / _KEEP)} %p %f {_word(archive)}",
    }


def hand_over(server: PostgresServer, folder: Path) -> list[str]:
    """Archive what a stopped server had finished and not handed over; return what could not be, with the reason.

    Without it, a server that died behind its archiver would leave a gap: a recovery reads these segments from the
    server's own folder, and the timeline that it begins comes after them.
    """
    failed = []
    for ready in sorted((server.directory / "pg_wal" / "archive_status").glob("*.ready")):
        name = ready.stem
        words: list[str | Path] = [
            "sh",
            folder / _KEEP,
            server.directory / "pg_wal" / name,
            name,
            folder / server.identity(),
        ]
        done = subprocess.run(
            words, user=server.user, extra_groups=[] if server.user else None, cwd="/",
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            failed.append(f"{name}: {done.stderr.strip()}")
    return failed


def fetching(scripts: Path, folders: Iterable[Path]) -> str:
    """Return the restore_command that takes segments from the first of the folders that has them."""
    return f"sh {_word(scripts / _FETCH)} %f %p {' '.join(map(_word, folders))}"


def _renew(source: Path, target: Path) -> None:
    """Replace a script in one step: the archiver may be reading it."""
    new = target.with_suffix(".new")
    new.write_bytes(source.read_bytes())
    new.chmod(0o755)
    new.replace(target)


def _word(path: Path) -> str:
    return shlex.quote(str(path)).replace("%", "%%")
