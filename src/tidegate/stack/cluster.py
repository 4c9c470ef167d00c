"""Which of two data directories is the primary's, and whether the other one is to be kept as its replica.

A decision, written down before it is carried out; the directories themselves say what they are by `standby.signal`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from tidegate.stack.home import write_private

FIRST, SECOND = "postgres", "postgres-2"


@dataclass(frozen=True)
class Cluster:
    """The file `cluster.json`; `primary` is a folder's name."""

    home: Path
    primary: str = FIRST
    replica: bool = False

    @classmethod
    def load(cls, home: Path) -> Cluster:
        """Read the file. Where it is missing or unreadable, the directories tell: a primary bears no standby's mark."""
        try:
            kept = json.loads((home / "cluster.json").read_text())
            return cls(home, {FIRST: FIRST, SECOND: SECOND}[kept["primary"]], bool(kept["replica"]))
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            both = all((home / name / "PG_VERSION").exists() for name in (FIRST, SECOND))
            second = both and (home / FIRST / "standby.signal").exists()
            return cls(home, SECOND if second else FIRST, both)

    @property
    def standby(self) -> str:
        """Name of the folder that is not the primary's."""
        return SECOND if self.primary == FIRST else FIRST

    def turned(self) -> Cluster:
        """Return the decision that the other folder is the primary's."""
        return replace(self, primary=self.standby)

    def with_replica(self, wanted: bool) -> Cluster:
        """Return the decision whether there is to be a replica."""
        return replace(self, replica=wanted)

    def save(self) -> None:
        """Write the file in one step."""
        write_private(self.home / "cluster.json", json.dumps({"primary": self.primary, "replica": self.replica}) + "\n")
