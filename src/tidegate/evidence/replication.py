"""How far the replica is behind while the primary is written to, in the seconds that a reader would notice.

What a failover loses or takes is the matter of `availability`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from tidegate.errors import UnavailableError
from tidegate.evidence import clients
from tidegate.evidence.probe import CannotRunError, Finding, Ground
from tidegate.rehearsal.rehearsal import Rehearsal
from tidegate.stack import standby
from tidegate.stack.replication import Replica, behind
from tidegate.stores.postgres import connect_to

#: Few, and none of them waits: a pipeline publishes, people read.
_WRITERS = 2
#: Rows of each before the first look: what the replica shows has no age worth telling before something new has come.
_ROWS = 25
#: Seconds between two looks, and what the replica has to show everything again once nobody writes.
_PACE, _PATIENCE = 0.05, 10.0


def lag(ground: Ground) -> Iterator[Finding]:
    """Look at the replica over and over while clients write, no commit waiting for it; then until it shows all of it."""
    place = ground.rehearsal
    with place.scratch("replication_lag") as dsn:
        # The harder case: a synchronous standby slows its writers down to its own pace.
        standby.insist(place.primary, synchronous=False)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(clients.TABLE)
        seen: list[Replica] = []
        with _looking(place) as look:
            with clients.writing(dsn, _WRITERS) as writers:
                clients.each_writes(writers, _ROWS)
                until = time.monotonic() + ground.seconds
                while time.monotonic() < until:
                    seen.append(look())
                    time.sleep(_PACE)
            ended = time.monotonic()
            while (last := look()).lag_bytes and time.monotonic() < ended + _PATIENCE:
                time.sleep(_PACE)
            catching_up = time.monotonic() - ended
    seconds = [one.lag_seconds for one in seen]
    rows, failures = len(clients.acknowledged(writers)), [told for writer in writers for told in writer.failures]
    figures = {
        "lag_seconds": round(max(seconds), 3), "lag_p95_seconds": round(_p95(seconds), 3),
        "lag_bytes": max(one.lag_bytes for one in seen), "looks": len(seen), "rows": rows,
        "caught_up": not last.lag_bytes, "catch_up_seconds": round(catching_up, 3), "failed": len(failures),
    }  # fmt: skip
    text = "\n".join([
        f"{_WRITERS} clients wrote {rows} rows in {ground.seconds} s; the replica was looked at {len(seen)} times",
        f"it was {max(seconds):.3f} s behind at most, {_p95(seconds):.3f} s in 95 of 100 looks, {figures['lag_bytes']} bytes at most",
        f"{catching_up:.3f} s after the last row it {'still did not show' if last.lag_bytes else 'showed'} all of them",
        *(f"{one.lag_seconds:.3f} s, {one.lag_bytes} bytes{', replay is paused' if one.paused else ''}" for one in seen),
        *failures,
    ])  # fmt: skip
    bad = last.lag_bytes > 0 or bool(failures)
    yield Finding("tests/integration/replication_lag.log", text, figures, "tidegate.stack.replication.behind", int(bad))


@contextmanager
def _looking(place: Rehearsal) -> Iterator[Callable[[], Replica]]:
    """Have a look at both servers ready, through sessions that stay open: to open one takes longer than to look."""
    try:
        with (
            connect_to(place.primary.dsn(), autocommit=True) as primary,
            connect_to(place.replica.dsn(), autocommit=True) as replica,
        ):

            def look() -> Replica:
                (now,) = primary.execute("SELECT pg_current_wal_lsn()::text AS lsn").fetchall()
                return behind(replica, now["lsn"])

            yield look
    except UnavailableError as error:
        raise CannotRunError(f"{error}; `tidegate rehearsal down`, then `up`, makes both servers anew") from error


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]
