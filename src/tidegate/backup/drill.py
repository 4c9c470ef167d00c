"""A restore rehearsed and measured: how long it takes, how much would be lost, and whether every row is there.

It works beside the warehouse, which waits for a moment only: while it is noted what there is to be found again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from tidegate.backup import compare, wal
from tidegate.backup.compare import Fingerprints
from tidegate.backup.moment import Moment
from tidegate.backup.restore import Restored, restore
from tidegate.errors import BackupError, BusyError
from tidegate.gates import ledger
from tidegate.gates.verdict import Evidence, Verdict, evidence_folder, written_in
from tidegate.settings import Settings
from tidegate.stack import warehouse
from tidegate.stack.postgres import PostgresServer
from tidegate.stores.postgres import LOCK_TIMEOUT, connect
from tidegate.strategy import stated
from tidegate.strategy.stated import Stated

GATE = "restore drill"
_VERSION = "1"


@dataclass(frozen=True)
class Drilled:
    """What a drill has found; `rto` and `rpo` are in seconds."""

    backup_id: str
    rto: float
    rpo: float
    tables: int
    rows: int
    differences: list[str]
    verdicts: list[Verdict]
    evidence: Evidence

    @property
    def failed(self) -> list[Verdict]:
        """The verdicts that are no PASS."""
        return [verdict for verdict in self.verdicts if verdict.verdict != "PASS"]


@dataclass(frozen=True)
class _Fixed:
    """A moment of the source: its place in the WAL, when it was, and a connection that goes on seeing it."""

    lsn: str
    segment: str
    committed_at: float
    seen: psycopg.Connection[dict[str, Any]]


def drill(settings: Settings) -> Drilled:
    """Restore the newest backup up to this moment, compare every table, measure, write down, clear away.

    Raises:
        StackError: the warehouse does not run, or is not ours.
        BusyError: writers held a table; nothing was done.
        BackupError: there is no backup, or it cannot be restored.
    """
    server, rpo_promised = warehouse.reach(settings), wal.rpo(settings)
    archive = wal.archive_of(settings, server.identity())
    with _fixed(server) as fixed:
        source = compare.fingerprints(fixed.seen)
        # Nothing hurries the server: what a quiet minute costs is what is to be measured.
        wal.wait_for(fixed.seen, archive, fixed.segment, patience=2 * rpo_promised.base)
    rpo = archive.kept_at(fixed.segment) - fixed.committed_at
    restored = restore(settings, Moment(lsn=fixed.lsn))
    try:
        with wal.ask(restored.server) as connection:
            copy = compare.fingerprints(connection)
    finally:
        restored.remove()
    return _judge(settings, restored, source, copy, max(rpo, 0.0))


def insist(found: Drilled) -> None:
    """Raise BackupError when a target was missed, with what was found and where the evidence is."""
    if found.failed:
        told = "; ".join(v.told for v in found.failed)
        raise BackupError(
            f"the restore of {found.backup_id} does not hold what is promised: {told}. {found.evidence.path} has it all"
        )


@contextmanager
def _fixed(server: PostgresServer) -> Iterator[_Fixed]:
    """Keep writers out for the instant in which a position in the WAL and a snapshot are one and the same."""
    with wal.ask(server) as seen, wal.ask(server) as fixing:
        with fixing.transaction():
            fixing.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
            known = compare.tables(fixing)
            try:
                for table in known.values():
                    fixing.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(sql.Identifier(*table)))
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                raise BusyError("a batch is being written at this moment; the drill waits for a quieter one") from error
            seen.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            if compare.tables(seen) != known:
                raise BusyError("tables were made or replaced at this moment; the drill waits for a quieter one")
            # It has no commit before it that the snapshot lacks, and one after it by which a recovery knows to stop.
            row = fixing.execute("SELECT pg_current_wal_insert_lsn()::text AS lsn").fetchone() or {}
            fixing.execute("SELECT pg_logical_emit_message(true, 'tidegate', 'restore drill')")
        committed_at = time.time()
        last = fixing.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn()) AS segment").fetchone() or {}
        yield _Fixed(row["lsn"], last["segment"], committed_at, seen)


def _judge(settings: Settings, restored: Restored, source: Fingerprints, copy: Fingerprints, rpo: float) -> Drilled:
    found = compare.differences(source, copy)
    if not source:
        raise BackupError("the warehouse has no table to compare: nothing was proven")
    rows, now = sum(count for count, _ in source.values()), datetime.now(UTC)
    figures = {
        "backup": restored.backup.backup_id, "lsn": restored.moment.lsn, "rto_seconds": round(restored.seconds, 2),
        "rpo_seconds": round(rpo, 2), "tables": len(source), "rows": rows, "differences": found,
    }  # fmt: skip
    document = {**figures, "measured_at": now, "source": source, "restored": copy}
    folder = evidence_folder(settings.home, "restore_drill", f"{now:%Y-%m-%d}")
    evidence = Evidence.write(GATE, folder / f"{now:%H%M%S.%f}.json", document, figures)
    told = (
        f"{len(found)} of {len(source)} tables differ" if found else f"{len(source)} tables, {rows} rows, all the same"
    )
    same = Verdict(
        GATE, "what was restored equals its source", "FAIL" if found else "PASS", told, "every table", written_in(_judge), _VERSION
    )  # fmt: skip
    rto_held = _held("RTO", restored.seconds, stated.target(settings.project, "RTO"))
    verdicts = [verdict.on(evidence) for verdict in (same, rto_held, _held("RPO", rpo, wal.rpo(settings)))]
    with connect(settings) as connection:
        ledger.record_verdicts(connection, restored.backup.backup_id, "warehouse", None, verdicts, [evidence])
    return Drilled(
        restored.backup.backup_id, restored.seconds, rpo, len(source), rows, found, verdicts, evidence
    )  # fmt: skip


def _held(rule: str, seconds: float, promised: Stated) -> Verdict:
    passed = promised.bound.holds(seconds, "s")
    return Verdict(
        GATE, rule, "PASS" if passed else "FAIL", f"{seconds:.1f} s", str(promised.bound), promised.source, _VERSION
    )
