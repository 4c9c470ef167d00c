"""A server that follows another one: copied from it, fed by its WAL through a slot, promoted.

Any two servers on this machine can be such a pair. Which pair the embedded warehouse has is `replica.py`'s matter.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tidegate.errors import StackError
from tidegate.stack.port import LOOPBACK
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_role
from tidegate.stack.process import tail

ROLE, SLOT = "replication", "replica"
#: Seconds in which a replica that makes no progress is given up.
PATIENCE = 15
#: What PostgreSQL says when a server's WAL does not lead to where the other one's is.
_DIVERGED = re.compile(
    r"is not in this server's history|is behind recovery timeline|forked off current database system|is ahead of the WAL flush position"
    r"|not a child of this server's history|system identifier differs|different.*system identifier"
)


@dataclass(frozen=True)
class Link:
    """How a standby is fed: by the role `replication` with this password, and from these folders of kept WAL."""

    password: str = field(repr=False)
    restore_command: str = ""


class StrandedError(StackError):
    """A standby cannot follow its primary any more: it must be made anew."""


def admit(primary: PostgresServer, link: Link) -> None:
    """Let a standby in: the role that may read the WAL and nothing else, and the slot that keeps it back.

    A slot that has fallen too far behind, or that another program holds, is made anew.
    """
    with psycopg.connect(primary.dsn(), autocommit=True) as connection:
        # Also when a synchronous standby is gone, for which commits would wait.
        connection.execute("SET synchronous_commit = local")
        ensure_role(
            connection, ROLE, link.password, attributes="NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS REPLICATION"
        )
        row = connection.execute(
            "SELECT wal_status, active_pid FROM pg_replication_slots WHERE slot_name = %s", [SLOT]
        ).fetchone()
        if row and row[0] == "lost":
            connection.execute("SELECT pg_drop_replication_slot(%s)", [SLOT])
        if not row or row[0] == "lost":
            connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])


def dismiss(server: PostgresServer) -> None:
    """Drop the slot, if there is one and nobody uses it: a slot without a standby keeps WAL back for nobody."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active",
            [SLOT],
        )


def copy(primary: PostgresServer, server: PostgresServer, link: Link) -> None:
    """Make the directory of `server` from the running primary, which has admitted it; marked as a standby's."""
    base = server.directory.parent
    base.mkdir(parents=True, exist_ok=True)
    for left in base.glob(f"{server.directory.name}.copying-*"):
        shutil.rmtree(left)
    making = Path(tempfile.mkdtemp(prefix=f"{server.directory.name}.copying-", dir=base))
    if server.user:
        shutil.chown(making, server.user)
    _write_passfile(server, link)
    cluster = making / "cluster"
    try:
        server.run(
            "pg_basebackup", f"--pgdata={cluster}", f"--dbname={_conninfo(primary, server)}", "--no-password",
            "--checkpoint=fast", "--wal-method=stream", f"--slot={SLOT}",
            *(["--no-sync"] if primary.settings.get("fsync") == "off" else []),
        )  # fmt: skip
        (cluster / "standby.signal").touch()
        if server.user:
            shutil.chown(cluster / "standby.signal", server.user)
        cluster.rename(server.directory)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def following(primary: PostgresServer, server: PostgresServer, link: Link) -> Mapping[str, str]:
    """Return the settings by which `server` follows the primary; its password lies in a file of mode 0600 beside it."""
    _write_passfile(server, link)
    return {
        "primary_conninfo": _conninfo(primary, server),
        "primary_slot_name": SLOT,
        # Not the latest that there is: an archive may hold one that some other server began.
        "recovery_target_timeline": str(_timeline(primary)),
        "restore_command": link.restore_command,
        "wal_retrieve_retry_interval": "500ms",
        "hot_standby": "on",
        "hot_standby_feedback": "on",
        # A reader that stands in the way of the WAL is cut off before the replica is called late.
        "max_standby_streaming_delay": "4s",
        "max_standby_archive_delay": "4s",
        "synchronous_standby_names": "",
    }


def start(primary: PostgresServer, server: PostgresServer, link: Link) -> None:
    """Start the copied server and return once it is fed.

    Raises:
        StrandedError: its WAL does not lead to where the primary is, or nothing came for a while.
        StackError: it did not start.
    """
    server.settings = {**server.settings, **following(primary, server, link)}
    _look_before(primary, server)
    _bring_histories(primary, server)
    server.mark_standby()
    told_before = server.log.stat().st_size if server.log.exists() else 0
    try:
        server.start()
    except StackError as error:
        raise StrandedError(str(error)) from error
    wait_until_fed(primary, server, told_before)


def wait_until_fed(primary: PostgresServer, server: PostgresServer, told_before: int = 0) -> None:
    """Wait until the primary streams to the server, as long as that makes progress. Raises StrandedError."""
    where, deadline = "", time.monotonic() + PATIENCE
    with (
        psycopg.connect(primary.dsn(), autocommit=True) as asked,
        psycopg.connect(server.dsn(), autocommit=True) as connection,
    ):
        while True:
            # By the primary's word: the receiver says that it streams before it has been given anything.
            if asked.execute(
                "SELECT 1 FROM pg_stat_replication WHERE application_name = %s AND state = 'streaming'", [SLOT]
            ).fetchone():
                return
            (lsn,) = connection.execute("SELECT pg_last_wal_replay_lsn()::text").fetchone() or ("",)
            if lsn != where:
                where, deadline = lsn, time.monotonic() + PATIENCE
            with server.log.open("rb") as log:
                log.seek(told_before)
                said = log.read().decode(errors="replace")
            if _DIVERGED.search(said) or time.monotonic() > deadline:
                why = _DIVERGED.search(said)
                raise StrandedError(
                    f"the replica cannot follow: {why[0] if why else f'nothing came for {PATIENCE} s'}. The end of its log:\n"
                    f"{tail(server.log)}"
                )
            time.sleep(0.03)


def insist(primary: PostgresServer, synchronous: bool) -> None:
    """Have each commit wait until the standby has it on disk, or not; takes effect at once."""
    wanted = f"FIRST 1 ({SLOT})" if synchronous else ""
    if primary.settings.get("synchronous_standby_names", "") != wanted or not _says(primary, wanted):
        primary.settings = {**primary.settings, "synchronous_standby_names": wanted}
        primary.reload()


def is_standby(server: PostgresServer) -> bool:
    """Return whether the running server takes no writes."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        return bool((connection.execute("SELECT pg_is_in_recovery()").fetchone() or (False,))[0])


def promote(server: PostgresServer, patience: float = 60) -> None:
    """Make the running standby a primary; returns when it takes writes. Raises StackError when it does not in time."""
    deadline = time.monotonic() + patience
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        if not (connection.execute("SELECT pg_is_in_recovery()").fetchone() or (False,))[0]:
            return
        connection.execute("SELECT pg_promote(false)")
        while (connection.execute("SELECT pg_is_in_recovery()").fetchone() or (True,))[0]:
            if time.monotonic() > deadline:
                raise StackError(
                    f"the replica was not promoted within {patience:.0f} s. The end of {server.log}:\n{tail(server.log)}"
                )
            time.sleep(0.005)
    server.settings = {name: value for name, value in server.settings.items() if name not in _OF_A_STANDBY}


_OF_A_STANDBY = (
    "primary_conninfo", "primary_slot_name", "recovery_target_timeline", "restore_command", "wal_retrieve_retry_interval", "hot_standby",
    "hot_standby_feedback", "max_standby_streaming_delay", "max_standby_archive_delay",
)  # fmt: skip


def _says(primary: PostgresServer, wanted: str) -> bool:
    with psycopg.connect(primary.dsn(), autocommit=True) as connection:
        return connection.execute("SHOW synchronous_standby_names").fetchone() == (wanted,)


def _timeline(primary: PostgresServer) -> int:
    with psycopg.connect(primary.dsn(), autocommit=True) as connection:
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone() or ("1",)
    return int(row[0][:8], 16)


def control(server: PostgresServer, name: str) -> str:
    """Return what a stopped server's control file says under this name; raises StackError when it cannot be read."""
    found = re.search(rf"^{re.escape(name)}:\s+(.+)$", server.run("pg_controldata", str(server.directory)), re.M)
    if not found:
        raise StackError(f"the control file of {server.directory} says nothing of {name!r}")
    return found[1]


def position(lsn: str) -> int:
    """Return a position in the WAL as a number of bytes."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def _look_before(primary: PostgresServer, server: PostgresServer) -> None:
    """Raise StrandedError where the primary's WAL does not pass through where the server stands."""
    mine, now = int(control(server, "Latest checkpoint's TimeLineID")), _timeline(primary)
    if mine == now:
        return
    history = primary.directory / "pg_wal" / f"{now:08X}.history"
    left = {
        int(words[0]): words[1]
        for line in (history.read_text().splitlines() if history.exists() else [])
        if len(words := line.split("\t")) > 1
    }
    places = (control(server, name) for name in ("Latest checkpoint location", "Minimum recovery ending location"))
    here = max(places, key=position)
    if mine not in left or position(here) > position(left[mine]):
        raise StrandedError(f"the replica cannot follow: it has gone its own way (timeline {mine}, at {here})")


def _bring_histories(primary: PostgresServer, server: PostgresServer) -> None:
    """Copy what says how the primary's timeline came about: a standby asks for it before it asks the primary."""
    for history in (primary.directory / "pg_wal").glob("*.history"):
        brought = server.directory / "pg_wal" / history.name
        if not brought.exists():
            brought.write_bytes(history.read_bytes())
            if server.user:
                shutil.chown(brought, server.user)


def _passfile(server: PostgresServer) -> Path:
    return server.directory.with_name(f"{server.directory.name}.pass")


def _write_passfile(server: PostgresServer, link: Link) -> None:
    file = _passfile(server)
    text = f"{LOOPBACK}:*:*:{ROLE}:{link.password}\n"
    if file.exists() and file.read_text() == text:
        return
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
        written.write(text)
    if server.user:
        shutil.chown(file, server.user)


def _conninfo(primary: PostgresServer, server: PostgresServer) -> str:
    from psycopg.conninfo import make_conninfo

    return make_conninfo(
        host=LOOPBACK,
        port=primary.port,
        user=ROLE,
        passfile=str(_passfile(server)),
        application_name=SLOT,
        # A primary that is gone without a word is noticed.
        keepalives_idle=5,
        connect_timeout=5,
    )
