"""The replica becomes the primary, and the primary its replica: fence, decide, promote, lead clients over, wind back.

It works on any pair of servers of this machine, also on throw-away ones; the embedded pair's decision is `replica.py`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tidegate.errors import BusyError, StackError, UnavailableError
from tidegate.stack import pool as pools
from tidegate.stack import rejoin, standby, wal_archive
from tidegate.stack.home import Say
from tidegate.stack.pgbouncer import PgBouncer
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.rejoin import How
from tidegate.stack.standby import Link


@dataclass(frozen=True)
class Failover:
    """What happened, and how long it took.

    `seconds` passed from the call until the promoted server took writes and the pool led there. `lsn` is where its
    `timeline` begins. What the old primary had beyond that is lost: so many bytes of WAL with so many commits in it
    (None where the old one could not be read). `rejoin_seconds` later the old one had followed again (`rejoined`: how;
    None where it was not to, or could not).
    """

    seconds: float
    fenced_seconds: float
    promoted_seconds: float
    timeline: int
    lsn: str
    lost_bytes: int | None
    lost_transactions: int | None
    rejoined: How | None
    rejoin_seconds: float
    synchronous: bool


def failover(
    primary: PostgresServer,
    replica: PostgresServer,
    link: Link,
    *,
    pool: PgBouncer | None = None,
    database: str = pools.DATABASE,
    say: Say = lambda _said: None,
    decide: Callable[[], None] = lambda: None,
    archive: Path | None = None,
    aside: Path | None = None,
    follow: bool = True,
    synchronous: bool | None = None,
) -> Failover:
    """Promote the running replica, dead or alive as the primary may be, and have the old primary follow it.

    Clients of `pool` are held back meanwhile, and go on. `decide` is called between the fence and the promotion, to
    write down which one is the primary from now on. What the old one has not archived of its WAL goes to `archive`
    (the folder of all clusters' archives). `aside` is where an old primary goes that must be made anew. Commits wait
    for the standby again afterwards if `synchronous`, or (None) if they did before.

    Raises:
        StackError: the replica does not run, is none, or was not promoted; the old primary stays fenced from then on.
    """
    began = time.monotonic()
    if not replica.running() or not standby.is_standby(replica):
        raise StackError("there is no running replica to promote: `tidegate up --with replica` makes one")
    if synchronous is None:
        synchronous = bool(primary.settings.get("synchronous_standby_names"))
    held = _hold(pool, say)
    try:
        _fence(primary)
        fenced = time.monotonic()
        decide()
        if archive is not None:
            for failed in wal_archive.hand_over(primary, archive):
                say(f"not archived, so take a new backup afterwards: {failed}")
        standby.promote(replica)
        promoted = time.monotonic()
        if pool is not None and held:
            pools.lead_to(pool, replica, database)
            pool.reload()
    finally:
        if pool is not None and held:
            pool.resume()
    ready = time.monotonic()
    timeline, lsn = _fork(replica)
    gone = rejoin.lost(primary, lsn) if primary.is_made() else None
    rejoined: How | None = None
    if follow:
        rejoined = rejoin.rejoin(replica, primary, link, say, aside)
        standby.insist(replica, synchronous)
    return Failover(
        seconds=ready - began,
        fenced_seconds=fenced - began,
        promoted_seconds=promoted - fenced,
        timeline=timeline,
        lsn=lsn,
        lost_bytes=gone[0] if gone else None,
        lost_transactions=gone[1] if gone else None,
        rejoined=rejoined,
        rejoin_seconds=time.monotonic() - ready,
        synchronous=synchronous,
    )


def _hold(pool: PgBouncer | None, say: Say) -> bool:
    """Hold the pool's clients back; where a transaction does not end, or the pool is gone, go on without."""
    if pool is None or not pool.running():
        return False
    try:
        pool.pause(patience=5)
    except BusyError:
        # It is cut off by the fence in a moment: its client gets an error, and knows that nothing was committed.
        say("a transaction of the pool did not end within 5 s, and is cut off")
    except UnavailableError as error:
        say(str(error))
        return False
    return True


def _fence(primary: PostgresServer) -> None:
    """End the old primary and mark it a standby: whoever starts it, it takes no write before it was wound back.

    One that is whole hands all its WAL to the replica as it ends.
    """
    primary.stop(patience=10)
    if primary.running():
        raise StackError(f"the old primary in {primary.directory} cannot be ended, so nothing was promoted")
    if primary.is_made():
        primary.end_orphans()
        rejoin.fenced_mark(primary).touch()
        primary.mark_standby()


def _fork(promoted: PostgresServer) -> tuple[int, str]:
    """Return the timeline that the promotion began, and where."""
    with psycopg.connect(promoted.dsn(), autocommit=True) as connection:
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone() or ("",)
    timeline = int(row[0][:8], 16)
    history = (promoted.directory / "pg_wal" / f"{timeline:08X}.history").read_text().split("\n")
    last = [line.split("\t") for line in history if line.strip() and not line.startswith("#")][-1]
    return timeline, last[1]
