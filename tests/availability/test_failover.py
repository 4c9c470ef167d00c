"""Failover: no acknowledged row is lost, clients go on, the old primary never writes again before it was wound back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import errors
from tests.availability.conftest import Pair, end, write

from tidegate.errors import StackError, UsageError
from tidegate.stack import failover as failing
from tidegate.stack import pool as pools
from tidegate.stack import port, replica, standby, warehouse
from tidegate.stack.failover import Failover, failover
from tidegate.stack.pgbouncer import PgBouncer
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database, ensure_role
from tidegate.stack.standby import Link

CLIENTS = 4
PASSWORD = "7ea5e7" * 8


def kill(server: PostgresServer) -> None:
    process = server.running()
    assert process is not None
    leader = psutil.Process(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs([leader], timeout=30)


def rows(server: PostgresServer) -> set[int]:
    with psycopg.connect(server.dsn("warehouse")) as connection:
        return {row[0] for row in connection.execute("SELECT n FROM public.written")}


@dataclass
class Two:
    """Two servers that wait for the disk, a pool before them, and which is the primary."""

    primary: PostgresServer
    replica: PostgresServer
    pool: PgBouncer
    link: Link

    @property
    def address(self) -> str:
        return self.pool.dsn("warehouse", "app", PASSWORD)

    def fail_over(self, **options: object) -> Failover:
        done = failover(self.primary, self.replica, self.link, pool=self.pool, **options)  # type: ignore[arg-type]
        self.primary, self.replica = self.replica, self.primary
        return done

    def settle(self, patience: float = 15) -> None:
        """The replica has soon shown everything."""
        deadline = time.monotonic() + patience
        while (lag := self.lag()) != 0:
            assert time.monotonic() < deadline, lag
            time.sleep(0.02)

    def lag(self) -> int | None:
        with psycopg.connect(self.primary.dsn()) as connection:
            (lag,) = connection.execute(
                "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) FROM pg_stat_replication"
            ).fetchone() or (None,)
            return lag


@pytest.fixture(scope="module")
def servers(reachable_folder: Path) -> Iterator[Two]:
    folder = reachable_folder / "two"
    folder.mkdir(mode=0o711)
    taken: set[int] = set()
    small = {"shared_buffers": "64MB", "max_connections": "40"}
    made = []
    for name in ("one", "other"):
        number = port.choose(22000, folder, taken)
        taken.add(number)
        made.append(PostgresServer(folder / name, "test", folder / f"{name}.log", number, settings=small))
    one, other = made
    one.start()
    with psycopg.connect(one.dsn(), autocommit=True) as connection:
        ensure_role(connection, "app", PASSWORD)
        ensure_database(connection, "warehouse", "app")
    link = Link("c0ffee" * 8)
    standby.admit(one, link)
    standby.copy(one, other, link)
    standby.start(one, other, link)
    pool = PgBouncer(folder / "pool", "console", folder / "pool.log", port.choose(22000, folder, taken))
    pools.lead_to(pool, one)
    pool.start()
    with psycopg.connect(one.dsn("warehouse")) as connection:
        connection.execute("CREATE TABLE public.written (n bigint PRIMARY KEY)")
        connection.execute("GRANT ALL ON public.written TO app")
    yield Two(one, other, pool, link)
    pool.stop()
    one.stop()
    other.stop()


@pytest.fixture
def two(servers: Two) -> Two:
    with psycopg.connect(servers.primary.dsn("warehouse")) as connection:
        connection.execute("TRUNCATE public.written")
    return servers


def test_with_synchronous_commit_no_acknowledged_row_is_missing_after_kill_9(two: Two) -> None:
    standby.insist(two.primary, True)
    writers = write(two.address, CLIENTS)
    for writer in writers:
        writer.wait_for(50)
    killed, old = two.primary, two.primary.directory
    kill(killed)
    done = two.fail_over()
    for writer in writers:
        writer.wait_for(20)
    acknowledged = end(writers)
    assert acknowledged <= rows(two.primary)
    assert len(acknowledged) > CLIENTS * 70
    # Who was in the midst of a transaction has noticed; the others have waited in the pool.
    assert any(writer.failures for writer in writers)
    assert done.timeline == 2
    assert done.seconds < 10
    # The old one follows by rewinding, and commits wait for it again.
    assert (done.rejoined, done.synchronous, two.replica.directory) == ("rewound", True, old)
    assert standby.is_standby(two.replica)
    two.settle()
    assert rows(two.replica) == rows(two.primary)
    assert slots(two.replica) == []
    print(json.dumps(vars(done)))


def slots(server: PostgresServer) -> list[tuple[object, ...]]:
    with psycopg.connect(server.dsn()) as connection:
        return connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall()


def test_with_asynchronous_commit_what_is_lost_is_counted(two: Two) -> None:
    """The replica hears nothing of the last commits, as when the network between the two was down."""
    standby.insist(two.primary, False)
    writers = write(two.address, 1)
    receiver = next(
        c for c in psutil.Process(process_of(two.replica)).children() if "walreceiver" in " ".join(c.cmdline())
    )
    receiver.suspend()
    writers[0].wait_for(100)
    acknowledged = end(writers)
    kill(two.primary)
    receiver.kill()
    psutil.wait_procs([receiver], timeout=10)
    two.replica.stop()
    two.replica.settings = {**two.replica.settings, "primary_conninfo": ""}
    two.replica.start()
    done = two.fail_over()
    missing = acknowledged - rows(two.primary)
    assert len(missing) >= 100
    assert done.lost_transactions == len(missing)
    assert done.lost_bytes is not None
    assert 0 < done.lost_bytes < 1 << 20
    assert done.rejoined == "rewound"
    two.settle()
    assert rows(two.replica) == rows(two.primary)


def process_of(server: PostgresServer) -> int:
    process = server.running()
    assert process is not None
    return process.pid


def test_a_living_primary_hands_everything_over_and_pooled_clients_see_no_error(two: Two) -> None:
    writers = write(two.address, CLIENTS)
    done = two.fail_over()
    for writer in writers:
        writer.wait_for(20)
    acknowledged = end(writers)
    assert [writer.failures for writer in writers] == [[]] * CLIENTS
    assert rows(two.primary) == acknowledged
    assert done.lost_transactions == 0


def test_an_old_primary_that_is_started_again_takes_no_write(two: Two) -> None:
    """Whoever starts it, with whatever configuration: its directory says that it is a standby."""
    old = two.primary
    kill(old)
    two.fail_over(follow=False)
    assert old.standby_mark.exists()
    old.settings = {"shared_buffers": "64MB", "max_connections": "40"}
    old.start()
    with (
        psycopg.connect(old.dsn("warehouse"), autocommit=True) as connection,
        pytest.raises(errors.ReadOnlySqlTransaction),
    ):
        connection.execute("INSERT INTO public.written VALUES (1)")
    old.stop()
    failing.rejoin.rejoin(two.primary, two.replica, two.link, print)
    two.settle()
    assert rows(two.replica) == rows(two.primary)


def test_without_a_running_replica_the_primary_stays_as_it_is(two: Two) -> None:
    two.replica.stop()
    with pytest.raises(StackError, match="no running replica to promote"):
        failover(two.primary, two.replica, two.link, pool=two.pool)
    assert not standby.is_standby(two.primary)
    standby.start(two.primary, two.replica, two.link)


def test_an_old_primary_whose_files_are_gone_is_made_anew(two: Two) -> None:
    kill(two.primary)
    two.primary.end_orphans()
    shutil.rmtree(two.primary.directory)
    done = two.fail_over()
    assert (done.rejoined, done.lost_bytes) == ("rebuilt", None)
    two.settle()


def test_the_command_fails_over_and_backups_go_on_from_the_new_primary(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(pair.run("failover").exception, UsageError)
    before = dict.fromkeys(("pg_basebackup", "pgbackrest"))
    for tool in before:
        monkeypatch.setenv("TIDEGATE_BACKUP_TOOL", tool)
        before[tool] = pair.json("backup", "take", "--kind", "full")["taken"]["backup_id"]
    pair.ask("INSERT INTO public.written VALUES (1)")
    pair.follows()
    kill(warehouse.reach(pair.settings))
    done = pair.json("failover", "--yes-i-mean-it")
    assert done["rejoined"] == "rewound"
    assert done["lost_transactions"] == 0
    pair.ask("INSERT INTO public.written VALUES (2)", pair.pooled)
    pair.follows()
    assert pair.ask("SELECT n FROM public.written ORDER BY n", pair.copy) == [(1,), (2,)]
    # Which is which outlives a restart of everything.
    pair.down()
    pair.up()
    assert warehouse.reach(pair.settings).directory.name == "postgres-2"
    assert not standby.is_standby(warehouse.reach(pair.settings))
    assert standby.is_standby(replica.reach(pair.settings))
    assert pair.ask("SELECT n FROM public.written ORDER BY n") == [(1,), (2,)]
    # Backups of before are whole and without a gap, and new ones come from the new primary.
    for tool, backup_id in before.items():
        monkeypatch.setenv("TIDEGATE_BACKUP_TOOL", tool)
        assert pair.json("backup", "verify", str(backup_id))["verified_at"]
        taken = pair.json("backup", "take")["taken"]
        assert taken["timeline"] == done["timeline"]
        assert taken["verified_at"]
    # And a backup of before leads across the failover to a row of after it.
    monkeypatch.setenv("TIDEGATE_BACKUP_TOOL", "pg_basebackup")
    restored = pair.json("backup", "restore", str(before["pg_basebackup"]))
    server = PostgresServer(
        Path(restored["folder"]) / "data", warehouse.reach(pair.settings).password, Path(os.devnull)
    )
    assert server.running()
    assert rows(server) == {1, 2}
    server.stop()


@pytest.mark.parametrize("moment", ["fenced", "decided"])
def test_a_failover_that_is_cut_short_leaves_one_primary(
    pair: Pair, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the machine dies in the middle: `up` ends it, and every row is there."""
    pair.ask("INSERT INTO public.written VALUES (1)")
    pair.follows()
    primary, twin = warehouse.reach(pair.settings), replica.reach(pair.settings)

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "decided":
            patch.setattr(standby, "promote", dies)
        else:
            patch.setattr(replica.Cluster, "save", dies)
        assert isinstance(pair.run("failover", "--yes-i-mean-it").exception, (SystemExit, KeyboardInterrupt))
    assert primary.standby_mark.exists()
    assert twin.standby_mark.exists()
    kill(twin)
    pair.up()
    assert "an interrupted failover was ended" in pair.said
    now = warehouse.reach(pair.settings)
    assert now.directory == (twin if moment == "decided" else primary).directory
    assert not standby.is_standby(now)
    assert standby.is_standby(replica.reach(pair.settings))
    pair.follows()
    assert rows(now) == rows(replica.reach(pair.settings)) == {1}
