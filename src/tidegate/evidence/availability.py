"""What clients of the pool notice: a primary that dies under them, a server that is restarted, more of them than places."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tidegate.errors import TidegateError
from tidegate.evidence import clients
from tidegate.evidence.performance import SCALE, read_pgbench
from tidegate.evidence.probe import CannotRunError, Finding, Ground, run
from tidegate.stack import pgbouncer, standby
from tidegate.stack.failover import failover
from tidegate.stack.pgbouncer import Load, PgBouncer
from tidegate.stack.postgres_binaries import client
from tidegate.stores.postgres import libpq_environment_of

_WRITERS = 4
#: Rows that each client has to have written before anything happens, and after it.
_ROWS = 25
#: Clients in normal load; and more than the pool has places for, by far.
_NORMAL, _MANY = 10, 200
_PATIENCE = 60


def pg_failover(ground: Ground) -> Iterator[Finding]:
    """Kill the primary with -9 under clients of the pool, promote its replica, count what was acknowledged and is gone."""
    place = ground.rehearsal
    _require_pool()
    with place.scratch("failover") as dsn, place.pooled("failover") as pool:
        primary, replica = place.primary, place.replica
        standby.insist(primary, synchronous=True)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(clients.TABLE)
        said: list[str] = []
        with clients.writing(pool.dsn("failover", place.owner, place.passwords[place.owner]), _WRITERS) as writers:
            clients.each_writes(writers, _ROWS)
            process = primary.running()
            assert process
            began = time.monotonic()
            os.kill(process.pid, signal.SIGKILL)
            found = failover(primary, replica, place.link, pool=pool, database="failover", say=said.append)
            clients.each_writes(writers, _ROWS)
        acknowledged = clients.acknowledged(writers).keys()
        with psycopg.connect(place.primary.dsn("failover"), autocommit=True) as connection:
            kept = {row[0] for row in connection.execute("SELECT n FROM public.written").fetchall()}
    outage = max(writer.longest_gap for writer in writers)
    figures = {
        "seconds": round(found.seconds, 3), "outage_seconds": round(outage, 3), "acknowledged": len(acknowledged),
        "lost": len(acknowledged - kept), "timeline": found.timeline, "rejoined": found.rejoined,
        "rejoin_seconds": round(found.rejoin_seconds, 3), "synchronous": True,
    }  # fmt: skip
    text = "\n".join([
        f"0.000 s: primary (pid {process.pid}) killed with -9 under {_WRITERS} clients of the pool",
        f"{found.fenced_seconds:.3f} s: fenced", f"{found.fenced_seconds + found.promoted_seconds:.3f} s: replica promoted",
        f"{found.seconds:.3f} s: the pool leads there", f"{time.monotonic() - began:.3f} s: all clients have written again",
        f"the longest that a client waited between two acknowledged rows: {outage:.3f} s",
        f"{len(acknowledged)} rows were acknowledged, {len(acknowledged - kept)} of them are gone",
        f"the old primary: {found.rejoined}, {found.rejoin_seconds:.3f} s later", *said,
    ])  # fmt: skip
    bad = bool(acknowledged - kept) or found.rejoined is None
    for file in ("tests/integration/pg_failover.log", "tests/integration/failover_test.log"):
        yield Finding(file, text, figures, "kill -9; tidegate failover", int(bad))


def pool_drain(ground: Ground) -> Iterator[Finding]:
    """Restart the server behind the pool while clients write: they wait, and none of their queries fails."""
    place = ground.rehearsal
    _require_pool()
    with place.scratch("drain") as dsn, place.pooled("drain") as pool:
        primary = place.primary
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(clients.TABLE)
        with clients.writing(pool.dsn("drain", place.owner, place.passwords[place.owner]), _WRITERS) as writers:
            clients.each_writes(writers, _ROWS)
            began = time.monotonic()
            with pool.held():
                drained = time.monotonic() - began
                primary.stop()
                primary.start()
            held = time.monotonic() - began
            clients.each_writes(writers, _ROWS)
    errors = [told for writer in writers for told in writer.failures]
    figures = {
        "drained_seconds": round(drained, 3), "held_seconds": round(held, 3),
        "queries": sum(len(writer.acknowledged) for writer in writers), "failed": len(errors),
        "longest_wait_seconds": round(max(writer.longest_gap for writer in writers), 3),
    }  # fmt: skip
    text = "\n".join([
        f"{figures['queries']} queries of {_WRITERS} clients; the pool was drained in {drained:.3f} s, the server restarted behind "
        f"it, clients served again after {held:.3f} s", f"{len(errors)} queries failed", *errors,
    ])  # fmt: skip
    yield Finding("tests/release/pool_drain.log", text, figures, "PAUSE; restart; RESUME", int(bool(errors)))


def pool_stress(ground: Ground) -> Iterator[Finding]:
    """Let many more clients than the pool has places ask at once, after as few as are normal; watch it meanwhile."""
    place = ground.rehearsal
    _require_pool()
    told: list[str] = []
    figures: dict[str, Any] = {}
    with place.scratch("pool_stress") as dsn:
        program = client("pgbench", ground.settings.postgres_bin)
        made = run([program, "--initialize", "--quiet", f"--scale={SCALE}"], libpq_environment_of(dsn))
        told.append(made.said)
        with place.pooled("pool_stress") as pool:
            pooled = pool.dsn("pool_stress", place.owner, place.passwords[place.owner])
            status = made.exit_status
            for name, many in (("normal", _NORMAL), ("saturated", _MANY)):
                with _watching(pool) as seen:
                    ran = run(
                        [program, f"--client={many}", "--jobs=2", f"--time={ground.seconds}", "--no-vacuum"],
                        libpq_environment_of(pooled),
                    )
                status = status or ran.exit_status
                told.append(ran.said)
                figures |= {f"{name}_{key}": value for key, value in read_pgbench(ran.said).items()}
                figures |= {
                    f"{name}_clients": many,
                    f"{name}_utilisation": round(max((load.utilisation for load in seen), default=0.0), 3),
                    f"{name}_waiting": max((load.waiting for load in seen), default=0),
                    f"{name}_longest_wait_seconds": round(max((load.longest_wait for load in seen), default=0.0), 3),
                }
        figures["pool_size"] = max((load.size for load in seen), default=0)
    yield Finding("tests/performance/pool_stress.log", "\n".join(told), figures, ran.command, status)


@contextmanager
def _watching(pool: PgBouncer) -> Iterator[list[Load]]:
    """Ask the pool over and over how it fares, until the block has ended."""
    seen: list[Load] = []
    enough = threading.Event()

    def watch() -> None:
        while not enough.wait(0.1):
            try:
                seen.append(pool.load())
            except TidegateError:
                # A console that is busy is asked again.
                continue

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        enough.set()
        thread.join(_PATIENCE)


def _require_pool() -> None:
    if pgbouncer.program() is None:
        raise CannotRunError("PgBouncer is not installed on this machine: `bin/bootstrap run` installs it")
