"""A topic as a worker reads it: its messages in columns, from the offsets that the ledger names."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tidegate.errors import SourceError, TransientError
from tidegate.settings import Settings
from tidegate.stores import kafka

if TYPE_CHECKING:
    import pyarrow as pa
    from kafka import KafkaConsumer

#: Bytes that one answer of a broker may hold, of all partitions and of one; what waits unread in memory is a few of these.
_FETCH_BYTES, _PARTITION_BYTES = 4 << 20, 1 << 20
_POLL_RECORDS = 2_000
#: Seconds for which a poll waits where the time is over, and there is time all the same.
_BREATH = 0.02
#: Seconds in which a message that is there has to come.
_PATIENCE = 3.0


#: Of one message: names and values, in their order.
type Headers = Sequence[tuple[str, bytes | None]]


class OutOfRangeError(TransientError):
    """The broker has nothing at an offset that was due: `positions` are the partitions and their offsets."""

    def __init__(self, positions: Mapping[int, int]) -> None:
        super().__init__(f"the broker has nothing at {dict(positions)}")
        self.positions = positions


@dataclass(frozen=True)
class Span:
    """Offsets of one partition that were read: from `first` on, up to `next` without it."""

    first: int
    next: int


@dataclass
class Haul:
    """Messages as they came, in lists of columns of equal length, and what was read to have them."""

    spans: dict[int, Span] = field(default_factory=dict)
    topic_partition: list[int] = field(default_factory=list)
    message_offset: list[int] = field(default_factory=list)
    sent_at: list[int] = field(default_factory=list)
    """Milliseconds since 1970."""
    key: list[bytes | None] = field(default_factory=list)
    value: list[bytes | None] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)
    bytes: int = 0

    def __len__(self) -> int:
        return len(self.message_offset)

    def take(self, partition: int, records: Sequence[Any]) -> None:
        """Add what the client has read of one partition."""
        keys, values = [record.key for record in records], [record.value for record in records]
        self.topic_partition += [partition] * len(records)
        self.message_offset += [record.offset for record in records]
        self.sent_at += [record.timestamp for record in records]
        self.key += keys
        self.value += values
        self.headers += [record.headers for record in records]
        self.bytes += sum(map(len, filter(None, keys))) + sum(map(len, filter(None, values)))

    def table(self) -> pa.Table:
        """Return the messages as an Arrow table, in the order in which they came: `place`, where each stands, its key and its value."""
        import numpy as np
        import pyarrow as pa

        return pa.table(
            {
                "place": pa.array(np.arange(len(self))),
                "topic_partition": pa.array(self.topic_partition, pa.int64()),
                "message_offset": pa.array(self.message_offset, pa.int64()),
                "key": pa.array(self.key, pa.binary()),
                "value": pa.array(self.value, pa.binary()),
            }
        )

    def whole_table(self) -> pa.Table:
        """Return the same with `sent_at` and `headers`, which of most messages nobody asks for."""
        import pyarrow as pa

        sent_at = pa.array(self.sent_at, pa.timestamp("ms", "UTC"))
        headers = pa.array(map(spelled, self.headers), pa.string())
        return self.table().append_column("sent_at", sent_at).append_column("headers", headers)


def spelled(headers: Headers) -> str:
    """Return a message's headers as JSON, a list of pairs."""
    if not headers:
        return "[]"
    # Bytes that are no UTF-8, and NUL, which PostgreSQL's jsonb cannot hold, are spelled out.
    shown = [
        [
            name.replace("\0", "\\u0000"),
            None if v is None else v.decode(errors="backslashreplace").replace("\0", "\\u0000"),
        ]
        for name, v in headers
    ]
    return json.dumps(shown)


class Feed:
    """One topic, read by one worker: the partitions that it is told to read, from the offsets that it is told."""

    def __init__(self, place: Settings | kafka.Address, topic: str, group: str) -> None:
        """`group` is the consumer group under which the broker is told how far we are, for others to see."""
        self._place, self.topic = place, topic
        self._consumer: KafkaConsumer = kafka.consumer(
            place,
            group=group,
            auto_offset_reset="none",
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_PARTITION_BYTES,
            max_poll_records=_POLL_RECORDS,
        )
        self._admin = kafka.admin(place)
        self._read: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Nothing is committed on the way out: the ledger knows how far we are.
        self._consumer.close(autocommit=False)
        self._admin.close()

    def incarnation(self) -> tuple[str, tuple[int, ...]]:
        """Return Kafka's id of the topic, another one when it was deleted and made again, and its partitions.

        Raises:
            SourceError: there is no such topic.
            UnavailableError: the broker does not answer.
        """
        with kafka.reached(self._place):
            (found,) = self._admin.describe_topics([self.topic])
        if found.get("error_code"):
            raise SourceError(
                f"there is no topic {self.topic}: `tidegate topic create {self.topic}` makes it, `topic list` shows what there is"
            )
        return str(found["topic_id"]), tuple(sorted(part["partition_index"] for part in found["partitions"]))

    def bounds(self, partitions: Iterable[int]) -> dict[int, Span]:
        """Return what the broker has of each partition: its first offset, and the one that the next message gets."""
        from kafka import TopicPartition

        parts = [TopicPartition(self.topic, number) for number in partitions]
        with kafka.reached(self._place):
            first, end = self._consumer.beginning_offsets(parts), self._consumer.end_offsets(parts)
        return {part.partition: Span(first[part], end[part]) for part in parts}

    @property
    def positions(self) -> Mapping[int, int]:
        """What is read: partition → the offset that comes next."""
        return self._read

    def read_from(self, positions: Mapping[int, int]) -> None:
        """Read these partitions, and no others, from these offsets on."""
        from kafka import TopicPartition

        with kafka.reached(self._place):
            self._consumer.assign([TopicPartition(self.topic, number) for number in positions])
            for number, offset in positions.items():
                self._consumer.seek(TopicPartition(self.topic, number), offset)
        self._read = dict(positions)

    def haul(self, most_bytes: int, patience: float, busy: Callable[[], bool] = lambda: False) -> Haul:
        """Return what can be had within `patience` seconds, or `most_bytes` of it, a poll's worth more at the most.

        While the caller is `busy` with what was read before, it is read on: nobody waits for it.

        Raises:
            OutOfRangeError: the broker has nothing at an offset that was due.
            UnavailableError: the broker does not answer.
        """
        from kafka.errors import OffsetOutOfRangeError

        haul, begun = Haul(), time.monotonic()
        while haul.bytes < most_bytes and ((left := begun + patience - time.monotonic()) > 0 or busy()):
            with kafka.reached(self._place):
                try:
                    found = kafka.poll(self._consumer, max(left, _BREATH), _POLL_RECORDS)
                except OffsetOutOfRangeError as error:
                    raise OutOfRangeError({part.partition: offset for part, offset in error.args[0].items()}) from error
            for part, records in found.items():
                haul.take(part.partition, records)
        for part in self._consumer.assignment():
            first, after = self._read[part.partition], self._consumer.position(part)
            if after is not None and after > first:
                haul.spans[part.partition] = Span(first, after)
                self._read[part.partition] = after
        return haul

    def sent_at(self, positions: Mapping[int, int]) -> datetime | None:
        """Return when the oldest of the messages at these places was sent; None where none can be had within seconds."""
        self.read_from(positions)
        found, begun = dict[int, int](), time.monotonic()
        while len(found) < len(positions) and time.monotonic() < begun + _PATIENCE:
            with kafka.reached(self._place):
                for part, records in kafka.poll(self._consumer, _PATIENCE / 10).items():
                    found.setdefault(part.partition, records[0].timestamp)
        return datetime.fromtimestamp(min(found.values()) / 1000, UTC) if found else None

    def hint(self, spans: Mapping[int, Span], *, wait: bool = False) -> None:
        """Tell the broker how far we are, for whoever watches the group's lag; nothing of ours reads it."""
        from kafka import OffsetAndMetadata, TopicPartition

        told = {TopicPartition(self.topic, n): OffsetAndMetadata(span.next, "", -1) for n, span in spans.items()}
        if not wait:
            self._consumer.commit_async(told)
            return
        with kafka.reached(self._place):
            self._consumer.commit(told)

    def hinted(self, partition: int) -> int | None:
        """Return what the broker was told of a partition."""
        from kafka import TopicPartition

        with kafka.reached(self._place):
            offset: int | None = self._consumer.committed(TopicPartition(self.topic, partition))
        return offset
