"""What one checkout remembers between two calls: ports, processes, and what was prepared for which version.

A remembered process is a claim to be verified (`process.py`), never a fact.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tidegate.stack.home import write_private
from tidegate.stack.process import Process


@dataclass
class Memory:
    """The file `stack.json`."""

    path: Path
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    prepared: dict[str, str] = field(default_factory=dict)
    wanted: list[str] = field(default_factory=list)
    """Servers that run only where somebody asked for them."""
    declined: list[str] = field(default_factory=list)
    """Those of them that somebody said no to: no command starts them by itself."""

    @classmethod
    def load(cls, home: Path) -> Memory:
        """Read the file; a missing, unreadable or copied one remembers nothing."""
        path = home / "stack.json"
        try:
            kept = json.loads(path.read_text())
            if kept["home"] != str(home):
                return cls(path)  # the folder was copied: those are another checkout's servers
            processes = {name: Process(**process) for name, process in kept["processes"].items()}
            return cls(
                path, kept["ports"], processes, kept["prepared"], kept.get("wanted", []), kept.get("declined", [])
            )
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return cls(path)

    def save(self) -> None:
        """Write the file in one step."""
        kept = asdict(self)
        kept["home"] = str(kept.pop("path").parent)
        write_private(self.path, json.dumps(kept, indent=2) + "\n")
