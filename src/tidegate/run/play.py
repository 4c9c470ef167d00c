"""The record played to a topic: its messages sent in the order of their times, at a chosen speed or as fast as it goes.

What is held in memory is a day of them, whatever is played: the events wait in a file under the home folder.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.contracts import Contract, load
from tidegate.errors import UsageError
from tidegate.ingest.engine import engine_under
from tidegate.run import bookings, demo, events, messages
from tidegate.run.messages import DUPLICATE, LATE, POISONS, Disturbance
from tidegate.run.progress import Progress
from tidegate.settings import Settings
from tidegate.stores import kafka, topics
from tidegate.stores.duckdb import identifier, literal

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection
    from kafka import KafkaProducer

#: The record's first and last day, local dates of departure.
FIRST, LAST = date(2013, 1, 1), date(2013, 12, 31)
#: Header of each message: the version of the contract that it keeps.
VERSION = "version"
#: A pause that is shorter is not worth taking.
_PAUSE_SECONDS = 0.005
_BATCHES_ON_THE_WAY = 2
#: How long a broker may be away before its messages are given up.
_PATIENCE_MS = 60_000


@dataclass(frozen=True)
class Record:
    """Something that can be played: of which dataset, and how its events come to be in DuckDB's table `event`."""

    dataset: str
    tabulate: Callable[[DuckDBPyConnection, Settings, Path, date, date], None]
    """From the first and the last day of departures, with a folder for files on the way."""
    key: str
    """SQL of a message's key."""
    order: str
    """SQL of the order of events, the oldest first."""
    unknown: tuple[str, str]
    """A column, and a value that the contract does not know."""


@dataclass(frozen=True)
class Played:
    """What was sent, and thereby what whoever reads it must find."""

    topic: str
    made: Mapping[str, int]
    """Number of messages by what they are: REAL, LATE, DUPLICATE or one of POISONS."""

    @property
    def messages(self) -> int:
        """How many were sent."""
        return sum(self.made.values())

    @property
    def events(self) -> int:
        """How many say something true that was not said before: the rows of the right answer."""
        return self.messages - self.duplicates - sum(self.poison.values())

    @property
    def late(self) -> int:
        """How many of the events were sent after their time."""
        return self.made.get(LATE, 0)

    @property
    def duplicates(self) -> int:
        """How many repeat an event."""
        return self.made.get(DUPLICATE, 0)

    @property
    def poison(self) -> dict[str, int]:
        """How many must be refused, by kind."""
        return {kind: self.made[kind] for kind in POISONS if self.made.get(kind)}


def play(
    settings: Settings,
    first: date,
    last: date,
    speed: float | None,
    disturbance: Disturbance,
    *,
    record: Record | None = None,
    topic: str | None = None,
    progress: Progress | None = None,
) -> Played:
    """Send the events of the flights that were to depart from `first` to `last`, local dates, and return when all are kept.

    `record` is what is played of them, `FLIGHTS` unless it is named. `speed` is seconds of the record to a second of the clock, None as fast as it goes; `topic` is the contract's unless
    another is named, and is made where it is missing.

    Raises:
        UsageError: no such days are in the record, or no Kafka is configured.
        SourceError: the package that carries the record is not installed.
        UnavailableError: the broker does not answer, or could not keep a message; play it again, what was sent twice is
            taken once.
    """
    if not FIRST <= first <= last <= LAST:
        raise UsageError(f"found days from {first} to {last}, expected some from {FIRST} to {LAST} in their order")
    record = record or FLIGHTS
    contract = load(settings, record.dataset)
    assert contract.topic is not None
    topic = topic or contract.topic.name
    disturbance = replace(
        disturbance,
        limit_bytes=contract.topic.max_message_bytes,
        required=contract.topic.event_time,
        unknown=record.unknown,
    )
    if not topics.exists(settings, topic):
        topics.create(settings, topic, retention=contract.topic.kept)
    folder = settings.home / "replay"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder) as scratch,
        engine_under(Path(scratch), settings.duckdb_memory) as engine,
    ):
        engine.execute("SET enable_progress_bar = false")
        record.tabulate(engine, settings, Path(scratch), first, last)
        sent = messages.disturbed(_by_day(engine, contract, record, progress), disturbance)
        return _send(settings, contract, topic, sent, _pace(speed))


def _flights(engine: DuckDBPyConnection, settings: Settings, scratch: Path, first: date, last: date) -> None:
    for dataset in ("flights", "airports"):
        with demo.original(dataset) as lines:
            _read(engine, load(settings, dataset), lines, scratch)
    engine.execute(f"CREATE TABLE event AS {events.query(first, last, 'flights', 'airports')}")


def _read(engine: DuckDBPyConnection, contract: Contract, lines: Iterable[bytes], scratch: Path) -> None:
    """Create a table, called as the dataset, of the lines of one of its deliveries."""
    file = scratch / f"{contract.dataset}.csv"
    with file.open("wb") as copy:
        copy.writelines(lines)
    kinds = ", ".join(f"{literal(column.name)}: {literal(column.duckdb_type)}" for column in contract.columns)
    nulls = ", ".join(map(literal, contract.source.nulls))
    engine.execute(
        f"CREATE TABLE {contract.dataset} AS SELECT * FROM read_csv({literal(str(file))}, header = true, "
        f"types = {{{kinds}}}, nullstr = [{nulls}])"
    )
    file.unlink()


FLIGHTS = Record("flight_event", _flights, messages.AIRCRAFT, events.ORDER, ("event_type", "diverted"))


def seats(number: int = bookings.SEATS) -> Record:
    """Return the record of `number` booked seats a month, those that `bookings` delivers as files."""

    def tabulate(engine: DuckDBPyConnection, settings: Settings, scratch: Path, first: date, last: date) -> None:
        flights = demo.lines_by_month("flights")
        months = [month for month in demo.MONTHS if f"{first:%Y-%m}" <= month <= f"{last:%Y-%m}"]
        files = [bookings.bookings(flights[month], month, number) for month in months]
        header, _, _ = files[0].partition(b"\n")
        lines = (file.partition(b"\n")[2] for file in files)
        _read(engine, load(settings, bookings.DATASET), [header, b"\n", *lines], scratch)
        engine.execute(f"CREATE TABLE event AS {bookings.made(first, last)}")

    return Record(bookings.STREAM, tabulate, "booking_id", bookings.ORDER, ("email", "no address"))


def _by_day(
    engine: DuckDBPyConnection, contract: Contract, record: Record, progress: Progress | None
) -> Iterator[pa.Table]:
    """Yield the messages of each day (UTC) on which something happened."""
    assert contract.topic is not None
    at = identifier(contract.topic.event_time)
    ((begin, end),) = engine.execute(f"SELECT CAST(min({at}) AS date), CAST(max({at}) AS date) FROM event").fetchall()
    days = [begin + timedelta(days=n) for n in range((end - begin).days + 1)] if begin else []
    for number, day in enumerate(days):
        if progress:
            progress.count("days", number, len(days))
        of_day = f"SELECT * FROM event WHERE {at} >= TIMESTAMPTZ '{day} 00:00Z' AND {at} < TIMESTAMPTZ '{day + timedelta(1)} 00:00Z'"
        yield engine.sql(messages.query(contract, of_day, record.key, record.order)).to_arrow_table()
    if progress:
        progress.count("days", len(days), len(days))


def _pace(
    speed: float | None, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> Callable[[int], None]:
    """Return what waits until it is time for a message, told by its time in milliseconds; the first one's is now."""
    if speed is None:
        return lambda _: None
    began: tuple[float, int] | None = None

    def wait(send_ms: int) -> None:
        nonlocal began
        began = began or (clock(), send_ms)
        ahead = began[0] + (send_ms - began[1]) / 1000 / speed - clock()
        if ahead > _PAUSE_SECONDS:
            sleep(ahead)

    return wait


def _send(
    settings: Settings, contract: Contract, topic: str, batches: Iterator[pa.Table], wait: Callable[[int], None]
) -> Played:
    headers = [(VERSION, contract.version.encode())]
    made: Counter[str] = Counter()
    # The client would take what the broker does not keep up with, as much as there is.
    on_the_way: deque[list[Any]] = deque()
    with kafka.reached(settings), _producer(settings) as producer:
        for batch in batches:
            columns = [batch[name].to_pylist() for name in ("send_ms", "key", "value", "event_ms")]
            sent = []
            for send_ms, key, value, event_ms in zip(*columns, strict=True):
                wait(send_ms)
                sent.append(producer.send(topic, value, key, headers, timestamp_ms=event_ms))
            made.update(batch["made"].to_pylist())
            on_the_way.append(sent)
            if len(on_the_way) > _BATCHES_ON_THE_WAY:
                _require_kept(on_the_way.popleft())
        producer.flush()
        for sent in on_the_way:
            _require_kept(sent)
    return Played(topic, dict(made))


@contextmanager
def _producer(settings: Settings) -> Iterator[KafkaProducer]:
    """Yield a producer that sends many messages in a request, and forgets what is left when it is left with an error."""
    producer = kafka.producer(settings, linger_ms=20, batch_size=128 << 10, delivery_timeout_ms=_PATIENCE_MS)
    try:
        yield producer
    except BaseException:
        producer.close(timeout=0)
        raise
    producer.close()


def _require_kept(sent: Iterable[Any]) -> None:
    """Wait until the broker has said of each message that it has it, or raise its error."""
    for message in sent:
        message.get()
