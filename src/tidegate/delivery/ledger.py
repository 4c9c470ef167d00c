"""The ledger of deliveries: every read and write of their tables in schema `ops`; verdicts stand where all others do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from psycopg import errors

from tidegate.errors import NotBegunError, UsageError
from tidegate.gates import ledger
from tidegate.gates.verdict import Evidence, Verdict
from tidegate.stores.postgres import Connection

State = Literal["running", "waiting", "paused", "blocked", "failed", "success"]
Kind = Literal["cost", "deployment", "merge", "waiver", "unmet", "topic"]
Decision = Literal["approve", "reject"]
ENDED: tuple[State, ...] = ("failed", "success")


@dataclass(frozen=True)
class Delivery:
    """One row of ops.delivery."""

    delivery_id: str
    team: str
    strategy: str
    strategy_sha256: str
    code_version: str
    state: State
    wave: str
    reason: str | None
    started_by: str
    dag_run_id: str
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class Done:
    """What a role did in a wave, in one attempt: one row of ops.delivery_work; `artifacts` maps paths to hashes."""

    wave: str
    role: str
    attempt: int
    state: Literal["running", "done", "failed", "skipped"]
    artifacts: dict[str, str]
    reason: str | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class Exhibit:
    """A file of evidence that was taken for this delivery, or the reason why a probe left none."""

    wave: str
    role: str
    attempt: int
    probe: str
    path: str
    sha256: str | None
    reason: str | None
    figures: dict[str, Any]
    taken_at: datetime


@dataclass(frozen=True)
class Approval:
    """What a person decided, about exactly what they were shown."""

    kind: Kind
    subject: str
    sha256: str
    decision: Decision
    decided_by: str
    why: str
    decided_at: datetime


@dataclass(frozen=True)
class Decided:
    """What a gate said, and when."""

    verdict: Verdict
    at: datetime


@dataclass(frozen=True)
class Release:
    """One row of ops.release."""

    version: str
    delivery_id: str
    state: Literal["begun", "released", "rolled back"]
    code_version: str
    from_revision: str
    to_revision: str
    backup_id: str | None
    build_id: str | None
    reason: str | None
    begun_at: datetime
    ended_at: datetime | None


def _columns(kind: type) -> str:
    return ", ".join(field.name for field in fields(kind))


def begin(connection: Connection, delivery: Mapping[str, Any]) -> None:
    """Write down a delivery that begins.

    Raises:
        UsageError: the team works on another one.
    """
    try:
        connection.execute(
            "INSERT INTO ops.delivery (delivery_id, team, strategy, strategy_sha256, code_version, state, wave, started_by, "
            "dag_run_id) VALUES (%(delivery_id)s, %(team)s, %(strategy)s, %(strategy_sha256)s, %(code_version)s, 'running', "
            "'0', %(started_by)s, %(dag_run_id)s)",
            delivery,
        )
    except errors.UniqueViolation as error:
        connection.rollback()
        other = unfinished(connection, delivery["team"])
        if other is None:
            raise UsageError(f"the delivery {delivery['delivery_id']} has been begun before") from error
        raise busy(other) from error


def busy(other: Delivery) -> UsageError:
    """Return the error that a team which works on a delivery raises when another one is begun: waiting is of no use."""
    return UsageError(
        f"team {other.team} works on {other.delivery_id} ({other.state}, wave {other.wave}): "
        "a team has one delivery at a time; `team status` shows it, `team resume` goes on with it, `team stop` ends it"
    )


def get(connection: Connection, delivery_id: str) -> Delivery:
    """Return a delivery; raises NotBegunError when there is none of that id."""
    row = connection.execute(
        f"SELECT {_columns(Delivery)} FROM ops.delivery WHERE delivery_id = %s",
        [delivery_id],
    ).fetchone()
    if row is None:
        raise NotBegunError(f"there is no delivery {delivery_id!r}: `team status` names the last one")
    return Delivery(**row)


def unfinished(connection: Connection, team: str) -> Delivery | None:
    """Return the delivery that a team works on."""
    row = connection.execute(
        f"SELECT {_columns(Delivery)} FROM ops.delivery WHERE team = %s AND finished_at IS NULL",
        [team],
    ).fetchone()
    return Delivery(**row) if row else None


def working_on(connection: Connection, dag_run_id: str) -> Delivery | None:
    """Return the delivery that a run of Airflow works on."""
    row = connection.execute(
        f"SELECT {_columns(Delivery)} FROM ops.delivery WHERE dag_run_id = %s OR delivery_id = %s",
        [dag_run_id, dag_run_id],
    ).fetchone()
    return Delivery(**row) if row else None


def newest(connection: Connection, team: str | None = None) -> Delivery | None:
    """Return the delivery that was begun last, of a team or of any."""
    row = connection.execute(
        f"SELECT {_columns(Delivery)} FROM ops.delivery WHERE %(team)s::text IS NULL OR team = %(team)s "
        "ORDER BY started_at DESC, delivery_id DESC LIMIT 1",
        {"team": team},
    ).fetchone()
    return Delivery(**row) if row else None


def deliveries(connection: Connection, team: str) -> list[Delivery]:
    """Return every delivery of a team, the newest first."""
    rows = connection.execute(
        f"SELECT {_columns(Delivery)} FROM ops.delivery WHERE team = %s ORDER BY started_at DESC",
        [team],
    ).fetchall()
    return [Delivery(**row) for row in rows]


def set_state(connection: Connection, delivery_id: str, state: State, reason: str | None = None) -> None:
    """Say whether a delivery goes on; one that has ended stays so."""
    connection.execute(
        "UPDATE ops.delivery SET state = %(state)s, reason = %(reason)s, "
        "finished_at = CASE WHEN %(ended)s THEN now() END WHERE delivery_id = %(id)s AND finished_at IS NULL",
        {"state": state, "reason": reason, "ended": state in ENDED, "id": delivery_id},
    )


def go_on(connection: Connection, delivery_id: str, wave: str, dag_run_id: str | None = None) -> None:
    """Say that a delivery is at work, in a wave; one that a person has paused stays paused."""
    connection.execute(
        "UPDATE ops.delivery SET state = CASE state WHEN 'paused' THEN state ELSE 'running' END, wave = %s, "
        "reason = CASE state WHEN 'paused' THEN reason END, dag_run_id = coalesce(%s, dag_run_id) "
        "WHERE delivery_id = %s AND finished_at IS NULL",
        [wave, dag_run_id, delivery_id],
    )


def reopen(connection: Connection, delivery_id: str, dag_run_id: str) -> None:
    """Let a delivery that failed or was paused go on, in another run of Airflow; one that succeeded stays as it is."""
    connection.execute(
        "UPDATE ops.delivery SET state = 'running', reason = NULL, finished_at = NULL, dag_run_id = %s "
        "WHERE delivery_id = %s AND state <> 'success'",
        [dag_run_id, delivery_id],
    )


def do_again(connection: Connection, delivery_id: str, roles: Sequence[str], reason: str) -> None:
    """Have what some roles have done for a delivery done anew; what they made and measured stays in the ledger."""
    connection.execute(
        "UPDATE ops.delivery_work SET state = 'failed', reason = %s WHERE delivery_id = %s AND role = ANY (%s) AND state = 'done'",
        [reason, delivery_id, list(roles)],
    )


def work_begins(connection: Connection, delivery_id: str, where: tuple[str, str, int]) -> datetime:
    """Write down that a role has begun, and return when; what was cut short goes on, what has failed begins again."""
    row = connection.execute(
        "INSERT INTO ops.delivery_work (delivery_id, wave, role, attempt, state) VALUES (%s, %s, %s, %s, 'running') "
        "ON CONFLICT (delivery_id, wave, role, attempt) DO UPDATE SET state = 'running', reason = NULL, finished_at = NULL, "
        "started_at = CASE delivery_work.state WHEN 'failed' THEN clock_timestamp() ELSE delivery_work.started_at END "
        "RETURNING started_at",
        [delivery_id, *where],
    ).fetchone()
    assert row is not None
    began: datetime = row["started_at"]
    return began


def work_ends(
    connection: Connection,
    delivery_id: str,
    where: tuple[str, str, int],
    state: Literal["done", "failed", "skipped"],
    *,
    artifacts: Mapping[str, str] | None = None,
    reason: str | None = None,
) -> None:
    """Write down how a role's work ended, and what it made; `where` is wave, role and attempt."""
    connection.execute(
        "INSERT INTO ops.delivery_work (delivery_id, wave, role, attempt, state, artifacts, reason, finished_at) "
        "VALUES (%s, %s, %s, %s, %s, %s::jsonb, %s, clock_timestamp()) "
        "ON CONFLICT (delivery_id, wave, role, attempt) DO UPDATE SET state = excluded.state, "
        "artifacts = excluded.artifacts, reason = excluded.reason, finished_at = excluded.finished_at",
        [delivery_id, *where, state, json.dumps(artifacts or {}), reason],
    )


def work(connection: Connection, delivery_id: str) -> list[Done]:
    """Return all that was done for a delivery, in the order in which it began."""
    rows = connection.execute(
        f"SELECT {_columns(Done)} FROM ops.delivery_work WHERE delivery_id = %s ORDER BY started_at, wave, role",
        [delivery_id],
    ).fetchall()
    return [Done(**row) for row in rows]


def seconds_by_wave(done: Sequence[Done]) -> dict[str, float]:
    """Return how long each wave took, from when its first role began until its last one ended."""
    found = {}
    for wave in dict.fromkeys(one.wave for one in done):
        ended = [(one.started_at, one.finished_at) for one in done if one.wave == wave and one.finished_at]
        if ended:
            span = max(last for _, last in ended) - min(first for first, _ in ended)
            found[wave] = round(span.total_seconds(), 1)
    return found


def record_exhibits(
    connection: Connection,
    delivery: Delivery,
    where: tuple[str, str, int],
    probe: str,
    evidence: Sequence[Evidence],
    root: Path,
) -> None:
    """Write down what a probe has taken for this delivery; `where` is wave, role and attempt."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ops.delivery_evidence (delivery_id, wave, role, attempt, probe, path, evidence_sha256) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [(delivery.delivery_id, *where, probe, str(e.path.relative_to(root)), e.sha256) for e in evidence],
        )


def record_no_exhibit(
    connection: Connection, delivery: Delivery, where: tuple[str, str, int], probe: str, reason: str
) -> None:
    """Write down why a probe has left nothing."""
    connection.execute(
        "INSERT INTO ops.delivery_evidence (delivery_id, wave, role, attempt, probe, path, reason) "
        "VALUES (%s, %s, %s, %s, %s, '', %s)",
        [delivery.delivery_id, *where, probe, reason],
    )


def exhibits(connection: Connection, delivery_id: str) -> list[Exhibit]:
    """Return the newest evidence of every path, and of every probe whose last run left none the reason, by number.

    What a probe took before its last run, for another attempt, is history and not returned.
    """
    rows = connection.execute(
        """
        SELECT d.wave, d.role, d.attempt, d.probe, d.path, d.evidence_sha256 AS sha256, d.reason,
            coalesce(e.figures, '{}') AS figures, d.taken_at
        FROM ops.delivery_evidence AS d
        LEFT JOIN ops.evidence AS e USING (evidence_sha256)
        WHERE d.delivery_id = %s AND (d.wave, d.role, d.attempt) IN (
            SELECT DISTINCT ON (l.probe) l.wave, l.role, l.attempt FROM ops.delivery_evidence AS l
            WHERE l.delivery_id = d.delivery_id AND l.probe = d.probe ORDER BY l.probe, l.evidence_id DESC
        )
        ORDER BY d.evidence_id
        """,
        [delivery_id],
    ).fetchall()
    newest: dict[tuple[str, str], Exhibit] = {}
    for row in rows:
        found = Exhibit(**row)
        if found.reason is not None:
            newest = {key: one for key, one in newest.items() if key[0] != found.probe}
        else:
            newest.pop((found.probe, ""), None)
        newest[found.probe, found.path] = found
    return list(newest.values())


def record_verdicts(connection: Connection, delivery: Delivery, attempt: int, verdicts: Sequence[Verdict]) -> None:
    """Write down what gates have said; `partition` of a delivery's verdicts is the attempt."""
    ledger.record_verdicts(connection, delivery.delivery_id, delivery.team, f"attempt {attempt}", list(verdicts), [])


def verdicts(connection: Connection, delivery_id: str) -> list[Verdict]:
    """Return every rule's newest verdict, the gravest first."""
    return ledger.verdicts_of(connection, delivery_id)


def decided(connection: Connection, delivery_id: str) -> list[Decided]:
    """Return all that gates have ever said of a delivery, in order."""
    rows = connection.execute(
        f"SELECT {_columns(Verdict)}, decided_at FROM ops.verdict WHERE subject = %s ORDER BY verdict_id", [delivery_id]
    ).fetchall()
    return [Decided(Verdict(**{k: v for k, v in row.items() if k != "decided_at"}), row["decided_at"]) for row in rows]


def refused_in(connection: Connection, delivery_id: str, gate: str) -> set[int]:
    """Return the attempts in which a gate has refused."""
    rows = connection.execute(
        "SELECT DISTINCT partition FROM ops.verdict WHERE subject = %s AND gate = %s AND verdict = 'FAIL'",
        [delivery_id, gate],
    ).fetchall()
    return {int(row["partition"].removeprefix("attempt ")) for row in rows}


def record_approval(connection: Connection, delivery_id: str, approval: Mapping[str, Any]) -> None:
    """Write down what a person has decided."""
    connection.execute(
        "INSERT INTO ops.approval (delivery_id, kind, subject, sha256, decision, decided_by, why) VALUES "
        "(%(delivery_id)s, %(kind)s, %(subject)s, %(sha256)s, %(decision)s, %(decided_by)s, %(why)s)",
        {**approval, "delivery_id": delivery_id},
    )


def approvals(connection: Connection, delivery_id: str) -> list[Approval]:
    """Return what people decided about a delivery, in order."""
    rows = connection.execute(
        f"SELECT {_columns(Approval)} FROM ops.approval WHERE delivery_id = %s ORDER BY approval_id",
        [delivery_id],
    ).fetchall()
    return [Approval(**row) for row in rows]


def begin_release(connection: Connection, release: Mapping[str, Any]) -> None:
    """Write down a release that begins."""
    connection.execute(
        "INSERT INTO ops.release (version, delivery_id, state, code_version, from_revision, to_revision, backup_id, build_id) "
        "VALUES (%(version)s, %(delivery_id)s, 'begun', %(code_version)s, %(from_revision)s, %(to_revision)s, %(backup_id)s, "
        "%(build_id)s)",
        release,
    )


def note_backup(connection: Connection, version: str, backup_id: str) -> None:
    """Write down to which backup a release can go back."""
    connection.execute("UPDATE ops.release SET backup_id = %s WHERE version = %s", [backup_id, version])


def end_release(
    connection: Connection, version: str, state: Literal["released", "rolled back"], reason: str | None = None
) -> None:
    """Write down whether a release stands."""
    connection.execute(
        "UPDATE ops.release SET state = %s, reason = %s, ended_at = clock_timestamp() WHERE version = %s",
        [state, reason, version],
    )


def releases(connection: Connection, delivery_id: str | None = None) -> list[Release]:
    """Return the releases of a delivery, or all, the newest first."""
    rows = connection.execute(
        f"SELECT {_columns(Release)} FROM ops.release "
        "WHERE %(id)s::text IS NULL OR delivery_id = %(id)s ORDER BY begun_at DESC",
        {"id": delivery_id},
    ).fetchall()
    return [Release(**row) for row in rows]
