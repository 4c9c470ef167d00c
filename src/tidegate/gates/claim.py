"""A claim on a batch: one worker at a time, and one that comes back after another took over writes nothing.

The warehouse's session lock decides who works. Redis, where there is one, turns the others away before they ask, and
numbers the claims; without it the warehouse numbers them. Every claim shows its number, the fencing token, in the
transaction that writes: a worker whose session was lost while it slept finds a higher one in `ops.fence`.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import structlog

from tidegate.errors import FencedError, StackError, UnavailableError
from tidegate.settings import Settings
from tidegate.stack.process import Process
from tidegate.stores import lease
from tidegate.stores.postgres import Connection, connect, exclusive
from tidegate.stores.redis import Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Claim:
    """The right to work on `subject`; `connection` is the session that holds it."""

    connection: Connection
    subject: str
    holder: str
    token: int

    def check(self, connection: Connection | None = None) -> None:
        """Make sure, in a transaction that writes, that nobody has claimed the subject since.

        Whoever claims it now waits for the end of that transaction. `connection` is another one than the claim's own.

        Raises:
            FencedError: somebody has; nothing of this transaction may be kept.
        """
        query = "SELECT token, holder FROM ops.fence WHERE subject = %s FOR SHARE"
        seen = (connection or self.connection).execute(query, [self.subject]).fetchone()
        if seen and (seen["token"], seen["holder"]) != (self.token, self.holder) and seen["token"] >= self.token:
            raise FencedError(
                f"{self.subject}: {seen['holder']} took the work over (token {seen['token']}) while this process, which has "
                f"token {self.token}, did not answer; what it was about to write is not kept: run it again"
            )


@contextmanager
def claim(settings: Settings, batch_id: str) -> Iterator[Claim]:
    """Claim a batch for as long as the block runs; at its end the claim's connection commits, or rolls back on an error.

    Raises:
        BusyError: another process works on the batch.
        UnavailableError: the warehouse does not answer. (That Redis does not is logged, and no reason to stop.)
    """
    subject, holder = f"batch {batch_id}", _myself()
    with (
        _in_front(settings, subject, holder) as number,
        connect(settings) as connection,
        exclusive(connection, subject),
    ):
        token = _enter(connection, subject, holder, number)
        yield Claim(connection, subject, holder, token)


def _enter(connection: Connection, subject: str, holder: str, number: int) -> int:
    """Note the claim under the session lock, and return its token: `number`, or a higher one where Redis is behind."""
    row = connection.execute(
        """
        INSERT INTO ops.fence (subject, token, holder) VALUES (%s, greatest(%s, 1), %s)
        ON CONFLICT (subject) DO UPDATE
        SET token = greatest(fence.token + 1, excluded.token), holder = excluded.holder, taken_at = now()
        RETURNING token
        """,
        [subject, number, holder],
    ).fetchone()
    connection.commit()
    assert row
    return int(row["token"])


@contextmanager
def _in_front(settings: Settings, subject: str, holder: str) -> Iterator[int]:
    """Hold the lease in Redis, if there is one that answers, and yield its token; else 0."""
    with ExitStack() as stack:
        token = 0
        if settings.redis_url is not None:
            try:
                store = stack.enter_context(Store(settings.redis_url.get_secret_value(), retries=1, patience=1))
                _bury(store, subject)
                token = stack.enter_context(lease.held(store, subject, holder)).token
            except (UnavailableError, StackError) as away:
                log.warning("claimed without redis", subject=subject, reason=str(away))
        yield token


def _myself() -> str:
    process = Process.of(os.getpid())
    return f"{socket.gethostname()} {process.pid} {process.created} {uuid.uuid4().hex[:8]}"


def _bury(store: Store, subject: str) -> None:
    """Give back the lease of a worker of this machine that was killed: nobody need wait until it runs out."""
    found = lease.find(store, subject)
    match found.holder.split() if found else []:
        case [host, pid, created, _] if host == socket.gethostname():
            if found and not Process(int(pid), float(created)).is_alive():
                lease.release(store, found)
