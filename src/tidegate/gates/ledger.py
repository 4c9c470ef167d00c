"""The ledger: every read and write of schema `ops` that concerns batches, steps, verdicts and evidence."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal

from psycopg import sql

from tidegate.errors import UsageError
from tidegate.gates.verdict import Evidence, Verdict
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect

State = Literal["landed", "staged", "judged", "held", "published", "superseded", "undone", "rejected", "archived"]
#: A step is still to come for the batch, by itself: it is on its way, or was cut short.
UNDER_WAY: frozenset[State] = frozenset({"landed", "staged", "judged"})
#: No reader sees the batch yet, and nobody has turned it down.
PENDING = UNDER_WAY | {"held"}
#: The batch went as far as it will go, and is the last word on its delivery; a later one may take its place.
AT_REST: frozenset[State] = frozenset({"published", "held", "rejected"})


@dataclass(frozen=True)
class Batch:
    """One row of ops.batch."""

    batch_id: str
    dataset: str
    partition: str
    state: State
    contract_version: str
    source_name: str
    source_sha256: str
    landing_url: str
    delivered_count: int
    accepted_count: int
    refused_count: int
    published_schema: str
    held_reason: str | None = None
    previous_batch_id: str | None = None
    created_at: datetime | None = None
    published_at: datetime | None = None

    @property
    def table(self) -> str:
        """Name of the batch's own table, wherever it stands: staging, raw or core, archive."""
        partition = "".join(c if c.isalnum() else "_" for c in self.partition.lower())
        # PostgreSQL cuts names at 63 bytes; the id alone makes it unique.
        return f"{self.dataset[:24]}__{partition[:18]}__{self.batch_id}"


#: Named one by one: between two migrations the table may have columns that this code does not know.
_SELECT = f"SELECT {', '.join(field.name for field in fields(Batch))} FROM ops.batch"


def record_batch(connection: Connection, batch: Batch) -> None:
    """Insert a landed batch."""
    connection.execute(
        """
        INSERT INTO ops.batch (batch_id, dataset, partition, state, contract_version, source_name, source_sha256,
                               landing_url, delivered_count, accepted_count, refused_count, published_schema)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (batch_id) DO NOTHING
        """,
        [
            batch.batch_id, batch.dataset, batch.partition, batch.state, batch.contract_version, batch.source_name,
            batch.source_sha256, batch.landing_url, batch.delivered_count, batch.accepted_count,
            batch.refused_count, batch.published_schema,
        ],
    )  # fmt: skip


def find_batch(connection: Connection, batch_id: str) -> Batch | None:
    """Return the batch of that id, if there is one."""
    row = connection.execute(f"{_SELECT} WHERE batch_id = %s", [batch_id]).fetchone()
    return Batch(**row) if row else None


def get_batch(connection: Connection, batch_id: str) -> Batch:
    """Return the batch whose id is, or starts with, `batch_id`.

    Raises:
        UsageError: none does, or several do.
    """
    rows = connection.execute(f"{_SELECT} WHERE starts_with(batch_id, %s) LIMIT 2", [batch_id]).fetchall()
    if len(rows) != 1 or not batch_id:
        found = "several batches" if rows else "no batch"
        raise UsageError(f"{found} with id {batch_id!r}; `tidegate batch list` shows them")
    return Batch(**rows[0])


def published_batch(connection: Connection, dataset: str, partition: str) -> Batch | None:
    """Return the batch that readers see for a partition."""
    row = connection.execute(
        f"{_SELECT} WHERE dataset = %s AND partition = %s AND state = 'published'", [dataset, partition]
    ).fetchone()
    return Batch(**row) if row else None


def batches(connection: Connection, *, dataset: str | None = None, state: str | None = None) -> list[Batch]:
    """Return batches in the order of their arrival."""
    rows = connection.execute(
        f"""
        {_SELECT}
        WHERE (%(dataset)s::text IS NULL OR dataset = %(dataset)s) AND (%(state)s::text IS NULL OR state = %(state)s)
        ORDER BY created_at, batch_id
        """,
        {"dataset": dataset, "state": state},
    ).fetchall()
    return [Batch(**row) for row in rows]


def set_state(connection: Connection, batch_id: str, state: State, **changes: Any) -> None:
    """Move a batch to `state`, setting other columns with it, to values or to what SQL expressions give."""
    given = {"state": state, **changes}
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(k), v if isinstance(v, sql.SQL) else sql.Placeholder(k))
        for k, v in given.items()
    )
    query = sql.SQL("UPDATE ops.batch SET {} WHERE batch_id = %(batch_id)s").format(assignments)
    values = {k: v for k, v in given.items() if not isinstance(v, sql.SQL)}
    connection.execute(query, {"batch_id": batch_id, **values})


def record_verdicts(
    connection: Connection,
    subject: str,
    dataset: str,
    partition: str | None,
    verdicts: Iterable[Verdict],
    evidence: Iterable[Evidence] = (),
) -> None:
    """Write a gate's verdicts with their evidence; a gate that runs again replaces nothing, it adds."""
    record_evidence(connection, evidence)
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO ops.verdict (subject, dataset, partition, gate, rule, verdict, value, target, target_source,
                                     evidence_sha256, rule_set_version)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            [
                (subject, dataset, partition, v.gate, v.rule, v.verdict, v.value, v.target, v.target_source,
                 v.evidence_sha256, v.rule_set_version)
                for v in verdicts
            ],
        )  # fmt: skip


def record_evidence(connection: Connection, evidence: Iterable[Evidence]) -> None:
    """Write down files that were just written, with what was run for them; the same content is kept once.

    A figure that has the name of such a fact stands: seconds that a failover took are not those of the program that measured.
    """
    run = ("command", "seconds", "exit_status")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ops.evidence (evidence_sha256, kind, path, figures) VALUES (%s, %s, %s, %s::jsonb) "
            "ON CONFLICT (evidence_sha256) DO NOTHING",
            [
                (e.sha256, e.kind, str(e.path), json.dumps(_known(vars(e), run) | e.figures, default=str))
                for e in evidence
            ],
        )


def _known(facts: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: facts[name] for name in names if facts[name] is not None}


def verdicts_of(connection: Connection, subject: str) -> list[Verdict]:
    """Return each rule's newest verdict on a batch or build, the gravest first."""
    rows = connection.execute(
        """
        SELECT DISTINCT ON (gate, rule) gate, rule, verdict, value, target, target_source, evidence_sha256,
               rule_set_version
        FROM ops.verdict WHERE subject = %s ORDER BY gate, rule, verdict_id DESC
        """,
        [subject],
    ).fetchall()
    order = ["FAIL", "WARN", "PASS"]
    return sorted((Verdict(**row) for row in rows), key=lambda v: (order.index(v.verdict), v.gate, v.rule))


def record_decision(connection: Connection, subject: str, action: str, decided_by: str, why: str) -> None:
    """Write down what a person decided.

    Raises:
        UsageError: no reason is given.
    """
    if not why.strip():
        raise UsageError(f"{action} needs a reason: --why TEXT")
    connection.execute(
        "INSERT INTO ops.decision (subject, action, decided_by, why) VALUES (%s, %s, %s, %s)",
        [subject, action, decided_by, why],
    )


def decisions_on(connection: Connection, subject: str) -> list[dict[str, Any]]:
    """Return what people decided about a batch or build, in order."""
    query = "SELECT action, decided_by, why, decided_at FROM ops.decision WHERE subject = %s ORDER BY decision_id"
    return connection.execute(query, [subject]).fetchall()


def steps_of(connection: Connection, subject: str) -> list[dict[str, Any]]:
    """Return the steps that ended for a batch or build, in order."""
    query = "SELECT step, started_at, seconds, row_count, note FROM ops.step WHERE subject = %s ORDER BY step_id"
    return connection.execute(query, [subject]).fetchall()


class Timing:
    """Rows and a note that a step leaves while it runs."""

    rows: int | None = None
    note: str | None = None


@contextmanager
def timed(settings: Settings, subject: str, step: str) -> Iterator[Timing]:
    """Record how long the block took, if it ended well."""
    started, clock, timing = datetime.now(UTC), time.perf_counter(), Timing()
    yield timing
    seconds = time.perf_counter() - clock
    with connect(settings) as connection:
        record_step(connection, subject, step, started, seconds, rows=timing.rows, note=timing.note)


def record_step(
    connection: Connection,
    subject: str,
    step: str,
    started: datetime,
    seconds: float,
    *,
    rows: int | None = None,
    note: str | None = None,
) -> None:
    """Write down a step that ended; for one whose subject is known only at its end (see `timed` for others)."""
    connection.execute(
        "INSERT INTO ops.step (subject, step, started_at, seconds, row_count, note) VALUES (%s, %s, %s, %s, %s, %s)",
        [subject, step, started, seconds, rows, note],
    )
