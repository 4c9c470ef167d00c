"""The figures that every telling of a run begins with, read from the ledger; not how they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from tidegate.gates.verdict import Decision
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect

#: What counts now: a batch or build that was replaced, taken back, turned down or archived is history.
CURRENT = """
    SELECT batch_id AS subject FROM ops.batch WHERE state NOT IN ('superseded', 'undone', 'rejected', 'archived')
    UNION ALL
    SELECT build_id FROM ops.marts_build WHERE state = 'published'
    UNION ALL
    (
        SELECT build_id FROM ops.marts_build
        WHERE state IN ('built', 'judged', 'held')
          AND built_at > ALL (SELECT published_at FROM ops.marts_build WHERE state = 'published')
        ORDER BY built_at DESC LIMIT 1
    )
"""

_KNOWN = "SELECT batch_id FROM ops.batch UNION ALL SELECT build_id FROM ops.marts_build"

#: The newest verdict of each rule on what counts now.
VERDICTS = f"""
    SELECT DISTINCT ON (subject, gate, rule)
        subject, dataset, partition, gate, rule, verdict, value, target, target_source, evidence_sha256,
        rule_set_version
    FROM ops.verdict WHERE subject IN ({CURRENT}) ORDER BY subject, gate, rule, verdict_id DESC
"""

#: The newest run of each step on what counts now, and of steps about anything else than a batch or a build.
STEPS = f"""
    SELECT DISTINCT ON (subject, step) subject, step, started_at, seconds, row_count
    FROM ops.step WHERE subject IN ({CURRENT}) OR subject NOT IN ({_KNOWN})
    ORDER BY subject, step, step_id DESC
"""


@dataclass(frozen=True)
class Held:
    """A batch, or a set of marts, that waits for a person."""

    subject: str
    dataset: str
    partition: str | None
    reason: str
    since: datetime

    @property
    def name(self) -> str:
        """Say what it is: `flights 2013-03`, `marts`."""
        return " ".join(filter(None, (self.dataset, None if self.partition == "all" else self.partition)))


@dataclass(frozen=True)
class Summary:
    """What counts now. Rows are those of deliveries; what transforms derive from them is counted apart."""

    rows_delivered: int
    rows_published: int
    rows_refused: int
    rows_held: int
    rows_derived: int
    batches: dict[str, int]
    verdicts: dict[str, dict[Decision, int]]
    seconds: dict[str, float]
    held: tuple[Held, ...]
    published_at: datetime | None
    marts_published_at: datetime | None


@contextmanager
def snapshot(settings: Settings) -> Iterator[Connection]:
    """Connect for reading at one moment: every figure read inside agrees with every other.

    Raises:
        UnavailableError: the warehouse does not answer.
    """
    with connect(settings) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield connection


def summary(settings: Settings) -> Summary:
    """Read the figures of the whole ledger.

    Raises:
        UnavailableError: the warehouse does not answer.
    """
    with snapshot(settings) as connection:
        return read(connection)


def read(connection: Connection) -> Summary:
    """Read the figures over a connection that the caller holds."""
    rows = connection.execute(
        f"""
        SELECT
            coalesce(sum(delivered_count) FILTER (WHERE source), 0)::bigint AS rows_delivered,
            coalesce(sum(accepted_count) FILTER (WHERE source AND published), 0)::bigint AS rows_published,
            coalesce(sum(refused_count) FILTER (WHERE source), 0)::bigint AS rows_refused,
            coalesce(sum(accepted_count) FILTER (WHERE source AND state = 'held'), 0)::bigint AS rows_held,
            coalesce(sum(accepted_count) FILTER (WHERE NOT source AND published), 0)::bigint AS rows_derived,
            max(published_at) AS published_at,
            (SELECT max(published_at) FROM ops.marts_build WHERE state = 'published') AS marts_published_at
        FROM (
            SELECT state, delivered_count, accepted_count, refused_count, published_at,
                   published_schema <> 'core' AS source, state = 'published' AS published
            FROM ops.batch WHERE batch_id IN ({CURRENT})
        ) AS batch
        """
    ).fetchone()
    assert rows is not None
    return Summary(
        **rows,
        batches={
            row["state"]: row["n"]
            for row in connection.execute(
                "SELECT state, count(*) AS n FROM ops.batch GROUP BY state ORDER BY n DESC, state"
            )
        },
        verdicts=_verdicts(connection),
        seconds={
            row["step"]: row["total"]
            for row in connection.execute(
                f"SELECT step, sum(seconds) AS total FROM ({STEPS}) s GROUP BY step ORDER BY min(started_at)"
            )
        },
        held=tuple(_held(connection)),
    )


def _verdicts(connection: Connection) -> dict[str, dict[Decision, int]]:
    gates: dict[str, dict[Decision, int]] = {}
    query = f"SELECT gate, verdict, count(*) AS n FROM ({VERDICTS}) AS v GROUP BY gate, verdict ORDER BY gate"
    for row in connection.execute(query):
        gates.setdefault(row["gate"], {"PASS": 0, "WARN": 0, "FAIL": 0})[row["verdict"]] = row["n"]
    return gates


def _held(connection: Connection) -> Iterator[Held]:
    query = f"""
        SELECT batch_id AS subject, dataset, partition,
               coalesce(held_reason, 'no reason was recorded') AS reason, created_at AS since
        FROM ops.batch WHERE state = 'held'
        UNION ALL
        SELECT build_id, 'marts', NULL, coalesce(held_reason, 'no reason was recorded'), built_at
        FROM ops.marts_build WHERE state = 'held' AND build_id IN ({CURRENT})
        ORDER BY since DESC, subject
    """
    for row in connection.execute(query):
        yield Held(**row)


def lines(told: Summary) -> list[str]:
    """Tell the summary in lines of plain text, the held first."""
    text = [
        f"HELD  {held.name} ({held.subject}): {held.reason}. `tidegate batch show {held.subject}` tells more."
        for held in told.held
        if held.dataset != "marts"
    ]
    text += [f"HELD  marts ({held.subject}): {held.reason}" for held in told.held if held.dataset == "marts"]
    if not told.batches:
        return [
            *text,
            "No batch has arrived yet: `tidegate ingest DATASET`, or `make run` for the whole year.",
        ]
    counts = ", ".join(f"{count} {state}" for state, count in told.batches.items())
    text += [
        f"rows      {told.rows_delivered:,} delivered, {told.rows_published:,} published, "
        f"{told.rows_refused:,} refused; {told.rows_derived:,} derived",
        f"batches   {counts}",
    ]
    for gate, counted in told.verdicts.items():
        text.append(f"gate      {gate}: " + ", ".join(f"{n} {v}" for v, n in counted.items() if n))
    if told.seconds:
        text.append("seconds   " + ", ".join(f"{step} {seconds:.1f}" for step, seconds in told.seconds.items()))
    return text
