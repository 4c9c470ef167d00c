"""Topics as one sees them by hand: made, listed, looked into, and how far behind a reader is.

What a message means is not known here, nor who has read it: positions are handed in by those who keep them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tidegate.errors import UsageError
from tidegate.settings import Settings
from tidegate.stores import kafka

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer

PARTITIONS = 4
"""Of a topic where nobody says how many: as many workers can share it."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_RETENTION = "retention.ms"


@dataclass(frozen=True)
class Topic:
    """A topic; `messages` is how many it holds at most (those of aborted transactions count), `retention` None for ever."""

    name: str
    partitions: int
    messages: int
    retention: timedelta | None


@dataclass(frozen=True)
class Message:
    """One message as the broker keeps it; `at` is when it came, or what its sender says."""

    partition: int
    offset: int
    at: datetime
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Lag:
    """How far a reader is behind in one partition.

    The broker keeps offsets `first` to `end`, without `end`. `position` is the next one to be read, None where nobody has
    read; `lag` is how many are still to be read.
    """

    partition: int
    first: int
    end: int
    position: int | None
    lag: int


def listed(settings: Settings) -> list[Topic]:
    """Return every topic but Kafka's own, by name."""
    with _admin(settings) as admin, _asking(settings) as consumer:
        names = sorted(name for name in admin.list_topics() if not name.startswith("__"))
        if not names:
            return []
        kept = _retention(admin, names)
        found = []
        for name in names:
            places = _places(consumer, name)
            first, end = consumer.beginning_offsets(places), consumer.end_offsets(places)
            held = sum(end[place] - first[place] for place in places)
            found.append(Topic(name, len(places), held, kept[name]))
        return found


def create(settings: Settings, name: str, *, partitions: int = PARTITIONS, retention: timedelta | None = None) -> None:
    """Make a topic and return once it can be used; `retention` counts from when a message came, the broker's own otherwise.

    Raises:
        UsageError: the name cannot be one, or is taken.
    """
    from kafka.errors import TopicAlreadyExistsError

    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise UsageError(
            f"{name!r} cannot be the name of a topic: expected letters, digits, '.', '_' and '-', 249 of them at most"
        )
    if name.startswith("__"):
        raise UsageError(f"{name!r} begins like Kafka's own topics; expected another name")
    # How long a message is kept must not hang on what its sender calls the time.
    configs = {"message.timestamp.type": "LogAppendTime"}
    if retention is not None:
        configs[_RETENTION] = str(round(retention / timedelta(milliseconds=1)))
    with _admin(settings) as admin:
        try:
            admin.create_topics({name: {"num_partitions": partitions, "configs": configs}}, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            raise UsageError(f"there is a topic {name!r} already: `tidegate topic list` shows it") from None


def exists(settings: Settings, name: str) -> bool:
    """Return whether there is such a topic."""
    with _admin(settings) as admin:
        return name in admin.list_topics()


def retention(settings: Settings, name: str) -> timedelta | None:
    """Return for how long the broker keeps what comes to a topic, which is there; None is for ever."""
    with _admin(settings) as admin:
        return _retention(admin, [name])[name]


def tail(settings: Settings, name: str, most: int, *, follow: bool = False) -> Iterator[Message]:
    """Yield the last messages of a topic, the oldest first, and with `follow` what comes then, until one stops asking.

    Raises:
        UsageError: there is no such topic.
    """
    with _asking(settings) as consumer:
        places = _places(consumer, name)
        consumer.assign(places)
        first, end = consumer.beginning_offsets(places), consumer.end_offsets(places)
        for place in places:
            consumer.seek(place, max(first[place], end[place] - most))
        yield from (
            sorted(_until(consumer, end), key=lambda one: (one.at, one.partition, one.offset))[-most:] if most else ()
        )
        for place in places:
            consumer.seek(place, end[place])
        while follow:
            for records in kafka.poll(consumer, 0.5).values():
                yield from map(_message, records)


def lag(settings: Settings, name: str, positions: Mapping[int, int]) -> list[Lag]:
    """Return how far behind a reader is that has next to read `positions` (offset by partition), by partition.

    Where it has read nothing yet, everything that the broker keeps is still to be read.

    Raises:
        UsageError: there is no such topic.
    """
    with _asking(settings) as consumer:
        places = _places(consumer, name)
        first, end = consumer.beginning_offsets(places), consumer.end_offsets(places)
        found = []
        for place in places:
            position = positions.get(place.partition)
            begin = first[place] if position is None else max(position, first[place])
            behind = max(0, end[place] - begin)
            found.append(Lag(place.partition, first[place], end[place], position, behind))
        return found


def committed(settings: Settings, name: str, group: str) -> dict[int, int]:
    """Return the offset that the broker remembers for a group, by partition; those of which it knows none are left out."""
    with _asking(settings, group) as consumer:
        # Unlike the administrator's client this one waits for a broker that has only begun to keep offsets.
        told = {place.partition: consumer.committed(place, timeout_ms=30_000) for place in _places(consumer, name)}
        return {partition: offset for partition, offset in told.items() if offset is not None}


@contextmanager
def _admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    with kafka.reached(settings), closing(kafka.admin(settings)) as admin:
        yield admin


@contextmanager
def _asking(settings: Settings, group: str | None = None) -> Iterator[KafkaConsumer]:
    # What is looked at by hand is shown as it lies there, half transactions included.
    made = kafka.consumer(settings, group=group, isolation_level="read_uncommitted")
    with kafka.reached(settings), closing(made) as consumer:
        yield consumer


def _places(consumer: KafkaConsumer, name: str) -> list[Any]:
    from kafka import TopicPartition

    numbers = consumer.partitions_for_topic(name)
    if not numbers:
        raise UsageError(
            f"there is no topic {name!r}: `tidegate topic list` shows those that there are, "
            f"`tidegate topic create {name}` makes it"
        )
    return [TopicPartition(name, number) for number in sorted(numbers)]


def _until(consumer: KafkaConsumer, end: Mapping[Any, int]) -> Iterator[Message]:
    """Yield what lies before `end`."""
    while any(consumer.position(place) < offset for place, offset in end.items()):
        for place, records in kafka.poll(consumer, 0.5).items():
            yield from (_message(record) for record in records if record.offset < end[place])


def _retention(admin: KafkaAdminClient, names: list[str]) -> dict[str, timedelta | None]:
    from kafka.admin import ConfigResource, ConfigResourceType

    asked = [ConfigResource(ConfigResourceType.TOPIC, name, {_RETENTION: None}) for name in names]
    told = admin.describe_configs(asked, config_filter="all")
    found = {}
    for name in names:
        value = int(told["topic"][name][_RETENTION]["value"])
        found[name] = None if value < 0 else timedelta(milliseconds=value)
    return found


def _message(record: Any) -> Message:
    at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    return Message(record.partition, record.offset, at, record.key, record.value, tuple(record.headers))
