"""How a stream stands: how far it was taken, what waits, what was refused, how long messages took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tidegate.contracts import Contract
from tidegate.settings import Settings
from tidegate.stores.postgres import connect
from tidegate.stream import crew, ledger, live
from tidegate.stream.feed import Feed
from tidegate.stream.ledger import Hold
from tidegate.stream.live import Mart
from tidegate.stream.worker import group_of

#: What the figures are over.
_LATELY = "1 hour"


@dataclass(frozen=True)
class State:
    """One stream, now."""

    dataset: str
    topic: str
    positions: Mapping[int, int]
    """Partition → the first message that was not taken."""
    ends: Mapping[int, int]
    """Partition → the offset that the next message gets."""
    workers: int
    hold: Hold | None
    """The one that stands; None while it flows."""
    unchecked: bool
    """Whether something was taken in that no run has reconciled since."""
    gaps: int
    marts: tuple[Mart, ...]
    """Those that follow it."""
    totals: Mapping[str, Any]
    """Micro-batches, messages, rows, known, refused and late ones since the stream began."""
    lately: Mapping[str, Any]
    """Of the last hour: messages, refused share, messages a second while taking, latency percentiles (seconds)."""
    newest_event_at: datetime | None
    oldest_waiting_at: datetime | None
    """When the oldest message was sent that was not taken yet; None where nothing waits."""

    @property
    def lag(self) -> int:
        """Messages that wait."""
        return sum(max(0, end - self.positions.get(number, 0)) for number, end in self.ends.items())

    def age_seconds(self, now: datetime | None = None) -> float:
        """Return how old the data are: for how long the oldest message has waited."""
        return ((now or datetime.now(UTC)) - self.oldest_waiting_at).total_seconds() if self.oldest_waiting_at else 0.0


def state_of(settings: Settings, contract: Contract, *, ages: bool = True) -> State:
    """Look at the ledger and at the broker; without `ages` no message is read to see since when it waits.

    Raises:
        SourceError: there is no such topic.
        UnavailableError: one of them does not answer.
    """
    assert contract.topic is not None
    with connect(settings) as connection, Feed(settings, contract.topic.name, group_of(contract.dataset)) as feed:
        incarnation, partitions = feed.incarnation()
        bounds = feed.bounds(partitions)
        known = ledger.positions(connection, contract.dataset)
        # Of another incarnation nothing was taken; what the broker has removed will be told as a gap.
        at = {
            number: min(known[number].next_offset, span.next)
            if number in known and known[number].incarnation == incarnation
            else span.first
            for number, span in bounds.items()
        }
        behind = {number: max(at[number], span.first) for number, span in bounds.items() if at[number] < span.next}
        hold = ledger.newest_hold(connection, contract.dataset)
        totals = connection.execute(
            "SELECT coalesce(sum(folded_count), 0)::bigint AS micro_batches, coalesce(sum(message_count), 0)::bigint AS messages, "
            "coalesce(sum(row_count), 0)::bigint AS rows, coalesce(sum(known_count), 0)::bigint AS known, "
            "coalesce(sum(refused_count), 0)::bigint AS refused, coalesce(sum(late_count), 0)::bigint AS late "
            "FROM ops.stream_batch WHERE dataset = %s",
            [contract.dataset],
        ).fetchone()
        lately = connection.execute(
            "SELECT coalesce(sum(message_count), 0)::bigint AS messages, "
            "sum(refused_count)::float8 / nullif(sum(message_count), 0) AS refused_share, "
            "sum(message_count) / nullif(sum(taking_seconds), 0) AS messages_per_second, "
            # Of micro-batches by their size: near what the percentile over all messages would be.
            "sum(latency_p50_seconds * message_count) / nullif(sum(message_count), 0) AS latency_p50_seconds, "
            "max(latency_p95_seconds) AS latency_p95_seconds, max(latency_p99_seconds) AS latency_p99_seconds "
            f"FROM ops.stream_batch WHERE dataset = %s AND committed_at > now() - interval '{_LATELY}'",
            [contract.dataset],
        ).fetchone()
        gaps = connection.execute(
            "SELECT count(*) AS gaps FROM ops.stream_gap WHERE dataset = %s", [contract.dataset]
        ).fetchone()
        return State(
            dataset=contract.dataset,
            topic=contract.topic.name,
            positions=at,
            ends={number: span.next for number, span in bounds.items()},
            workers=crew.count(connection, contract.dataset),
            hold=hold if hold and hold.released_at is None else None,
            unchecked=ledger.is_unchecked(connection, contract.dataset),
            gaps=gaps["gaps"] if gaps else 0,
            marts=tuple(live.marts(connection, contract.dataset)),
            totals=totals or {},
            lately=lately or {},
            newest_event_at=ledger.newest_event(connection, contract.dataset),
            oldest_waiting_at=feed.sent_at(behind) if behind and ages else None,
        )
