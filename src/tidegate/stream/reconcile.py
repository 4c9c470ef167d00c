"""Hold what the ledger says of a stream against the table, the topic, the broker's hint and what downstream was told; repair what may be."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import structlog
from psycopg import sql

from tidegate.contracts import Contract
from tidegate.errors import TerminalError
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect, table
from tidegate.stream import ledger
from tidegate.stream.feed import Feed, Span
from tidegate.stream.worker import group_of

log = structlog.get_logger(__name__)

#: Micro-batches whose rows are counted, the newest ones: each count reads the table.
_COUNTED = 500

# What was read since the last reconciliation: by transactions, which an index finds, and which no clock that jumps confuses.
# Those that had ended by then were looked at, if it is still the same server that counts them.
_RECENT = """
WITH known AS (
    SELECT topic_incarnation, topic_partition, next_offset, horizon FROM ops.stream_reconciled
    WHERE dataset = %(dataset)s AND server = (SELECT system_identifier FROM pg_control_system())
),
since AS (SELECT horizon FROM known ORDER BY horizon LIMIT 1),
recent AS (
    SELECT batch.topic_incarnation, span.topic_partition, span.first_offset, span.next_offset, known.next_offset AS known
    FROM ops.stream_batch AS batch JOIN ops.stream_range AS span USING (batch_id) LEFT JOIN known USING (topic_incarnation, topic_partition)
    WHERE batch.dataset = %(dataset)s AND span.next_offset > coalesce(known.next_offset, 0)
        AND (NOT EXISTS (SELECT FROM since) OR batch.transaction_id >= (SELECT horizon FROM since))
)
"""
_MARKS = """
SELECT topic_incarnation, topic_partition, next_offset, pg_snapshot_xmin(pg_current_snapshot())::text AS horizon,
    (SELECT system_identifier FROM pg_control_system()) AS server
FROM ops.stream_offset WHERE dataset = %(dataset)s
"""
_BROKEN_CHAIN = f"""{_RECENT}
SELECT topic_partition, first_offset, before FROM (
    -- A day that was folded since may begin before what was found whole.
    SELECT topic_partition, first_offset, topic_incarnation, coalesce(
        lag(next_offset) OVER (PARTITION BY topic_incarnation, topic_partition ORDER BY first_offset), least(known, first_offset)
    ) AS before
    FROM recent
) AS spans
WHERE first_offset <> before AND NOT EXISTS (
    SELECT FROM ops.stream_gap AS gap
    WHERE gap.dataset = %(dataset)s AND gap.topic_incarnation = spans.topic_incarnation
        AND gap.topic_partition = spans.topic_partition AND gap.first_offset = before AND gap.next_offset = spans.first_offset
)
"""
_BROKEN_END = f"""{_RECENT}
SELECT at.topic_partition, at.next_offset, seen.taken FROM ops.stream_offset AS at JOIN (
    SELECT topic_incarnation, topic_partition, max(next_offset) AS taken
    FROM (SELECT topic_incarnation, topic_partition, next_offset FROM recent UNION ALL SELECT topic_incarnation, topic_partition, next_offset FROM known) AS each GROUP BY 1, 2
) AS seen USING (topic_incarnation, topic_partition)
WHERE at.dataset = %(dataset)s AND seen.taken <> at.next_offset AND NOT EXISTS (
    SELECT FROM ops.stream_gap AS gap
    WHERE gap.dataset = %(dataset)s AND gap.topic_partition = at.topic_partition AND gap.next_offset = at.next_offset
)
"""
_REMEMBER = """
INSERT INTO ops.stream_reconciled (dataset, topic_incarnation, topic_partition, next_offset, horizon, server)
VALUES (%(dataset)s, %(topic_incarnation)s, %(topic_partition)s, %(next_offset)s, %(horizon)s::xid8, %(server)s)
ON CONFLICT (dataset, topic_incarnation, topic_partition) DO UPDATE
SET next_offset = excluded.next_offset, horizon = excluded.horizon, server = excluded.server, reconciled_at = excluded.reconciled_at
"""


@dataclass(frozen=True)
class Reconciled:
    """What was compared, and what was repaired."""

    micro_batches: int
    rows: int
    hints: int
    """Partitions of which the broker was told anew how far they were taken."""
    untold: int
    """Rows that nobody downstream was told of; whoever publishes next tells of them."""


def reconcile(settings: Settings, contract: Contract, seen: str | None = None) -> Reconciled:
    """Compare offsets, micro-batches, rows, the broker's hint and the news; tell the broker anew where it is behind.

    Of what each partition read, it looks at what came since the last time that nothing was found. `seen` is of the last news
    that went downstream (`ledger.News`).

    Raises:
        TerminalError: messages were skipped or taken twice, or rows are not those that were written: somebody has changed
            the table or the ledger by hand, for no path through the code does.
        SourceError: there is no such topic.
        UnavailableError: the warehouse or the broker does not answer.
    """
    assert contract.topic is not None
    with connect(settings) as connection:
        # Before the spans are looked at: what comes meanwhile is looked at, and remembered the next time.
        marks = connection.execute(_MARKS, {"dataset": contract.dataset}).fetchall()
        broken = [
            f"partition {row['topic_partition']} was read to {row['before']}, then from {row['first_offset']} on"
            for row in connection.execute(_BROKEN_CHAIN, {"dataset": contract.dataset}).fetchall()
        ]
        broken += [
            f"partition {row['topic_partition']} stands at {row['next_offset']}, and was read to {row['taken']}"
            for row in connection.execute(_BROKEN_END, {"dataset": contract.dataset}).fetchall()
        ]
        counted, rows, differing = _rows(connection, contract)
        broken += differing
        known = ledger.positions(connection, contract.dataset)
        untold = ledger.untold(connection, contract.dataset, seen)
        if not broken:
            connection.cursor().executemany(_REMEMBER, [{**row, "dataset": contract.dataset} for row in marks])
    if broken:
        raise TerminalError(
            f"the stream {contract.dataset} is not what its ledger says: {'; '.join(broken[:5])}. `ops.stream_range` and the rows' "
            "_batch_id tell which micro-batch it is about, `ops.schema_change` and the audit who changed what"
        )
    hints = 0
    with Feed(settings, contract.topic.name, group_of(contract.dataset)) as feed:
        incarnation, partitions = feed.incarnation()
        wanted = {n: at.next_offset for n, at in known.items() if n in partitions and at.incarnation == incarnation}
        # A worker that is at it may have told more by now.
        behind = {n: offset for n, offset in wanted.items() if (feed.hinted(n) or 0) < offset}
        if behind:
            feed.hint({number: Span(0, offset) for number, offset in behind.items()}, wait=True)
            hints = len(behind)
    if untold.anew:
        log.warning(
            "downstream was told of another history: the warehouse was restored, or is another one; all is told anew",
            dataset=contract.dataset, rows=untold.rows,
        )  # fmt: skip
    done = Reconciled(counted, rows, hints, untold.rows)
    log.info("stream reconciled", dataset=contract.dataset, **asdict(done))
    return done


def _rows(connection: Connection, contract: Contract) -> tuple[int, int, list[str]]:
    """Count the rows of the newest micro-batches, and return those that have not as many as they wrote."""
    batches = connection.execute(
        "SELECT batch_id, row_count - archived_count AS row_count FROM ops.stream_batch "
        "WHERE dataset = %s AND row_count > archived_count AND folded_count = 1 "
        "ORDER BY committed_at DESC LIMIT %s",
        [contract.dataset, _COUNTED],
    ).fetchall()
    wrote = {row["batch_id"]: row["row_count"] for row in batches}
    if not wrote:
        return 0, 0, []
    if contract.tenant is not None:
        connection.execute("SELECT ops.enter_all()")
    counted = connection.execute(
        sql.SQL("SELECT _batch_id, count(*) AS rows FROM {} WHERE _batch_id = ANY(%s) GROUP BY 1").format(
            table(contract.schema, contract.table)
        ),
        [list(wrote)],
    ).fetchall()
    found = {row["_batch_id"]: row["rows"] for row in counted}
    differing = [
        f"micro-batch {batch} wrote {rows} rows, and {found.get(batch, 0)} are there"
        for batch, rows in wrote.items()
        if found.get(batch, 0) != rows
    ]
    return len(wrote), sum(found.values()), differing
