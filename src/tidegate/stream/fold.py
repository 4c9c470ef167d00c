"""Micro-batches of a day that is long past, folded into one row of the ledger; what they were, each, is kept as Parquet.

What the ledger answers stays the same: how much came, where each partition was read without a hole, and what was refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import structlog
from psycopg import sql

from tidegate.ingest.spool import spool
from tidegate.settings import Settings
from tidegate.stores import objects
from tidegate.stores.postgres import Connection, connect, exclusive

log = structlog.get_logger(__name__)

#: Micro-batches that are younger stay as they are: each is asked for by whoever looks into what happened.
KEPT = timedelta(days=30)
#: Of the landing area, beside the datasets'.
FOLDER = "_ledger"

# Verdicts are on the newest one; a day in which messages were lost has a hole, and stays.
_DAYS = """
SELECT dataset, topic, topic_incarnation, contract_version, (committed_at AT TIME ZONE 'UTC')::date AS day,
    array_agg(batch_id ORDER BY committed_at, batch_id) AS ids
FROM ops.stream_batch AS batch
WHERE committed_at < %(before)s AND batch_id <> (
    SELECT batch_id FROM ops.stream_batch AS newest WHERE newest.dataset = batch.dataset
    ORDER BY transaction_id DESC NULLS LAST, committed_at DESC, batch_id LIMIT 1
)
GROUP BY dataset, topic, topic_incarnation, contract_version, day HAVING count(*) > 1 ORDER BY dataset, day
"""
_HOLE = """
SELECT FROM ops.stream_range WHERE batch_id = ANY(%(ids)s)
GROUP BY topic_partition HAVING sum(next_offset - first_offset) <> max(next_offset) - min(first_offset) LIMIT 1
"""
_MICRO_BATCHES = """
SELECT batch.*, coalesce(json_agg(json_build_object(
    'topic_partition', topic_partition, 'first_offset', first_offset, 'next_offset', next_offset
) ORDER BY topic_partition) FILTER (WHERE topic_partition IS NOT NULL), '[]')::text AS ranges
FROM ops.stream_batch AS batch LEFT JOIN ops.stream_range USING (batch_id)
WHERE batch_id = ANY(%(ids)s) GROUP BY batch.batch_id ORDER BY committed_at, batch_id
"""
_FOLDED = """
INSERT INTO ops.stream_batch (
    batch_id, dataset, topic, topic_incarnation, contract_version, message_count, row_count, known_count, refused_count,
    late_count, message_bytes, first_event_at, last_event_at, first_sent_at, latency_p50_seconds, latency_p95_seconds,
    latency_p99_seconds, taking_seconds, committed_at, archived_count, folded_count, transaction_id
)
SELECT %(id)s, dataset, topic, topic_incarnation, contract_version, sum(message_count), sum(row_count), sum(known_count),
    sum(refused_count), sum(late_count), sum(message_bytes), min(first_event_at), max(last_event_at), min(first_sent_at),
    -- Of micro-batches by their size, and the worst of them: near what the percentiles over all messages would be.
    sum(latency_p50_seconds * message_count) / nullif(sum(message_count) FILTER (WHERE latency_p50_seconds IS NOT NULL), 0),
    max(latency_p95_seconds), max(latency_p99_seconds), sum(taking_seconds), max(committed_at), sum(archived_count),
    sum(folded_count),
    -- Not that of folding: nothing has come anew.
    (array_agg(transaction_id ORDER BY transaction_id DESC NULLS LAST))[1]
FROM ops.stream_batch WHERE batch_id = ANY(%(ids)s)
GROUP BY dataset, topic, topic_incarnation, contract_version
"""
_RANGES = """
INSERT INTO ops.stream_range (batch_id, topic_partition, first_offset, next_offset)
SELECT %(id)s, topic_partition, min(first_offset), max(next_offset) FROM ops.stream_range WHERE batch_id = ANY(%(ids)s)
GROUP BY topic_partition
"""
_MOVED = "UPDATE quarantine.refused_message SET batch_id = %(id)s WHERE batch_id = ANY(%(ids)s)"
_GONE = (
    "DELETE FROM ops.stream_range WHERE batch_id = ANY(%(ids)s)",
    "DELETE FROM ops.stream_batch WHERE batch_id = ANY(%(ids)s)",
)


@dataclass(frozen=True)
class Folded:
    """How many micro-batches became how many rows of the ledger."""

    micro_batches: int
    days: int


def fold(settings: Settings, now: datetime, kept: timedelta = KEPT) -> Folded:
    """Fold the micro-batches of each day that ended more than `kept` ago, of every stream; each day is one transaction.

    Killed anywhere, run again it goes on. A day with a gap in its offsets, and a stream's newest micro-batch, stay.

    Raises:
        BusyError: another process does the same.
        UnavailableError: the warehouse or the landing area cannot be used at the moment.
    """
    before = datetime.combine((now - kept).astimezone(UTC).date(), datetime.min.time(), UTC)
    micro_batches = days = 0
    with connect(settings) as connection, exclusive(connection, "folding the ledger of streams"):
        found = connection.execute(_DAYS, {"before": before}).fetchall()
        connection.commit()
        for row in found:
            if connection.execute(_HOLE, row).fetchone() is None:
                with connection.transaction():
                    _fold_day(settings, connection, row["dataset"], row["day"], row["ids"])
                micro_batches, days = micro_batches + len(row["ids"]), days + 1
            connection.commit()
    log.info("ledger of streams folded", micro_batches=micro_batches, days=days)
    return Folded(micro_batches, days)


def _fold_day(settings: Settings, connection: Connection, dataset: str, day: date, ids: list[str]) -> None:
    folded = hashlib.sha256("\n".join(["folded", *ids]).encode()).hexdigest()[:16]
    named = {"id": folded, "ids": ids}
    _keep(settings, dataset, day, folded, connection.execute(_MICRO_BATCHES, named).fetchall())
    for statement in (_FOLDED, _RANGES, _MOVED, *_GONE):
        connection.execute(sql.SQL(statement), named)


def _keep(settings: Settings, dataset: str, day: date, folded: str, rows: list[dict[str, Any]]) -> None:
    """Write the micro-batches as they were to a file; a row's `_batch_id` is found there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with spool(settings.home, dataset) as folder:
        file = folder / "folded.parquet"
        pq.write_table(pa.Table.from_pylist(rows), file, compression="zstd")
        objects.put(file, str(objects.place(settings.landing) / FOLDER / dataset / f"{day}-{folded}.parquet"))
