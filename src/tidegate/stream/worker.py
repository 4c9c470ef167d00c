"""Take a topic in, haul after haul, until it is drained or the worker is told to end.

The ledger says where to read from; the broker is only told. Whatever dies in between, the next worker begins where the
last transaction ended: nothing is lost, and nothing is taken twice.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from tidegate.contracts import Contract, load
from tidegate.errors import FencedError, HeldError, TidegateError, TransientError, UsageError
from tidegate.publish import evolve
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect, impatient
from tidegate.stream import crew, dead_letters, ledger
from tidegate.stream.crew import Crew
from tidegate.stream.feed import Feed, Haul, OutOfRangeError, Span
from tidegate.stream.ledger import Gap, Position
from tidegate.stream.live import LiveMarts
from tidegate.stream.seen import Filter
from tidegate.stream.sieve import Sieve
from tidegate.stream.write import Written, held, prepare, write

log = structlog.get_logger(__name__)

#: A haul ends with as many bytes, or after as many seconds.
HAUL_BYTES, HAUL_SECONDS = 8 << 20, 0.5
#: Seconds after which a worker looks anew who else works, what its topic is, and whether its contract has changed; and after
#: which it does so though messages come all the time, and what is under way must end first.
_LOOK_AROUND, _LOOK_UP = 2.0, 10.0
#: Seconds after which a thread of Python gives way to another one, where it may not have to.
_TURN = 0.0005
#: Seconds for which a server may be away before a drain gives up; a worker that stays tries for ever.
_AWAY = 60.0


@dataclass
class Account:
    """What a worker has done since it began."""

    batches: int = 0
    messages: int = 0
    rows: int = 0
    known: int = 0
    refused: int = 0
    gaps: int = 0
    partitions: tuple[int, ...] = ()
    newest_at: datetime | None = None
    """When it last committed."""
    trouble: str | None = None
    """What it waits for, if it cannot work."""

    def add(self, written: Written) -> None:
        """Count a micro-batch."""
        self.batches += 1
        self.messages += written.messages
        self.rows += written.rows
        self.known += written.known
        self.refused += written.refused
        self.newest_at = datetime.now(UTC)


@dataclass
class Worker:
    """One worker of one dataset; `stop` ends it after the micro-batch that it is at."""

    settings: Settings
    dataset: str
    stop: threading.Event = field(default_factory=threading.Event)
    told: Callable[[Account], None] = lambda _: None
    """Called after each micro-batch and each trouble."""
    account: Account = field(default_factory=Account)

    def drain(self) -> Account:
        """Take in what the topic holds now, and end.

        Raises:
            HeldError: too much of it was refused; the stream stands.
            SourceError: there is no such topic.
            UsageError: the dataset is no stream.
            TransientError: a server was away for a minute.
        """
        for attempt in Retrying(
            retry=retry_if_exception_type(TransientError), stop=stop_after_delay(_AWAY), reraise=True,
            wait=wait_random_exponential(multiplier=0.2, max=5.0), before_sleep=lambda state: self._in_trouble(state.outcome.exception()),  # type: ignore[union-attr]
        ):  # fmt: skip
            with attempt:
                self._work(drain=True)
        return self.account

    def run(self) -> Account:
        """Work until `stop` is set; what is away is waited for, and so is the release of a stream that is held.

        Raises:
            TerminalError: a person must act, and the stream is not held: its contract is broken, the topic is gone.
        """
        retrying = Retrying(
            retry=retry_if_exception_type((TransientError, HeldError)), wait=wait_random_exponential(multiplier=0.2, max=10.0),
            before_sleep=lambda state: self._in_trouble(state.outcome.exception()), stop=lambda _: self.stop.is_set(),  # type: ignore[union-attr]
            sleep=self._sleep, reraise=True,
        )  # fmt: skip
        try:
            retrying(self._work, drain=False)
        except (TransientError, HeldError):
            if not self.stop.is_set():
                raise
        return self.account

    def _sleep(self, seconds: float) -> None:
        self.stop.wait(seconds)

    def _in_trouble(self, trouble: BaseException | None) -> None:
        words = str(trouble)
        if self.account.trouble != words:
            log.warning("stream waits", dataset=self.dataset, reason=words)
        self.account.trouble = words
        self.told(self.account)

    def _work(self, *, drain: bool) -> None:
        """Work with one connection to each server, until it is done, told to stop, or something is away."""
        contract = stream_of(self.settings, self.dataset)
        assert contract.topic is not None
        with ExitStack() as stack:
            connection = stack.enter_context(connect(self.settings))
            feed = stack.enter_context(Feed(self.settings, contract.topic.name, group_of(self.dataset)))
            with _quick_turns():
                _Shift(self, contract, connection, feed).work(drain=drain)


@contextlib.contextmanager
def _quick_turns() -> Iterator[None]:
    """Let Python's threads take turns more often: one reads without a pause, and each answer that the other gets has to wait for it."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


class _Shift:
    """A worker's time with one connection to each server: while one haul is sifted and written, the next one is read.

    What is under way has the connection and the sieve to itself; everybody else waits for it first (`_settle`).
    """

    def __init__(self, worker: Worker, contract: Contract, connection: Connection, feed: Feed) -> None:
        self.worker, self.contract, self.connection, self.feed = worker, contract, connection, feed
        self.crew = Crew(connection, contract.dataset)
        self.marts = LiveMarts(connection, contract.dataset)
        self.seen = Filter(worker.settings, contract)
        self.incarnation, self.partitions = "", tuple[int, ...]()
        self.reading: dict[int, int] = {}
        """Partition → what was taken of it, as far as this worker knows."""
        self.looked = 0.0
        self.new = True
        """Whether the keys of what comes next are likely to be new."""
        self.writer = ThreadPoolExecutor(1, "write")
        self.under_way: tuple[Haul, Future[Written]] | None = None
        self.sieve = self._made()

    def work(self, *, drain: bool) -> None:
        try:
            goal = self._look_around()
            dead_letters.copy(self.worker.settings, self.connection, self.contract)
            while not self.worker.stop.is_set():
                if time.monotonic() - self.looked > (_LOOK_UP if self.under_way else _LOOK_AROUND):
                    self._look_around()
                if drain and self._has_read(goal) and self._settle() and self._reached(goal):
                    break
                began, haul = time.monotonic(), self._haul()
                if self._settle() and haul is not None:
                    self.under_way = haul, self.writer.submit(self._take, haul, began)
                else:
                    self.marts.turn(False)
            self._settle()
            self.marts.catch_up()
        except HeldError:
            self.marts.catch_up()
            raise
        except TidegateError:
            # What was being written when something else went wrong may have been written: then it counts.
            with contextlib.suppress(TidegateError):
                self._settle()
            raise
        finally:
            self.writer.shutdown()
            self.seen.close()
            self.sieve.close()

    def _look_around(self) -> dict[int, int]:
        """See what the topic is, who else works, and whether the contract has changed; return the topic's ends.

        Raises:
            HeldError: the stream stands.
        """
        self._settle()
        self._require_not_held()
        self.incarnation, self.partitions = self.feed.incarnation()
        mine = self.crew.share(self.partitions)
        if (contract := stream_of(self.worker.settings, self.contract.dataset)) != self.contract:
            self.contract = contract
            self.sieve.close()
            self.sieve = self._made()
        bounds = self.feed.bounds(self.partitions)
        known = ledger.positions(self.connection, self.contract.dataset)
        self.connection.commit()
        if mine != set(self.reading) or self._moved(known):
            self._read(mine, known, bounds)
        self.looked = time.monotonic()
        self.worker.account.partitions, self.worker.account.trouble = tuple(sorted(mine)), None
        return {number: span.next for number, span in bounds.items()}

    def _made(self) -> Sieve:
        """Return the contract's sieve; its table is made, or brought to it, before a row comes."""
        assert self.contract.topic is not None
        if self.feed.topic != self.contract.topic.name:
            raise UsageError(
                f"{self.contract.reference} names topic {self.contract.topic.name} now, and this worker reads {self.feed.topic}: "
                "start it again"
            )
        with impatient(self.connection):
            evolve.ensure(self.connection, self.contract)
        sieve = Sieve.of(self.worker.settings, self.contract)
        prepare(self.connection, sieve)
        self.connection.commit()
        return sieve

    def _moved(self, known: dict[int, Position]) -> bool:
        """Return whether the ledger says something else of what is being read than this worker thinks."""
        return any(known.get(number) != Position(self.incarnation, offset) for number, offset in self.reading.items())

    def _read(self, mine: set[int], known: dict[int, Position], bounds: dict[int, Span]) -> None:
        """Read what is mine, from where the ledger says; a partition that it does not know, from its first message."""
        start: dict[int, int] = {}
        for number in sorted(mine):
            with self.connection.transaction():
                start[number] = self._start(number, known.get(number), bounds[number])
        self.feed.read_from(start)
        self.reading = start

    def _start(self, number: int, known: Position | None, there: Span) -> int:
        """Return the offset to read a partition from; what was due and is gone is recorded as a gap, and told."""
        contract, incarnation = self.contract, self.incarnation
        if known is None:
            ledger.begin(self.connection, contract, incarnation, number, None, there.first)
            if there.first:
                # Nobody has read what was there before the stream began: it was not due.
                log.info("stream begins", dataset=contract.dataset, partition=number, offset=there.first)
            return there.first
        if known.incarnation == incarnation and there.first <= known.next_offset <= there.next:
            return known.next_offset
        kind, start = _gone(known, incarnation, there)
        ledger.begin(self.connection, contract, incarnation, number, known, start)
        ledger.record_gap(self.connection, contract, incarnation, number, kind, due=known.next_offset, start=start)
        log.error(
            f"the topic has a gap: {kind}",
            dataset=contract.dataset,
            partition=number,
            was_due=known.next_offset,
            read_from=start,
        )
        self.worker.account.gaps += 1
        return start

    def _has_read(self, goal: dict[int, int]) -> bool:
        """Return whether every partition of this worker's was read as far as `goal`."""
        return all(offset >= goal.get(number, 0) for number, offset in self.feed.positions.items())

    def _reached(self, goal: dict[int, int]) -> bool:
        """Return whether every partition, whoever reads it, was taken in as far as `goal`."""
        known = ledger.positions(self.connection, self.contract.dataset)
        self.connection.commit()
        return all(
            number in known and known[number].incarnation == self.incarnation and known[number].next_offset >= end
            for number, end in goal.items()
        )

    def _require_not_held(self) -> None:
        hold = ledger.newest_hold(self.connection, self.contract.dataset)
        self.connection.commit()
        if hold is not None and hold.released_at is None:
            raise held(self.contract, hold.reason)

    def _read_anew(self) -> None:
        """Forget what is being read, so that the ledger and the broker are asked again where to go on."""
        self.reading = {}
        self._look_around()

    def _haul(self) -> Haul | None:
        """Read what comes next; None where nothing came."""
        if not self.reading:
            self.worker.stop.wait(HAUL_SECONDS)
            return None
        try:
            haul = self.feed.haul(HAUL_BYTES, HAUL_SECONDS, self._is_writing)
        except OutOfRangeError:
            # Removed, or another topic of the same name: what it is shows when one looks.
            self._read_anew()
            return None
        if not haul.spans:
            return None
        if self.feed.incarnation()[0] != self.incarnation:
            # Read before or after the topic was made again, nobody can tell: it is read anew.
            self._read_anew()
            return None
        return haul

    def _is_writing(self) -> bool:
        return self.under_way is not None and not self.under_way[1].done()

    def _take(self, haul: Haul, began: float) -> Written:
        """Sift and write a haul; this runs beside the reading of the next one."""
        self._require_not_held()
        look = self.seen.look(self.connection, self.sieve, haul)
        sifted = self.sieve.sift(haul, look.known)
        written = write(self.connection, self.sieve, self.incarnation, haul, sifted, began, new=self.new)
        # Where some were there already, copies come: they do so for a while.
        self.new = written.rows == len(sifted.rows)
        self.seen.remember(look, haul, sifted, written)
        if written.refused:
            dead_letters.copy(self.worker.settings, self.connection, self.contract)
        self.marts.turn(True)
        return written

    def _settle(self) -> bool:
        """Wait for what is under way, and count it; False where another worker had taken it, and all is read anew.

        Raises:
            HeldError: the stream stands; nothing of the haul was written.
            TransientError: a server is away; nothing was written, unless its last word was lost: the ledger knows.
        """
        if self.under_way is None:
            return True
        (haul, result), self.under_way = self.under_way, None
        try:
            written = result.result()
        except FencedError:
            self._read_anew()
            return False
        self.reading |= {number: span.next for number, span in haul.spans.items()}
        self.feed.hint(haul.spans)
        log.info(
            "micro-batch published", dataset=self.contract.dataset, batch_id=written.batch_id, messages=written.messages,
            rows=written.rows, known=written.known, refused=written.refused,
        )  # fmt: skip
        self.worker.account.trouble = None
        self.worker.account.add(written)
        self.worker.told(self.worker.account)
        return True


def _gone(known: Position, incarnation: str, there: Span) -> tuple[Gap, int]:
    """Return why the broker does not have what is due, and the offset to read on from."""
    if known.incarnation != incarnation:
        return "topic made again", there.first
    if known.next_offset < there.first:
        return "removed unread", there.first
    # A power cut, or a replica that was behind, took messages from the broker that were taken in: those we have.
    return "taken back", there.next


def drain(settings: Settings, dataset: str) -> None:
    """Take in what the topic holds, unless workers are at it already: they would have to share it anew.

    Raises as `Worker.drain` does.
    """
    with connect(settings, autocommit=True) as connection:
        if crew.count(connection, dataset):
            return
    Worker(settings, dataset).drain()


def stream_of(settings: Settings, dataset: str) -> Contract:
    """Return the contract of a dataset that is a stream.

    Raises:
        UsageError: it is none, or there is no such dataset.
        ContractError: its contract cannot be read.
    """
    contract = load(settings, dataset)
    if contract.topic is None:
        raise UsageError(f"{dataset} is no stream: {contract.reference} names no server of type kafka")
    return contract


def group_of(dataset: str) -> str:
    """Return the consumer group under which the broker is told how far a dataset was taken in."""
    return f"tidegate.{dataset}"
