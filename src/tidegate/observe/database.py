"""Whether the database is in trouble, or soon will be: a finding for each thing that can be looked at, with what to do.

It looks and judges; whom to tell is the DAG's matter, and nothing is mended here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg.rows import dict_row

from tidegate.backup import wal
from tidegate.errors import StackError, UnavailableError, first_line
from tidegate.gates.verdict import written_in
from tidegate.settings import Settings
from tidegate.stack import pool, replica, replication, warehouse
from tidegate.stack.home import write_private
from tidegate.stack.postgres import PostgresServer
from tidegate.strategy import stated
from tidegate.strategy.stated import Stated

State = Literal["fine", "trouble", "not seen"]
_FULL = ("too many clients", "remaining connection slots")


@dataclass(frozen=True)
class Limit:
    """A number that must not be passed, and where it is written; in seconds, bytes, or a share of 1."""

    value: float
    source: str

    @classmethod
    def of(cls, stated: Stated) -> Limit:
        """Return what a strategy states."""
        return cls(stated.base, stated.source)


@dataclass(frozen=True)
class Limits:
    """What is trouble: of what the database's strategy has somebody told, and what the others need to have time to act."""

    lag: Limit
    pool: Limit
    disk: Limit
    query: Limit
    archive: Limit
    idle: Limit
    connections: Limit
    slot: Limit

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits of a project.

        Raises:
            StrategyError: its strategy states none for something that is looked at.
        """
        told = {
            name: Limit.of(stated.alert(settings.project, said))
            for name, said in (("lag", "replication lag"), ("pool", "pool utilisation"), ("disk", "disk"), ("query", "slow queries"))
        }  # fmt: skip
        return cls(**told, archive=Limit.of(wal.rpo(settings)), **_with_time_to_act())


def _with_time_to_act() -> dict[str, Limit]:
    """Return the limits of which no strategy says anything: early enough that somebody can still do something."""
    here = written_in(_with_time_to_act)
    return {"idle": Limit(300, here), "connections": Limit(0.9, here), "slot": Limit(1 << 30, here)}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `value` is None and `state` "not seen" where it could not be."""

    name: str
    state: State
    value: float | None
    limit: Limit
    unit: str
    told: str
    advice: str


def check(settings: Settings, limits: Limits | None = None) -> list[Finding]:
    """Look at the embedded warehouse, its pool and its replica; return a finding for each thing, in a fixed order.

    Raises:
        StackError: the warehouse does not run, or is a server of your own.
    """
    limits, server = limits or Limits.of(settings), warehouse.reach(settings)
    found = [*_disks(settings, server, limits), _pool(settings, limits)]
    try:
        with psycopg.connect(
            server.dsn(pool.DATABASE), autocommit=True, row_factory=dict_row, application_name="tidegate check"
        ) as connection:
            found += [judge(connection, limits) for judge in (_connections, _idle, _running, _slowest)]
        found += [_archive(server, limits), *_replication(settings, server, limits)]
    except psycopg.OperationalError as error:
        if not any(words in str(error) for words in _FULL):
            raise StackError(f"the warehouse does not answer: {first_line(error)}; `tidegate up` mends it") from error
        advice = "nobody gets in any more: end clients, or give them the pooled address (TIDEGATE_POOL_URL)"
        found.append(_finding("connections", 1.0, limits.connections, "of all", "all are taken", advice))
    return found


def troubles(found: list[Finding]) -> list[Finding]:
    """Return those that need somebody."""
    return [finding for finding in found if finding.state == "trouble"]


def news(settings: Settings, found: list[Finding]) -> list[Finding]:
    """Return the troubles that were none at the last call, and remember those of now: people are told once."""
    file = settings.home / "database-troubles.json"
    try:
        before = set(json.loads(file.read_text()))
    except (FileNotFoundError, ValueError):
        before = set()
    now = troubles(found)
    write_private(file, json.dumps(sorted(finding.name for finding in now)) + "\n")
    return [finding for finding in now if finding.name not in before]


def _finding(name: str, value: float | None, limit: Limit, unit: str, told: str, advice: str) -> Finding:
    state: State = "not seen" if value is None else "trouble" if value > limit.value else "fine"
    return Finding(name, state, value, limit, unit, told, advice)


def _disks(settings: Settings, server: PostgresServer, limits: Limits) -> Iterator[Finding]:
    """Judge the disks of the data and of the backups, which may be one."""
    seen: set[int] = set()
    for name, folder in (("disk", server.directory), ("disk_of_backups", warehouse.archive_of(settings))):
        if folder.exists() and (device := folder.stat().st_dev) not in seen:
            seen.add(device)
            yield disk(name, folder, limits)


def disk(name: str, folder: Path, limits: Limits) -> Finding:
    """Judge how full the disk of a folder is."""
    usage = shutil.disk_usage(folder)
    # As df counts: what is set aside for root is nobody else's.
    share = usage.used / (usage.used + usage.free) if usage.used + usage.free else 1.0
    told = f"{share:.0%} of the disk under {folder} is used, {usage.free / (1 << 30):.1f} GiB are free"
    advice = "free some, or move TIDEGATE_HOME: a full disk stops every write. Fewer backups: TIDEGATE_BACKUPS_KEPT"
    return _finding(name, share, limits.disk, "of all", told, advice)


def _pool(settings: Settings, limits: Limits) -> Finding:
    advice = "`tidegate pool status` shows who has it; long transactions of applications hold it"
    try:
        load = pool.reach(settings).load()
    except (StackError, UnavailableError) as error:
        return _finding("pool", None if not pool.is_installed() else 1.1, limits.pool, "of all", str(error), advice)
    told = f"{load.busy} of {load.size} connections busy, {load.waiting} clients wait"
    return _finding(
        "pool", load.utilisation, limits.pool, "of all", told + (", drained" if load.paused else ""), advice
    )


def _ask(connection: psycopg.Connection[dict[str, Any]], query: str) -> dict[str, Any]:
    return connection.execute(query.encode()).fetchone() or {}


def _connections(connection: psycopg.Connection[dict[str, Any]], limits: Limits) -> Finding:
    row = _ask(
        connection,
        """
        SELECT count(*) AS taken,
            current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS most
        FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
        """,
    )
    told = f"{row['taken']} of {row['most']} connections are taken"
    advice = (
        "give applications the pooled address (TIDEGATE_POOL_URL); `SELECT * FROM pg_stat_activity` shows who has them"
    )
    return _finding("connections", row["taken"] / row["most"], limits.connections, "of all", told, advice)


def _idle(connection: psycopg.Connection[dict[str, Any]], limits: Limits) -> Finding:
    row = _ask(
        connection,
        """
        SELECT pid, usename, extract(epoch FROM clock_timestamp() - state_change)::float8 AS seconds
        FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' ORDER BY state_change LIMIT 1
        """,
    )
    told = f"{row['usename']} (pid {row['pid']}) has one open for {row['seconds']:.0f} s" if row else "none"
    advice = "it keeps dead rows and locks: have its program commit, or end it with `SELECT pg_terminate_backend(PID)`"
    return _finding("idle_transaction", row.get("seconds", 0.0), limits.idle, "s", told, advice)


#: Who waits for an answer. Pipelines, backups and Airflow take the time that they need.
_PEOPLE = "NOT IN ('tidegate', 'migration', 'airflow', 'backup', 'replication', 'postgres')"


def _running(connection: psycopg.Connection[dict[str, Any]], limits: Limits) -> Finding:
    row = _ask(
        connection,
        f"""
        SELECT pid, usename, extract(epoch FROM clock_timestamp() - query_start)::float8 AS seconds
        FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend' AND usename {_PEOPLE}
        ORDER BY query_start LIMIT 1
        """,
    )
    told = f"{row['usename']} (pid {row['pid']}) waits for {row['seconds']:.1f} s" if row else "nobody waits"
    advice = "`tidegate queries` shows what is slow and its plan; end one with `SELECT pg_cancel_backend(PID)`"
    return _finding("running_query", row.get("seconds", 0.0), limits.query, "s", told, advice)


def _slowest(connection: psycopg.Connection[dict[str, Any]], limits: Limits) -> Finding:
    advice = "`tidegate queries` shows its plan and the indexes that are missing; `SELECT pg_stat_statements_reset()` forgets"
    try:
        row = _ask(
            connection,
            f"""
            SELECT queryid, calls, mean_exec_time / 1000 AS seconds FROM pg_stat_statements s
            JOIN pg_roles r ON r.oid = s.userid JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
            WHERE r.rolname {_PEOPLE} ORDER BY mean_exec_time DESC LIMIT 1
            """,
        )
    except psycopg.Error:
        return _finding("mean_query", None, limits.query, "s", "the server does not count statements", advice)
    told = f"statement {row['queryid']}, {row['calls']} times, {row['seconds']:.2f} s on average" if row else "none yet"
    return _finding("mean_query", row.get("seconds", 0.0), limits.query, "s", told, advice)


def _archive(server: PostgresServer, limits: Limits) -> Finding:
    state = wal.look(server)
    advice = "`tidegate logs postgres` says why; until it works, PostgreSQL keeps all WAL on its own disk"
    # One that fails has not kept its promise, however short its queue is.
    trouble = state.trouble(limits.archive.value)
    value = max(state.waiting_seconds, limits.archive.value + 1) if trouble else state.waiting_seconds
    told = trouble or f"{state.waiting} segments wait"
    return _finding("wal_archive", value, limits.archive, "s", told, advice)


def _replication(settings: Settings, server: PostgresServer, limits: Limits) -> Iterator[Finding]:
    wanted = replica.wanted(settings)
    seen = replication.look(server, replica.mine(settings) if wanted else None)
    if wanted:
        advice = "`tidegate replication` shows more, `tidegate logs replica` why; `tidegate up` mends or makes it anew"
        copy = seen.replica
        if copy is None or not seen.standbys:
            told = "the replica does not follow" + (", and commits wait for it" if seen.synchronous else "")
            lag = limits.lag.value + 1 + (copy.lag_seconds if copy else 0)
        else:
            told, lag = (
                f"{copy.lag_bytes} bytes behind" + (", replay is paused" if copy.paused else ""),
                copy.lag_seconds,
            )
        yield _finding("replication_lag", lag, limits.lag, "s", told, advice)
    slot = max(seen.slots, key=lambda slot: slot.retained_bytes, default=None)
    lost = slot is not None and slot.wal_status in ("unreserved", "lost")
    told = (
        f"{slot.name} keeps {slot.retained_bytes / (1 << 20):.0f} MiB back ({slot.wal_status})" if slot else "no slot"
    )
    yield _finding(
        "slot", max(slot.retained_bytes, limits.slot.value + 1 if lost else 0) if slot else 0, limits.slot, "bytes",
        told, "its reader is gone or slow: `tidegate up` brings the replica back, `tidegate up --without replica` ends it",
    )  # fmt: skip
