"""An old primary becomes a standby of the one that was promoted: wound back to where the two part, or made anew."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Literal

import psycopg

from tidegate.errors import StackError
from tidegate.stack import standby
from tidegate.stack.home import Say
from tidegate.stack.port import LOOPBACK
from tidegate.stack.postgres import SUPERUSER, PostgresServer
from tidegate.stack.standby import Link

How = Literal["followed", "rewound", "rebuilt"]
REWINDING = ".rewinding"
_MARK = "tidegate.fenced"
_COMMIT = re.compile(r"rmgr: Transaction\s.*desc: COMMIT")


def fenced_mark(server: PostgresServer) -> Path:
    """Return the file that says of a directory: it was a primary, and may hold what no other one has."""
    return server.directory / _MARK


def rejoin(primary: PostgresServer, old: PostgresServer, link: Link, say: Say, aside: Path | None = None) -> How:
    """Have the stopped and fenced `old` follow the promoted primary; returns how.

    Where it has to be made anew, what was there is moved to `aside` if it was a primary's; without `aside` it goes.
    Raises StackError when even a new copy does not follow.
    """
    standby.admit(primary, link)
    with psycopg.connect(primary.dsn(), autocommit=True) as connection:
        # Only then does the promoted server's control file name its new timeline, which pg_rewind reads.
        connection.execute("CHECKPOINT")
    how: How = "rebuilt"
    try:
        how = _wind_back(primary, old)
        standby.start(primary, old, link)
        standby.dismiss(old)  # its own slot, from when it was the primary
        fenced_mark(old).unlink(missing_ok=True)
    except StackError as error:
        say(f"the old primary could not be wound back, and is made anew: {str(error).splitlines()[0]}")
        rebuild(primary, old, link, aside)
        how = "rebuilt"
    return how


def rebuild(primary: PostgresServer, server: PostgresServer, link: Link, aside: Path | None = None) -> None:
    """Make a standby anew from the running primary; raises StackError when that does not follow either."""
    server.stop(patience=5)
    server.end_orphans()
    for place in (server.directory, server.directory.with_name(server.directory.name + REWINDING)):
        if (place / _MARK).exists() and aside is not None:
            aside.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(place, aside)
        elif place.exists():
            shutil.rmtree(place)
    standby.admit(primary, link)
    standby.copy(primary, server, link)
    standby.start(primary, server, link)


def lost(old: PostgresServer, fork_lsn: str) -> tuple[int, int] | None:
    """Return how many bytes of WAL, and commits in it, a stopped server has beyond the position; None if it is not known.

    These were acknowledged by a primary that did not wait for its standby.
    """
    try:
        timeline = int(standby.control(old, "Latest checkpoint's TimeLineID"))
        found = _dump(old, timeline, fork_lsn)
    except (StackError, OSError):
        return None
    if found is None:
        return None
    last, commits = found
    return max(0, last - standby.position(fork_lsn)), commits


def _wind_back(primary: PostgresServer, old: PostgresServer) -> How:
    """Take back what the old one has beyond the fork; it lies under another name meanwhile, so that nobody starts it."""
    if "shut down" not in standby.control(old, "Database cluster state"):
        _recover(old)
    hidden = old.directory.with_name(old.directory.name + REWINDING)
    old.directory.rename(hidden)
    source = f"host={LOOPBACK} port={primary.port} user={SUPERUSER} dbname=postgres"
    said = old.run(
        "pg_rewind", f"--target-pgdata={hidden}", f"--source-server={source}", "--no-ensure-shutdown",
        *(["--no-sync"] if old.settings.get("fsync") == "off" else []),
        environment={"PGPASSWORD": primary.password},
    )  # fmt: skip
    # The source is no standby, so its mark was taken away with all else that it does not have.
    (hidden / "standby.signal").touch()
    if old.user:
        shutil.chown(hidden / "standby.signal", old.user)
    hidden.rename(old.directory)
    return "followed" if "no rewind required" in said else "rewound"


def _recover(old: PostgresServer) -> None:
    """Bring a crashed server's files to a whole state, as a standby of nobody: it takes no write in the meantime."""
    kept = old.settings
    old.settings = {**kept, "archive_mode": "off", "primary_conninfo": "", "restore_command": "", "hot_standby": "on"}
    try:
        old.mark_standby()
        old.start(patience=300)
        old.stop()
    finally:
        old.settings = kept


def _dump(old: PostgresServer, timeline: int, start: str) -> tuple[int, int] | None:
    """Read the WAL from a position to its end; return where it ends, and how many commits are in it."""
    import os
    import subprocess

    words = ["pg_waldump", "--path", str(old.directory / "pg_wal"), "--timeline", str(timeline), "--start", start]
    done = subprocess.run(
        [old.programs().folder / words[0], *words[1:]], user=old.user, extra_groups=[] if old.user else None, cwd="/",
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    # It always ends with an error: where the WAL ends, there is none.
    if "could not find a valid record" in done.stderr:
        return standby.position(start), 0
    ends = re.findall(r"lsn: ([0-9A-F]+/[0-9A-F]+)", done.stdout)
    lengths = re.findall(r"len \(rec/tot\):\s*\d+/\s*(\d+)", done.stdout)
    if not ends:
        return None
    return standby.position(ends[-1]) + int(lengths[-1]), len(_COMMIT.findall(done.stdout))
