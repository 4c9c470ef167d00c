"""What the ledger knows of streams: how far each was taken, what was lost of it, whether it is held: schema `ops`, tables `stream_…`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tidegate.contracts import Contract
from tidegate.errors import FencedError, UsageError
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect, table
from tidegate.stream.feed import Span

#: Removed before it was read; gone with a topic that was deleted; or the broker lost what had been taken in.
Gap = Literal["removed unread", "topic made again", "taken back"]
#: Messages over which the share of refused ones is taken.
WINDOW = 1_000
#: A micro-batch of a window has a message at least on the average, or none: more of them need not be looked at.
_WINDOW_BATCHES = 1_000


@dataclass(frozen=True)
class Position:
    """How far one partition was taken in."""

    incarnation: str
    next_offset: int


@dataclass(frozen=True)
class Hold:
    """One row of ops.stream_hold."""

    hold_id: int
    dataset: str
    reason: str
    topic_incarnation: str
    next_offsets: Mapping[int, int]
    held_at: datetime
    released_by: str | None
    why: str | None
    released_at: datetime | None


def batch_id(dataset: str, incarnation: str, spans: Mapping[int, Span]) -> str:
    """Return the id of the micro-batch that reads these offsets: the same ones are the same batch."""
    read = [dataset, incarnation, *(f"{n}:{s.first}-{s.next}" for n, s in sorted(spans.items()))]
    return hashlib.sha256("\n".join(read).encode()).hexdigest()[:16]


def positions(connection: Connection, dataset: str) -> dict[int, Position]:
    """Return how far each partition of a dataset's topic was taken in."""
    rows = connection.execute(
        "SELECT topic_partition, topic_incarnation, next_offset FROM ops.stream_offset WHERE dataset = %s", [dataset]
    ).fetchall()
    return {row["topic_partition"]: Position(row["topic_incarnation"], row["next_offset"]) for row in rows}


def begin(
    connection: Connection, contract: Contract, incarnation: str, partition: int, expected: Position | None, start: int
) -> None:
    """Let a partition be taken in from `start` on, where the ledger says `expected` of it (None: nothing).

    Raises:
        FencedError: another worker has changed it meanwhile.
    """
    assert contract.topic is not None
    parameters = {
        "dataset": contract.dataset, "partition": partition, "topic": contract.topic.name, "incarnation": incarnation,
        "start": start, "was": expected.next_offset if expected else None,
        "was_incarnation": expected.incarnation if expected else None,
    }  # fmt: skip
    if expected is None:
        query = (
            "INSERT INTO ops.stream_offset (dataset, topic_partition, topic, topic_incarnation, next_offset) "
            "VALUES (%(dataset)s, %(partition)s, %(topic)s, %(incarnation)s, %(start)s) ON CONFLICT DO NOTHING"
        )
    else:
        query = (
            "UPDATE ops.stream_offset SET next_offset = %(start)s, topic_incarnation = %(incarnation)s, topic = %(topic)s, "
            "updated_at = clock_timestamp() WHERE dataset = %(dataset)s AND topic_partition = %(partition)s "
            "AND next_offset = %(was)s AND topic_incarnation = %(was_incarnation)s"
        )
    if connection.execute(query, parameters).rowcount != 1:
        raise _fenced(contract.dataset, partition)


def advance(
    connection: Connection, dataset: str, incarnation: str, partition: int, span: Span, newest: datetime | None
) -> None:
    """Move a partition on over what was just read, in the transaction that writes it.

    Raises:
        FencedError: it does not stand where `span` begins: another worker has taken these messages.
    """
    moved = connection.execute(
        "UPDATE ops.stream_offset SET next_offset = %s, newest_event_at = greatest(newest_event_at, %s), "
        "updated_at = clock_timestamp() "
        "WHERE dataset = %s AND topic_partition = %s AND next_offset = %s AND topic_incarnation = %s",
        [span.next, newest, dataset, partition, span.first, incarnation],
    )
    if moved.rowcount != 1:
        raise _fenced(dataset, partition)


def _fenced(dataset: str, partition: int) -> FencedError:
    return FencedError(
        f"partition {partition} of the topic of {dataset} was taken on by another worker while this one worked on it; "
        "nothing of this micro-batch was written"
    )


def newest_event(connection: Connection, dataset: str) -> datetime | None:
    """Return the newest event time that any row of the stream has had."""
    row = connection.execute(
        "SELECT max(newest_event_at) AS newest FROM ops.stream_offset WHERE dataset = %s", [dataset]
    ).fetchone()
    return row["newest"] if row else None


def record_gap(
    connection: Connection, contract: Contract, incarnation: str, partition: int, kind: Gap, *, due: int, start: int
) -> None:
    """Record that offset `due` was not to be had, and that reading goes on from `start`."""
    assert contract.topic is not None
    connection.execute(
        "INSERT INTO ops.stream_gap (dataset, topic, topic_incarnation, topic_partition, kind, first_offset, next_offset) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [contract.dataset, contract.topic.name, incarnation, partition, kind, due, start],
    )


def record_batch(
    connection: Connection, batch: str, contract: Contract, incarnation: str, spans: Mapping[int, Span], **figures: Any
) -> None:
    """Insert a micro-batch and what it read; the columns of `figures` are those of ops.stream_batch."""
    assert contract.topic is not None
    row = {
        "batch_id": batch, "dataset": contract.dataset, "topic": contract.topic.name,
        "topic_incarnation": incarnation, "contract_version": contract.version, **figures,
    }  # fmt: skip
    names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    connection.execute(f"INSERT INTO ops.stream_batch ({names}) VALUES ({places})", row)
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ops.stream_range (batch_id, topic_partition, first_offset, next_offset) VALUES (%s, %s, %s, %s)",
            [[batch, number, span.first, span.next] for number, span in sorted(spans.items())],
        )


def is_unchecked(connection: Connection, dataset: str) -> bool:
    """Return whether a partition was taken further than it was reconciled."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM ops.stream_offset AS taken LEFT JOIN ops.stream_reconciled AS checked "
        "USING (dataset, topic_incarnation, topic_partition) "
        "WHERE dataset = %s AND taken.next_offset IS DISTINCT FROM checked.next_offset) AS unchecked",
        [dataset],
    ).fetchone()
    return bool(row and row["unchecked"])


@dataclass(frozen=True)
class Untold:
    """What micro-batches have added that somebody was not told of, and what was to be seen by then."""

    added: tuple[str, ...]
    """Those that have rows, in their order."""
    rows: int
    refused: int
    folded: bool
    """Whether some were folded: nobody can tell which rows are theirs."""
    seen: str
    """The server's history, and the snapshot; whoever asks next gives it back."""
    anew: bool
    """Whether all is told anew, since what was seen before is of another history: the server was restored, or is another one."""

    @property
    def batch_id(self) -> str:
        """The last one that added rows."""
        return self.added[-1] if self.added else ""


@dataclass(frozen=True)
class News(Untold):
    """The same, with the partitions that the rows are in."""

    partitions: tuple[str, ...]


def newest_batch(settings: Settings, dataset: str) -> str | None:
    """Return the micro-batch that was committed last."""
    with connect(settings) as connection:
        row = connection.execute(
            "SELECT batch_id FROM ops.stream_batch WHERE dataset = %s "
            "ORDER BY transaction_id DESC NULLS LAST, committed_at DESC, batch_id LIMIT 1",
            [dataset],
        ).fetchone()
    return row["batch_id"] if row else None


def untold(connection: Connection, dataset: str, seen: str | None) -> Untold:
    """Return what became visible after `seen`, which an earlier call returned; all there is, where it is None or of another history.

    Not by clocks: micro-batches of several workers become visible in another order than they are stamped, and clocks jump.
    """
    now = connection.execute(
        # A server that was restored, or promoted, goes on under its name, on a timeline of its own: its transactions have numbers
        # that others had before.
        "SELECT system_identifier || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8) AS history, "
        "pg_current_snapshot()::text AS snapshot FROM pg_control_system()"
    ).fetchone()
    assert now is not None
    history, _, snapshot = (seen or "").partition("/")
    rows = connection.execute(
        "SELECT batch_id, row_count, refused_count, folded_count FROM ops.stream_batch WHERE dataset = %(dataset)s "
        "AND (%(seen)s::pg_snapshot IS NULL OR NOT pg_visible_in_snapshot(transaction_id, %(seen)s)) "
        "ORDER BY transaction_id NULLS FIRST, batch_id",
        {"dataset": dataset, "seen": snapshot if history == now["history"] else None},
    ).fetchall()
    return Untold(
        added=tuple(row["batch_id"] for row in rows if row["row_count"]),
        rows=sum(row["row_count"] for row in rows),
        refused=sum(row["refused_count"] for row in rows),
        folded=any(row["folded_count"] > 1 for row in rows),
        seen=f"{now['history']}/{now['snapshot']}",
        anew=seen is not None and history != now["history"],
    )


def since(settings: Settings, contract: Contract, seen: str | None) -> News:
    """Return what is `untold` since `seen`, and where its rows are, which reads the table."""
    with connect(settings) as connection:
        # One snapshot for all of it: what it does not see is the next call's news.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        found = untold(connection, contract.dataset, seen)
        if contract.tenant is not None:
            connection.execute("SELECT ops.enter_all()")
        parts = connection.execute(
            sql.SQL("SELECT DISTINCT _partition FROM {} WHERE _batch_id = ANY(%s) OR %s ORDER BY 1").format(
                table(contract.schema, contract.table)
            ),
            [list(found.added), found.folded],
        ).fetchall() if found.added else []  # fmt: skip
    return News(**vars(found), partitions=tuple(row["_partition"] for row in parts))


def lately(connection: Connection, dataset: str, after: Mapping[int, int]) -> tuple[int, int]:
    """Return the messages and the refused ones of the newest micro-batches, `WINDOW` messages of them or a few more.

    Those that read anything before the offsets `after`, by partition, do not count: somebody has let them pass. Nor do
    those that were folded, which are long past.
    """
    rows = connection.execute(
        "SELECT message_count, refused_count FROM ops.stream_batch AS batch WHERE dataset = %s AND message_count > 0 AND folded_count = 1 "
        "AND NOT EXISTS (SELECT FROM ops.stream_range WHERE batch_id = batch.batch_id "
        "AND first_offset < (%s::jsonb ->> topic_partition::text)::bigint) ORDER BY committed_at DESC LIMIT %s",
        [dataset, _jsonb(after), _WINDOW_BATCHES],
    ).fetchall()
    messages = refused = 0
    for row in rows:
        if messages >= WINDOW:
            break
        messages, refused = messages + row["message_count"], refused + row["refused_count"]
    return messages, refused


def _jsonb(offsets: Mapping[int, int]) -> Jsonb:
    return Jsonb({str(number): offset for number, offset in offsets.items()})


def newest_hold(connection: Connection, dataset: str) -> Hold | None:
    """Return the hold that stands, or else the last that was released."""
    row = connection.execute(
        "SELECT * FROM ops.stream_hold WHERE dataset = %s ORDER BY hold_id DESC LIMIT 1", [dataset]
    ).fetchone()
    if row is None:
        return None
    return Hold(**row | {"next_offsets": {int(number): offset for number, offset in row["next_offsets"].items()}})


def record_hold(
    connection: Connection, dataset: str, reason: str, incarnation: str, next_offsets: Mapping[int, int]
) -> None:
    """Let a stream stand, if it does not stand already."""
    connection.execute(
        "INSERT INTO ops.stream_hold (dataset, reason, topic_incarnation, next_offsets) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT DO NOTHING",
        [dataset, reason, incarnation, _jsonb(next_offsets)],
    )


def release(connection: Connection, dataset: str, *, by: str, why: str) -> Hold:
    """Let a held stream go on, on a named person's word: the messages it was held for pass to quarantine.

    Raises:
        UsageError: it is not held, or no reason is given.
    """
    if not why.strip() or not by.strip():
        raise UsageError("release needs a name and a reason: --as NAME --why TEXT")
    done = connection.execute(
        "UPDATE ops.stream_hold SET released_by = %s, why = %s, released_at = clock_timestamp() "
        "WHERE dataset = %s AND released_at IS NULL",
        [by, why, dataset],
    )
    found = newest_hold(connection, dataset)
    if done.rowcount != 1 or found is None:
        raise UsageError(f"the stream {dataset} is not held: there is nothing to release")
    return found
