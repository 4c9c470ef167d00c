"""A topic as a source of Spark's Structured Streaming: messages judged by their dataset's contract, wherever Spark reads them.

Spark keeps the offsets, in its checkpoint. With them goes Kafka's id of the topic, so that one that was made again is noticed.
The rules and the client of Kafka are those of a worker: Spark's own connector would need jars, and rules of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.streaming.datasource import ReadLimit, ReadMaxRows, SupportsTriggerAvailableNow

from tidegate.contracts import Contract
from tidegate.errors import SourceError, UnavailableError
from tidegate.stores.kafka import Address
from tidegate.stream.feed import Feed, Haul, OutOfRangeError
from tidegate.stream.sieve import Sieve

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "tidegate_topic"
_ID = "topic_id"
#: Bytes that are judged at once, and the seconds that a poll for them may take.
_BYTES, _SECONDS = 8 << 20, 0.2
#: Seconds in which a message that is due has to come.
_PATIENCE = 60.0


@dataclass(frozen=True)
class Subscription:
    """Everything that the processes which read for Spark have to know: no secret but the one of Kafka's user."""

    place: Address
    contract: Contract
    memory: str
    """What DuckDB may use in each of them."""
    most: int
    """Messages of a micro-batch; a partition gets its equal share of them."""

    @property
    def topic(self) -> str:
        """The topic's name."""
        assert self.contract.topic is not None
        return self.contract.topic.name

    def feed(self) -> Feed:
        """Open the topic; to be closed."""
        return Feed(self.place, self.topic, f"tidegate.spark.{self.contract.dataset}")


class Stretch(NamedTuple):
    """Messages of a partition for one task: from `first` on, up to `after` without it."""

    partition: int
    first: int
    after: int


def source_of(subscription: Subscription) -> type[Any]:
    """Return the class that Spark is to register.

    It is made anew for each subscription and goes to Spark's processes with it: options would be shown in plans and logs.
    """

    class Subscribed(_TopicSource):
        of = subscription

    return Subscribed


class _TopicSource(DataSource):  # type: ignore[misc]
    of: Subscription

    @classmethod
    def name(cls) -> str:
        return NAME

    def schema(self) -> Any:
        return from_arrow_schema(_nothing(self.of))

    def streamReader(self, schema: Any) -> TopicReader:  # noqa: N802 - Spark's name
        return TopicReader(self.of, schema)


class TopicReader(DataSourceStreamReader, SupportsTriggerAvailableNow):  # type: ignore[misc]
    """What Spark asks of the topic: on the driver how far it goes, in the tasks what it says."""

    def __init__(self, subscription: Subscription, schema: Any) -> None:
        self._of, self._schema = subscription, schema
        # Spark copies the reader to its tasks before it asks anything: nothing is open then.
        self._feed: Feed | None = None
        self._goal: dict[str, Any] | None = None

    def initialOffset(self) -> dict[str, Any]:  # noqa: N802 - Spark's names, here and below
        """Return the place of the first message that there is."""
        return self._bounds(0)

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802
        """Let what comes from now on wait for the next run."""
        self._goal = self._bounds(1)

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802
        """Return how many messages a micro-batch has at most."""
        return ReadMaxRows(self._of.most)

    def latestOffset(self, start: dict[str, Any], limit: ReadLimit) -> dict[str, Any]:  # noqa: N802
        """Return where the next micro-batch ends.

        Raises:
            SourceError: the topic is another one, or shorter, than when it was read.
        """
        ends = self._goal or self._bounds(1)
        if start[_ID] != ends[_ID]:
            raise SourceError(
                f"the topic {self._of.topic} was deleted and made again since it was read into this folder: take the new one "
                "into another folder; what was written stays"
            )
        share = max(limit.max_rows // (len(ends) - 1), 1) if isinstance(limit, ReadMaxRows) else None
        for number in _partitions(ends):
            begin, end = start.get(number, 0), ends[number]
            if end < begin:
                raise SourceError(
                    f"partition {number} of {self._of.topic} ends at offset {end}, and {begin} was read: its broker has lost "
                    "messages. Those that were read stay; take the topic into another folder to go on"
                )
        return ends | {
            number: ends[number] if share is None else min(ends[number], start.get(number, 0) + share)
            for number in _partitions(ends)
        }

    def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> list[InputPartition]:
        """Return a task for each partition that has something between the two."""
        return [
            InputPartition(Stretch(int(number), start.get(number, 0), end[number]))
            for number in _partitions(end)
            if start.get(number, 0) < end[number]
        ]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Yield the messages of one stretch, judged.

        Raises:
            SourceError: the broker has removed some of them.
            UnavailableError: it does not answer, or not with them.
        """
        stretch, layout = Stretch(*partition.value), to_arrow_schema(self._schema, timezone="UTC")
        with self._of.feed() as feed:
            sieve = Sieve(self._of.contract, self._of.memory)
            try:
                for messages in _messages(feed, stretch):
                    yield from sieve.judged(messages).cast(layout).combine_chunks().to_batches()
            finally:
                sieve.close()

    def stop(self) -> None:
        """Let go of the broker."""
        if self._feed is not None:
            self._feed.__exit__(None, None, None)
            self._feed = None

    def _bounds(self, side: int) -> dict[str, Any]:
        """Return the topic's id, and each partition's first offset (0) or the one that the next message gets (1)."""
        self._feed = self._feed or self._of.feed()
        identity, numbers = self._feed.incarnation()
        found = self._feed.bounds(numbers)
        return {_ID: identity} | {str(n): (span.first, span.next)[side] for n, span in found.items()}


def _partitions(offsets: dict[str, Any]) -> list[str]:
    return [number for number in offsets if number != _ID]


def _messages(feed: Feed, stretch: Stretch) -> Iterator[pa.Table]:
    """Yield the messages of a stretch as hauls' tables."""
    import pyarrow.compute as pc

    at, came = stretch.first, time.monotonic()
    feed.read_from({stretch.partition: at})
    while at < stretch.after:
        try:
            haul = feed.haul(_BYTES, _SECONDS)
        except OutOfRangeError:
            raise SourceError(
                f"partition {stretch.partition} of {feed.topic} has nothing at offset {at} any more: its broker removed it before "
                "it was read. What was written stays; take the topic into another folder, and run this more often than its "
                "messages are kept"
            ) from None
        if stretch.partition in haul.spans:
            at, came = haul.spans[stretch.partition].next, time.monotonic()
            table = haul.whole_table()
            yield table.filter(pc.less(table["message_offset"], stretch.after)) if at > stretch.after else table
        elif time.monotonic() > came + _PATIENCE:
            raise UnavailableError(
                f"nothing came of partition {stretch.partition} of {feed.topic} at offset {at} for {_PATIENCE:.0f} s, and its "
                f"broker had said that there is something: run it again, and look into the broker's log"
            )


def _nothing(subscription: Subscription) -> pa.Schema:
    """Return how judged messages are laid out."""
    sieve = Sieve(subscription.contract, subscription.memory)
    try:
        return sieve.judged(Haul().whole_table()).schema
    finally:
        sieve.close()
