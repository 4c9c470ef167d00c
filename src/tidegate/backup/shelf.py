"""Which backups there are: a folder each, and beside its data a file that says what is known of it.

The files are the truth, for they outlive the warehouse; the ledger's rows (`record.py`) follow them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tidegate.errors import UsageError
from tidegate.settings import Settings
from tidegate.stack.home import write_private

Kind = Literal["full", "incremental"]

_FACTS = "backup.json"
#: What an unfinished backup's folder ends with.
PARTIAL = ".partial"


@dataclass(frozen=True)
class Backup:
    """One finished backup: what it needs of the WAL lies between `start_lsn` and `stop_lsn`.

    `cluster` is the identity of the server that it was taken from, `size` what it occupies, in bytes. `based_on` is
    the backup without which an incremental one is nothing. `verified_at` is when all of it was last found whole;
    None when it never was, or was found damaged since.
    """

    backup_id: str
    kind: Kind
    tool: str
    cluster: str
    timeline: int
    start_lsn: str
    stop_lsn: str
    started_at: datetime
    ended_at: datetime
    size: int
    based_on: str | None = None
    verified_at: datetime | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended_at - self.started_at).total_seconds()


def base_of(settings: Settings) -> Path:
    """Return the folder that holds the backups."""
    return settings.home / "backups" / "base"


def folder_of(settings: Settings, backup_id: str) -> Path:
    """Return a backup's own folder."""
    return base_of(settings) / backup_id


def new_id(kind: Kind) -> str:
    """Return the name of a backup that begins now; names sort by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{kind}"


def keep(folder: Path, backup: Backup) -> None:
    """Write down what is known of a backup, in one step."""
    write_private(folder / _FACTS, json.dumps(asdict(backup), indent=1, default=datetime.isoformat) + "\n")


def backups(settings: Settings) -> list[Backup]:
    """Return the finished backups, oldest first."""
    files = sorted(base_of(settings).glob(f"*/{_FACTS}"))
    return [_read(file) for file in files if not file.parent.name.endswith(PARTIAL)]


def find(settings: Settings, backup_id: str | None) -> Backup:
    """Return the backup whose id is, or starts with, `backup_id`; the newest when None.

    Raises:
        UsageError: there is none, or there are several.
    """
    known = backups(settings)
    if not known:
        raise UsageError("there is no backup yet: `tidegate backup take` takes one")
    found = known[-1:] if backup_id is None else [b for b in known if b.backup_id.startswith(backup_id)]
    if len(found) != 1:
        several = "several backups" if found else "no backup"
        raise UsageError(f"{several} with id {backup_id!r}; `tidegate backup list` shows them")
    return found[0]


def clear_unfinished(settings: Settings) -> None:
    """Remove what a killed `take` has left: it is no backup, and would fill the disk."""
    for partial in base_of(settings).glob(f"*{PARTIAL}"):
        shutil.rmtree(partial)


def _read(file: Path) -> Backup:
    kept: dict[str, Any] = json.loads(file.read_text())
    for name in ("started_at", "ended_at", "verified_at"):
        kept[name] = kept[name] and datetime.fromisoformat(kept[name])
    return Backup(**kept)
