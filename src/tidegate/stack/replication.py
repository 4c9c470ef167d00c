"""How the replica follows: its lag in bytes and seconds, the slots and what they keep back; looks, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tidegate.stack.postgres import PostgresServer

_PRIMARY = """
SELECT pg_is_in_recovery() AS standby,
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text AS lsn,
    timeline_id AS timeline, current_setting('synchronous_standby_names') AS synchronous
FROM pg_control_checkpoint()
"""
_STANDBYS = """
SELECT application_name AS name, state, sync_state, replay_lsn::text,
    pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS lag_bytes,
    pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)::bigint AS unsafe_bytes
FROM pg_stat_replication WHERE application_name <> 'pg_basebackup' ORDER BY application_name
"""
_SLOTS = """
SELECT slot_name AS name, slot_type AS type, active, wal_status, safe_wal_size,
    coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint AS retained_bytes
FROM pg_replication_slots ORDER BY slot_name
"""
_REPLICA = """
SELECT pg_wal_lsn_diff(%s, pg_last_wal_replay_lsn())::bigint AS lag_bytes,
    coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0)::float8 AS seconds_since,
    pg_is_wal_replay_paused() AS paused, pg_last_wal_replay_lsn()::text AS lsn,
    (SELECT received_tli FROM pg_stat_wal_receiver) AS timeline,
    (SELECT status FROM pg_stat_wal_receiver) AS receiving
"""


@dataclass(frozen=True)
class Standby:
    """One who receives the WAL; `lag_bytes` is not replayed yet, `unsafe_bytes` not on its disk yet."""

    name: str
    state: str
    sync_state: str
    replay_lsn: str | None
    lag_bytes: int | None
    unsafe_bytes: int | None


@dataclass(frozen=True)
class Slot:
    """What is kept back for one who receives the WAL; `safe_wal_size` is how much more may come before it is lost."""

    name: str
    type: str
    active: bool
    wal_status: str | None
    safe_wal_size: int | None
    retained_bytes: int


@dataclass(frozen=True)
class Replica:
    """The replica by its own words; `lag_seconds` is the age of what it shows, 0 when it shows everything."""

    lsn: str | None
    timeline: int | None
    receiving: str | None
    paused: bool
    lag_bytes: int
    lag_seconds: float


@dataclass(frozen=True)
class Replication:
    """The whole picture; `replica` is None when none answers."""

    primary: str
    timeline: int
    lsn: str
    synchronous: str
    standbys: tuple[Standby, ...]
    slots: tuple[Slot, ...]
    replica: Replica | None


def look(primary: PostgresServer, replica: PostgresServer | None) -> Replication:
    """Ask the running primary, and the replica if it runs."""
    with psycopg.connect(primary.dsn(), autocommit=True, row_factory=dict_row) as connection:
        standbys = tuple(Standby(**row) for row in connection.execute(_STANDBYS).fetchall())
        slots = tuple(Slot(**row) for row in connection.execute(_SLOTS).fetchall())
        state = connection.execute(_PRIMARY).fetchone() or {}
        timeline = connection.execute(
            "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int AS timeline"
        ).fetchone() or {"timeline": state["timeline"]}
    found = _replica(replica, state["lsn"]) if replica is not None and replica.running() else None
    return Replication(
        primary=primary.directory.name, timeline=timeline["timeline"], lsn=state["lsn"], synchronous=state["synchronous"],
        standbys=standbys, slots=slots, replica=found,
    )  # fmt: skip


def behind(replica: psycopg.Connection[dict[str, Any]], lsn: str) -> Replica:
    """Ask a replica what it shows, and how far that is behind a place in its primary's WAL."""
    row: dict[str, Any] = replica.execute(_REPLICA, [lsn]).fetchone() or {}
    since = row.pop("seconds_since")
    lag = max(0, row.pop("lag_bytes") or 0)
    return Replica(**row, lag_bytes=lag, lag_seconds=since if lag else 0.0)


def _replica(server: PostgresServer, lsn: str) -> Replica | None:
    try:
        with psycopg.connect(server.dsn(), autocommit=True, row_factory=dict_row, connect_timeout=5) as connection:
            return behind(connection, lsn)
    except psycopg.OperationalError:
        return None
