"""A warehouse that dies, a disk that is full, clocks that jump: a stream waits, and then nothing is lost or there twice."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.postgres_servers import kill
from tests.stream.parcels import Depot, in_the_middle, parcel, until, working

from tidegate.stack.postgres import PostgresServer
from tidegate.stream import ledger
from tidegate.stream.reconcile import reconcile


def test_a_warehouse_killed_while_a_stream_writes_is_waited_for(
    depot: Depot, doomed: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = list[psutil.Process]()
    in_the_middle(monkeypatch, lambda _: dead.append(kill(doomed)))
    depot.send(*(parcel(n) for n in range(100)))
    with working(depot) as worker:
        until(lambda: worker.account.trouble is not None)
        psutil.wait_procs(dead, timeout=10)
        doomed.start()
        depot.send(*(parcel(n) for n in range(100, 150)))
        until(lambda: worker.account.trouble is None and depot.numbers() == list(range(150)))
    assert reconcile(depot.settings, depot.contract).rows == 150


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk of its own is root's to make")
def test_a_full_disk_is_waited_for(depot: Depot, doomed: PostgresServer, reachable_folder: Path) -> None:
    disk = reachable_folder / "small"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        shutil.chown(disk, pwd.getpwuid(doomed.directory.stat().st_uid).pw_name)
        with psycopg.connect(doomed.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
            connection.execute("ALTER DATABASE warehouse SET default_tablespace = small")
        sent = 20_000
        depot.send(*(parcel(n) for n in range(sent)))
        with working(depot) as worker:
            until(lambda: "disk is full" in str(worker.account.trouble))
            assert len(depot.numbers()) < sent
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            until(lambda: len(depot.numbers()) == sent)
        assert reconcile(depot.settings, depot.contract).rows == sent
        with psycopg.connect(doomed.dsn(), autocommit=True) as connection:
            connection.execute("DROP DATABASE warehouse WITH (FORCE)")
            connection.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_clock_that_jumps_loses_no_row_and_no_news(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's clock, the sender's, and the warehouse's: its stamps order nothing that somebody must be told."""
    now = time.time
    told: ledger.News | None = None
    for number, jump in enumerate([0.0, 86_400.0, -86_400.0, 0.0]):
        monkeypatch.setattr(time, "time", lambda jump=jump: now() + jump)
        first = 10 * number
        depot.send(*(parcel(n) for n in range(first, first + 10)), timestamp_ms=int((now() - jump) * 1000))
        depot.drain()
        stamp = f"committed_at = committed_at + interval '{jump} seconds'"
        newest = ledger.newest_batch(depot.settings, "parcel")
        depot.query(f"UPDATE ops.stream_batch SET {stamp} WHERE batch_id = '{newest}'")
        told = ledger.since(depot.settings, depot.contract, told.seen if told else None)
        assert (told.batch_id, told.rows) == (newest, 10)
    assert depot.numbers() == list(range(40))
    assert reconcile(depot.settings, depot.contract).rows == 40
    (waited,) = depot.query("SELECT min(latency_p50_seconds) AS least FROM ops.stream_batch")
    assert waited["least"] >= 0


def test_what_becomes_visible_late_is_told_all_the_same(depot: Depot) -> None:
    """Two workers: the transaction that began first ends last, with the older stamp."""
    depot.send(parcel(1), partition=0)
    depot.drain()
    (row,) = depot.query("SELECT * FROM ops.stream_batch")
    names = ", ".join(name for name in row if name not in ("batch_id", "transaction_id"))
    again = (
        f"INSERT INTO ops.stream_batch (batch_id, {names}) SELECT %s, {names} FROM ops.stream_batch WHERE batch_id = %s"
    )
    assert depot.settings.warehouse_url is not None
    with psycopg.connect(depot.settings.warehouse_url.get_secret_value()) as slow:
        slow.execute(again, ["slow", row["batch_id"]])
        depot.query(again, ["quick", row["batch_id"]])
        before = ledger.since(depot.settings, depot.contract, None)
        assert (before.batch_id, before.rows) == ("quick", 2)
    late = ledger.since(depot.settings, depot.contract, before.seen)
    assert (late.batch_id, late.rows) == ("slow", 1)
    assert ledger.since(depot.settings, depot.contract, late.seen).rows == 0
