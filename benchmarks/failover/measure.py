"""Failover under write load, ten times with synchronous commit and ten times without.

    .venv/bin/python -m benchmarks.failover.measure [--rounds 10]

Two servers on disks that are waited for, PgBouncer before them, four clients that insert a row a transaction and note
each that was acknowledged. The primary is ended by kill -9, `failover()` is called, the old one is wound back and
follows; then the other way round.

- failover: from the call to a promoted server that takes writes and to which the pool leads.
- outage: from the kill to the first row that is acknowledged again to any client. Nobody has to notice the kill here:
  what a watcher takes for that comes on top.
- rejoin: from then until the old primary follows again.
- lost: rows that were acknowledged and are not on the promoted server.

Which of both modes a run has alternates. Written beside this file: results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.machine import describe
from tidegate.evidence import clients
from tidegate.stack import pool as pools
from tidegate.stack import port, standby
from tidegate.stack.failover import failover
from tidegate.stack.pgbouncer import PgBouncer
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database, ensure_role
from tidegate.stack.standby import Link

HERE = Path(__file__).parent
CLIENTS = 4
#: Seconds for which clients write before the kill, and after the failover.
BEFORE, AFTER = 1.5, 0.5
PASSWORD = secrets.token_hex(24)


@dataclass
class Pair:
    """Two servers, which of them is the primary, and the pool before it."""

    primary: PostgresServer
    replica: PostgresServer
    pool: PgBouncer
    link: Link = field(repr=False)


@contextmanager
def pair() -> Iterator[Pair]:
    """Have a primary with a replica that follows, and a pool; all of it goes at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-")).resolve()
    folder.chmod(0o711)
    taken: set[int] = set()

    def free() -> int:
        taken.add(port.choose(22000, folder, taken))
        return max(taken)

    password = secrets.token_hex(24)
    one, other = (PostgresServer(folder / name, password, folder / f"{name}.log", free()) for name in ("one", "other"))
    pool = PgBouncer(folder / "pool", secrets.token_hex(24), folder / "pool.log", free())
    try:
        one.start()
        with psycopg.connect(one.dsn(), autocommit=True) as connection:
            ensure_role(connection, "app", PASSWORD)
            ensure_database(connection, "warehouse", "app")
        with psycopg.connect(one.dsn("warehouse", "app", PASSWORD)) as connection:
            connection.execute(clients.TABLE)
        link = Link(secrets.token_hex(24))
        standby.admit(one, link)
        standby.copy(one, other, link)
        standby.start(one, other, link)
        pools.lead_to(pool, one)
        pool.start()
        yield Pair(one, other, pool, link)
    finally:
        pool.stop()
        other.stop()
        one.stop()
        shutil.rmtree(folder)


def once(two: Pair, *, synchronous: bool) -> dict[str, Any]:
    """Kill the primary under load and fail over; return the figures, the two having changed places."""
    standby.insist(two.primary, synchronous)
    with psycopg.connect(two.primary.dsn("warehouse")) as connection:
        connection.execute("TRUNCATE public.written")
    with clients.writing(two.pool.dsn("warehouse", "app", PASSWORD), CLIENTS) as writers:
        time.sleep(BEFORE)
        process = two.primary.running()
        assert process is not None
        leader = psutil.Process(process.pid)
        killed = time.monotonic()
        os.kill(process.pid, signal.SIGKILL)
        psutil.wait_procs([leader], timeout=30)
        called = time.monotonic()
        done = failover(two.primary, two.replica, two.link, pool=two.pool, synchronous=synchronous)
        two.primary, two.replica = two.replica, two.primary
        time.sleep(AFTER)
    noted = clients.acknowledged(writers)
    with psycopg.connect(two.primary.dsn("warehouse")) as connection:
        found = {row for (row,) in connection.execute("SELECT n FROM public.written").fetchall()}
    # Sessions of a killed server go on for a moment: until the fence, answers are the old one's.
    again = min(when for when in noted.values() if when > called + done.fenced_seconds)
    return {
        "synchronous": synchronous,
        "failover_seconds": round(done.seconds, 3),
        "promoted_seconds": round(done.promoted_seconds, 3),
        "outage_seconds": round(again - killed, 3),
        "rejoin_seconds": round(done.rejoin_seconds, 3),
        "rejoined": done.rejoined,
        "acknowledged_before": sum(when < again for when in noted.values()),
        "lost": len(noted.keys() - found),
    }


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return P50 and the slowest of each figure, and all that was lost, by mode."""
    found = []
    for synchronous in (True, False):
        mine = [run for run in runs if run["synchronous"] == synchronous]
        seconds = {
            name: {"p50": round(statistics.median(run[name] for run in mine), 2), "max": max(run[name] for run in mine)}
            for name in ("failover_seconds", "outage_seconds", "rejoin_seconds")
        }
        lost = {
            "runs": len(mine),
            "acknowledged": sum(run["acknowledged_before"] for run in mine),
            "lost": sum(run["lost"] for run in mine),
            "lost_at_most": max(run["lost"] for run in mine),
        }
        found.append({"synchronous": synchronous, **lost, **seconds})
    return found


def main() -> None:
    """Measure, write results.json, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="of each mode")
    rounds = parser.parse_args().rounds
    described, runs = describe(), []
    with pair() as two:
        for number in range(2 * rounds):
            runs.append(once(two, synchronous=number % 2 == 0))
            print(runs[-1], flush=True)
    summary = summarise(runs)
    (HERE / "results.json").write_text(
        json.dumps({"machine": described, "clients": CLIENTS, "summary": summary, "runs": runs}, indent=1) + "\n"
    )
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
