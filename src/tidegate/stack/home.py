"""The folder that everything of one checkout runs in: its layout, its lock, its archive.

What the servers are and which of them run is not known here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

Say = Callable[[str], None]
"""Where a sentence about what was done goes: the terminal, a log, a test's list."""


@dataclass(frozen=True)
class Home:
    """The folder `.tidegate/` (or TIDEGATE_HOME)."""

    path: Path

    @property
    def logs(self) -> Path:
        """Folder with one log file a server."""
        return self.path / "logs"

    def make(self) -> None:
        """Make the folder; when root makes it, PostgreSQL's own user must be able to pass through it."""
        # Secrets inside are files of mode 0600, so the folder itself may be passed through, never listed.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        self.path.mkdir(mode=mode, parents=True, exist_ok=True)
        self.logs.mkdir(mode=mode, exist_ok=True)

    def archive(self, path: Path) -> Path:
        """Move `path` into the archive under a dated name, return where it is now: nothing is deleted."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        target = self.path / "archive" / f"{path.name}-{stamp}"
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(shutil.move(path, target))

    @contextmanager
    def lock(self, say: Say) -> Iterator[None]:
        """Hold the folder for one `up` or `down`; the kernel lets go when the holder dies, even by -9."""
        self.make()
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another tidegate is starting or stopping servers in {self.path}: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def write_private(path: Path, text: str) -> None:
    """Replace `path` in one step by a file of mode 0600 that holds `text`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
