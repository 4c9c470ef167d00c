"""PostgreSQL's own programs, run on the warehouse by its superuser; a failure is a sentence."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

from tidegate.errors import BackupError, UnavailableError
from tidegate.stack.port import LOOPBACK
from tidegate.stack.postgres import SUPERUSER, PostgresServer

#: Of a write that the disk takes only a part of, pgBackRest tells no reason of the system's.
_FULL = re.compile(r"no space left|disk quota exceeded|file too large|unable to write '", re.I)


def environment(server: PostgresServer) -> dict[str, str]:
    """Return the variables by which programs find the server; the password travels in no argument."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "LC_ALL": "C",
        "PGHOST": LOOPBACK,
        "PGPORT": str(server.port),
        "PGUSER": SUPERUSER,
        "PGPASSWORD": server.password,
    }


def run(server: PostgresServer, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of the server's own version; its end is the caller's to judge."""
    return subprocess.run(
        [server.programs().folder / program, *arguments],
        env=environment(server),
        capture_output=True,
        text=True,
        check=False,
        umask=0o077,
        # As Python has them: a file that may not grow any more is an error that the program tells, not its end.
        restore_signals=False,
    )


def failure(what: str, done: subprocess.CompletedProcess[str]) -> Exception:
    """Return the error for a program that failed: a full disk may be freed, and one that was ended may be run again."""
    said = done.stderr + done.stdout
    words = " ".join(said.split())[-600:]
    if done.returncode < 0:
        by = signal.Signals(-done.returncode).name
        return UnavailableError(
            f"{what}: {Path(done.args[0]).name} was ended by {by} before it was done; run this again, and look for who ends "
            "it when it happens again"
        )
    if _FULL.search(said):
        return UnavailableError(
            f"{what}: no space left on the disk; free some and run this again. Nothing is left of it ({words})"
        )
    return BackupError(f"{what}: {words or 'it said nothing'}")
