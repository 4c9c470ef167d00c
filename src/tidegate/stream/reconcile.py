"""Hold what the ledger says of a stream against the table, the topic and the broker's hint; repair what may be repaired."""

from __future__ import annotations

from dataclasses import dataclass

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

_BROKEN_CHAIN = """
SELECT topic_partition, first_offset, before FROM (
    SELECT topic_partition, first_offset, topic_incarnation,
        lag(next_offset) OVER (PARTITION BY topic_incarnation, topic_partition ORDER BY first_offset) AS before
    FROM ops.stream_range JOIN ops.stream_batch USING (batch_id) WHERE dataset = %(dataset)s
) AS spans
WHERE first_offset <> before AND NOT EXISTS (
    SELECT FROM ops.stream_gap AS gap
    WHERE gap.dataset = %(dataset)s AND gap.topic_incarnation = spans.topic_incarnation
        AND gap.topic_partition = spans.topic_partition AND gap.first_offset = before AND gap.next_offset = spans.first_offset
)
"""
_BROKEN_END = """
SELECT at.topic_partition, at.next_offset, max(span.next_offset) AS taken
FROM ops.stream_offset AS at
JOIN ops.stream_batch AS batch ON batch.dataset = at.dataset AND batch.topic_incarnation = at.topic_incarnation
JOIN ops.stream_range AS span ON span.batch_id = batch.batch_id AND span.topic_partition = at.topic_partition
WHERE at.dataset = %(dataset)s
GROUP BY at.topic_partition, at.next_offset
HAVING max(span.next_offset) <> at.next_offset AND NOT EXISTS (
    SELECT FROM ops.stream_gap AS gap
    WHERE gap.dataset = %(dataset)s AND gap.topic_partition = at.topic_partition AND gap.next_offset = at.next_offset
)
"""


@dataclass(frozen=True)
class Reconciled:
    """What was compared, and what was repaired."""

    micro_batches: int
    rows: int
    hints: int
    """Partitions of which the broker was told anew how far they were taken."""


def reconcile(settings: Settings, contract: Contract) -> Reconciled:
    """Compare offsets, micro-batches, rows and the broker's hint; tell the broker anew where it is behind.

    Raises:
        TerminalError: messages were skipped or taken twice, or rows are not those that were written: somebody has changed
            the table or the ledger by hand, for no path through the code does.
        SourceError: there is no such topic.
        UnavailableError: the warehouse or the broker does not answer.
    """
    assert contract.topic is not None
    with connect(settings) as connection:
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
    if broken:
        raise TerminalError(
            f"the stream {contract.dataset} is not what its ledger says: {'; '.join(broken[:5])}. `ops.stream_range` and the rows' "
            "_batch_id tell which micro-batch it is about, `ops.schema_change` and the audit who changed what"
        )
    hints = 0
    with Feed(settings, contract.topic.name, group_of(contract.dataset)) as feed:
        incarnation, partitions = feed.incarnation()
        wanted = {n: at.next_offset for n, at in known.items() if n in partitions and at.incarnation == incarnation}
        behind = {n: offset for n, offset in wanted.items() if feed.hinted(n) != offset}
        if behind:
            feed.hint({number: Span(0, offset) for number, offset in behind.items()}, wait=True)
            hints = len(behind)
    log.info("stream reconciled", dataset=contract.dataset, micro_batches=counted, rows=rows, hints=hints)
    return Reconciled(counted, rows, hints)


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
