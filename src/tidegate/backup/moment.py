"""How far a restore goes: to the end of what was kept, to a time, or to a position in the WAL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tidegate.backup.lsn import position
from tidegate.backup.shelf import Backup
from tidegate.errors import UsageError

_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}\Z")


@dataclass(frozen=True)
class Moment:
    """Every transaction that committed up to the time, or the position, and none after it; all, where both are None."""

    time: datetime | None = None
    lsn: str | None = None

    @classmethod
    def read(cls, text: str | None) -> Moment:
        """Read what a person wrote: an ISO time (of this machine's zone where it names none), or a position.

        Raises:
            UsageError: it is neither, or lies in the future.
        """
        if text is None:
            return cls()
        if _LSN.match(text):
            return cls(lsn=text.upper())
        try:
            time = datetime.fromisoformat(text).astimezone(UTC)
        except ValueError:
            raise UsageError(
                f"{text!r} is no moment: expected a time such as 2026-03-01T12:30:00.5+01:00, or a position in the WAL "
                "such as 0/3000060"
            ) from None
        if time > datetime.now(UTC):
            raise UsageError(f"{text} lies in the future: nothing was kept of it yet")
        return cls(time=time)

    def comes_after(self, backup: Backup) -> bool:
        """Return whether a restore of that backup can lead here: it is consistent only from its own end on."""
        if self.lsn:
            return position(backup.stop_lsn) <= position(self.lsn)
        return self.time is None or backup.ended_at <= self.time

    def settings(self) -> Mapping[str, str]:
        """Return what PostgreSQL is told."""
        target: dict[str, str] = {"recovery_target_action": "promote", "recovery_target_timeline": "latest"}
        if self.time:
            target["recovery_target_time"] = self.time.isoformat(sep=" ")
        if self.lsn:
            target["recovery_target_lsn"] = self.lsn
        return target

    def __str__(self) -> str:
        return self.lsn or (self.time.isoformat() if self.time else "the end of what was kept")
