"""The replica: it follows, takes no writes, comes back after whatever happened to it, and fills no disk."""

from __future__ import annotations

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import psycopg
import pytest
from psycopg import errors
from tests.availability.conftest import Pair

from tidegate.stack import replica, standby, warehouse
from tidegate.stack.cluster import FIRST, SECOND, Cluster
from tidegate.stack.secret import Secrets


def kill(pid: int | None) -> None:
    assert pid is not None
    leader = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([leader], timeout=30)


def shows(pair: Pair, row: int) -> bool:
    """What is committed now is soon seen on the replica."""
    pair.ask(f"INSERT INTO public.written VALUES ({row})")
    pair.follows()
    return pair.ask(f"SELECT n FROM public.written WHERE n = {row}", pair.copy) == [(row,)]


def test_the_replica_shows_what_the_primary_has_and_takes_no_write(pair: Pair) -> None:
    assert shows(pair, 1)
    with pytest.raises(errors.ReadOnlySqlTransaction):
        pair.ask("INSERT INTO public.written VALUES (2)", pair.copy)
    found = pair.json("replication")
    assert [(slot["name"], slot["active"], slot["wal_status"]) for slot in found["slots"]] == [
        ("replica", True, "reserved")
    ]
    assert 0 < found["slots"][0]["safe_wal_size"] < 5 << 30
    assert found["replica"]["timeline"] == found["timeline"]
    assert pair.settings.replica_url is not None
    with psycopg.connect(pair.settings.replica_url.get_secret_value()) as connection:
        assert connection.execute("SELECT current_user, pg_is_in_recovery()").fetchone() == ("readonly", True)


def test_its_role_may_read_the_wal_and_nothing_else(pair: Pair) -> None:
    row = pair.ask(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls, rolreplication FROM pg_roles WHERE rolname = 'replication'"
    )
    assert row == [(False, False, False, False, True)]
    secret = Secrets.load(pair.home).replication_password
    for database in ("warehouse", "airflow", "postgres"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(warehouse.reach(pair.settings).dsn(database, standby.ROLE, secret))
    pid = pair.status().services["replica"].pid
    assert secret not in " ".join(psutil.Process(pid).cmdline())
    assert secret not in (pair.home / "postgres-2/tidegate.conf").read_text()


def test_down_and_up_bring_it_back(pair: Pair) -> None:
    pair.down()
    assert pair.status().services["replica"].state == "stopped"
    pair.up()
    assert "copied" not in pair.said
    assert shows(pair, 1)


def test_a_replica_killed_with_9_is_started_again(pair: Pair) -> None:
    kill(pair.status().services["replica"].pid)
    assert pair.status().services["replica"].state == "dead"
    pair.ask("INSERT INTO public.written VALUES (1)")
    pair.up()
    assert "copied" not in pair.said
    pair.follows()
    assert pair.ask("SELECT n FROM public.written", pair.copy) == [(1,)]


def test_a_replica_whose_slot_is_gone_catches_up_from_the_archive(pair: Pair) -> None:
    kill(pair.status().services["replica"].pid)
    pair.ask("SELECT pg_drop_replication_slot('replica')")
    for row in range(3):
        pair.ask(f"INSERT INTO public.written VALUES ({row}); SELECT pg_switch_wal(); CHECKPOINT")
    pair.up()
    assert "copied" not in pair.said
    assert shows(pair, 9)


def test_a_replica_that_has_gone_its_own_way_is_brought_back(pair: Pair) -> None:
    """Somebody has promoted it by hand and written to it: what it has alone is not the warehouse's."""
    twin = replica.reach(pair.settings)
    standby.promote(twin)
    pair.ask("INSERT INTO public.written VALUES (666)", twin.dsn("warehouse"))
    pair.ask("INSERT INTO public.written VALUES (1)")
    twin.stop()
    pair.up()
    assert "replica: the replica cannot follow: it has gone its own way (timeline" in pair.said
    assert "replica: rewound" in pair.said or "replica: rebuilt" in pair.said
    assert shows(pair, 2)
    assert pair.ask("SELECT n FROM public.written ORDER BY n", pair.copy) == [(1,), (2,)]


@pytest.mark.parametrize("damage", ["its files are gone", "a file is missing"])
def test_a_replica_that_cannot_be_mended_is_made_anew(pair: Pair, damage: str) -> None:
    pair.ask("INSERT INTO public.written VALUES (1)")
    kill(pair.status().services["replica"].pid)
    folder = replica.mine(pair.settings).directory
    if damage == "a file is missing":
        (folder / "global/pg_control").unlink()
    else:
        shutil.rmtree(folder)
    pair.up()
    assert "replica: copied from the primary" in pair.said
    assert shows(pair, 2)
    assert list(pair.home.glob("*.copying-*")) == []


def test_commits_wait_for_a_synchronous_replica_and_up_does_not_hang_when_it_is_gone(pair: Pair) -> None:
    pair.elsewhere["replica_synchronous"] = "true"
    pair.up()
    pair.ask("INSERT INTO public.written VALUES (1)")
    found = pair.json("replication")
    assert (found["synchronous"], found["standbys"][0]["sync_state"]) == ("FIRST 1 (replica)", "sync")
    kill(pair.status().services["replica"].pid)
    with psycopg.connect(pair.superuser, autocommit=True) as connection, ThreadPoolExecutor(1) as client:
        waiting = client.submit(connection.execute, "INSERT INTO public.written VALUES (2)")
        time.sleep(0.7)
        assert not waiting.done()
        connection.cancel()
        waiting.result(10)
    pair.up()
    assert shows(pair, 3)


def test_a_replica_that_is_not_wanted_any_more_goes_with_its_slot(pair: Pair) -> None:
    done = pair.run("up", "--without", "replica")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "replica: not wanted any more, removed" in done.output
    assert not (pair.home / SECOND).exists()
    assert pair.ask("SELECT slot_name FROM pg_replication_slots") == []
    assert "replica" not in pair.status().services
    assert pair.settings.replica_url is None
    done = pair.run("up", "--with", "replica")
    assert done.exit_code == 0, (done.output, done.exception)
    assert shows(pair, 1)


def test_a_lost_decision_is_read_off_the_directories(pair: Pair) -> None:
    kept = Cluster.load(pair.home)
    (pair.home / "cluster.json").unlink()
    assert Cluster.load(pair.home) == kept == Cluster(pair.home, FIRST, True)
