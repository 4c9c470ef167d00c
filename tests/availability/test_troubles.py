"""Each trouble, caused on a real server: it is seen, with value, limit and what to do, and the platform survives it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.availability.conftest import Pair
from tests.conftest import CHECKOUT

from tidegate.errors import StrategyError
from tidegate.evidence import indexes
from tidegate.observe import alerts, database
from tidegate.observe.database import Finding, Limit, Limits
from tidegate.settings import load_settings
from tidegate.stack import warehouse
from tidegate.stack.pgbouncer import Sizes
from tidegate.stores.postgres import connect_to

MOMENT = Limit(0.5, "here")
LIMITS = Limits.of(load_settings(project=CHECKOUT))
#: What takes minutes in life takes moments here.
SOON = replace(LIMITS, lag=MOMENT, idle=MOMENT, query=MOMENT)


def look(pair: Pair, name: str, limits: Limits = SOON) -> Finding:
    (found,) = [finding for finding in database.check(pair.settings, limits) if finding.name == name]
    return found


def wait_for(pair: Pair, name: str, state: str, limits: Limits = SOON, patience: float = 30) -> Finding:
    deadline = time.monotonic() + patience
    while (found := look(pair, name, limits)).state != state:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    if state == "trouble":
        assert found.value is not None
        assert found.value > found.limit.value
        assert found.advice
        assert found.told in alerts.database([found])
    return found


def test_the_limits_are_those_that_the_strategy_states_where_it_says_so() -> None:
    lines = (CHECKOUT / "strategies/database.md").read_text().splitlines()
    for limit, value, words in (
        (LIMITS.lag, 5, "replication lag > 5s"), (LIMITS.pool, 0.9, "connection pool > 90%"), (LIMITS.disk, 0.8, "disk usage > 80%"),
        (LIMITS.query, 1, "slow queries > 1s"), (LIMITS.archive, 60, "RPO: 1 minute"),
    ):  # fmt: skip
        file, _, line = limit.source.partition(":")
        assert (limit.value, file) == (value, "strategies/database.md")
        assert words in lines[int(line) - 1]
    assert LIMITS.idle.source.startswith("src/tidegate/observe/database.py:")


def test_another_number_in_the_strategy_is_another_limit_and_one_that_is_not_there_is_asked_for(tmp_path: Path) -> None:
    document, settings = tmp_path / "strategies/database.md", load_settings(project=tmp_path)
    document.parent.mkdir()
    text = (CHECKOUT / "strategies/database.md").read_text()
    document.write_text(text.replace("lag > 5s", "lag > 1 min").replace("RPO: 1 minute", "RPO: 30 s"))
    limits = Limits.of(settings)
    assert (limits.lag.value, limits.disk.value, limits.archive.value) == (60, 0.8, 30)
    document.write_text(text.replace(", disk usage > 80%", ""))
    with pytest.raises(StrategyError, match=r"strategies/database\.md states no alert for disk; expected one"):
        Limits.of(settings)


def test_of_a_sound_database_everything_is_seen_and_fine(pair: Pair) -> None:
    pair.ask("SELECT pg_stat_statements_reset()")
    found = json.loads(pair.run("database", "check", "--json").stdout)
    assert {finding["name"] for finding in found["findings"]} == {
        "disk", "pool", "connections", "idle_transaction", "running_query", "mean_query", "wal_archive",
        "replication_lag", "slot",
    }  # fmt: skip
    # How full this machine's disk is, is not the database's doing.
    assert {finding["state"] for finding in found["findings"] if finding["name"] != "disk"} == {"fine"}


def test_a_replica_that_replays_nothing_is_late_and_catches_up(pair: Pair) -> None:
    pair.ask("SELECT pg_wal_replay_pause()", pair.copy)
    try:
        pair.ask("INSERT INTO public.written VALUES (1)")
        assert "replay is paused" in wait_for(pair, "replication_lag", "trouble").told
    finally:
        pair.ask("SELECT pg_wal_replay_resume()", pair.copy)
    wait_for(pair, "replication_lag", "fine")
    assert pair.ask("SELECT n FROM public.written", pair.copy) == [(1,)]


def test_a_replica_that_is_gone_is_told_and_its_slot_keeps_wal_back(pair: Pair) -> None:
    pid = pair.status().services["replica"].pid
    assert pid is not None
    leader = psutil.Process(pid)
    leader.kill()
    psutil.wait_procs([leader], timeout=10)
    wait_for(pair, "replication_lag", "trouble")
    pair.ask("INSERT INTO public.written SELECT generate_series(1, 20000); SELECT pg_switch_wal()")
    limits = replace(SOON, slot=Limit(1 << 20, "here"))
    assert "replica keeps" in wait_for(pair, "slot", "trouble", limits).told
    done = pair.run("database", "check")
    assert (done.exit_code, "replication_lag: `tidegate replication`" in done.output) == (1, True)
    pair.up()
    pair.follows()
    wait_for(pair, "slot", "fine", limits)


def test_a_transaction_that_is_left_open_is_named(pair: Pair) -> None:
    with psycopg.connect(pair.pooled, prepare_threshold=None) as connection:
        connection.execute("INSERT INTO public.written VALUES (1)")
        assert "app (pid" in wait_for(pair, "idle_transaction", "trouble").told
    wait_for(pair, "idle_transaction", "fine")


def test_a_slow_query_is_seen_while_it_runs_and_afterwards(pair: Pair) -> None:
    pair.ask("SELECT pg_stat_statements_reset()")
    with psycopg.connect(pair.pooled, autocommit=True, prepare_threshold=None) as connection:
        connection.pgconn.send_query(b"SELECT pg_sleep(2.5)")
        assert "app (pid" in wait_for(pair, "running_query", "trouble").told
        while connection.pgconn.get_result():
            pass
    assert "on average" in wait_for(pair, "mean_query", "trouble").told
    with connect_to(warehouse.reach(pair.settings).dsn("warehouse"), autocommit=True) as connection:
        plans = {row["statement"]: row["plan"] for row in indexes.slowest(connection) or []}
    assert plans["SELECT pg_sleep($1)"][0].startswith("Result")
    pair.ask("SELECT pg_stat_statements_reset()")
    wait_for(pair, "mean_query", "fine")


def test_a_pool_that_is_taken_whole_is_seen_and_its_clients_are_served_later(pair: Pair) -> None:
    size = Sizes.of(100).per_user
    clients = [psycopg.connect(pair.pooled, prepare_threshold=None) for _ in range(size)]
    try:
        for client in clients:
            client.execute("SELECT 1")
        assert f"{size} of" in wait_for(pair, "pool", "trouble").told
    finally:
        for client in clients:
            client.close()
    wait_for(pair, "pool", "fine")
    assert pair.ask("SELECT 1", pair.pooled) == [(1,)]


def test_connections_that_are_used_up_are_seen_and_the_pool_goes_on(pair: Pair) -> None:
    address = warehouse.reach(pair.settings).dsn(
        "warehouse", "app", str(psycopg.conninfo.conninfo_to_dict(pair.pooled)["password"])
    )
    assert pair.ask("SELECT 1", pair.pooled) == [(1,)]  # it has a connection by now
    clients: list[psycopg.Connection[object]] = []
    try:
        with suppress(psycopg.OperationalError):
            for _ in range(200):
                clients.append(psycopg.connect(address))
        assert 20 < len(clients) < 100
        assert "connections are taken" in wait_for(pair, "connections", "trouble").told
        assert pair.ask("SELECT 1", pair.pooled) == [(1,)]
    finally:
        for client in clients:
            client.close()
    wait_for(pair, "connections", "fine")


def test_an_archive_that_fails_is_seen_and_fills_up_again(pair: Pair) -> None:
    pair.ask("ALTER SYSTEM SET archive_command = 'false'")
    pair.ask("SELECT pg_reload_conf()")
    try:
        pair.ask("INSERT INTO public.written VALUES (1)")
        pair.ask("SELECT pg_switch_wal()")
        assert "cannot archive its WAL" in wait_for(pair, "wal_archive", "trouble").told
        assert pair.ask("SELECT n FROM public.written") == [(1,)]
    finally:
        pair.ask("ALTER SYSTEM RESET archive_command")
        pair.ask("SELECT pg_reload_conf()")
    wait_for(pair, "wal_archive", "fine", patience=90)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount four megabytes; yields whether that could be done."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=False, capture_output=True
    )
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_nearly_full_is_seen(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as is_small:
        limits = (
            LIMITS if is_small else replace(LIMITS, disk=Limit(0.0, "here"))
        )  # where nothing may be mounted, any disk is too full
        if is_small:
            assert database.disk("disk", tmp_path / "disk", limits).state == "fine"
            (tmp_path / "disk/full").write_bytes(b"x" * (3_500_000))
        found = database.disk("disk", tmp_path / "disk", limits)
        assert found.state == "trouble"
        assert found.value is not None
        assert 0 < found.value <= 1


def test_what_is_known_already_is_not_told_again_until_it_was_over(pair: Pair) -> None:
    bad = Finding("lag", "trouble", 9, Limit(5, "here"), "s", "late", "look")
    assert database.news(pair.settings, [bad]) == [bad]
    assert database.news(pair.settings, [bad]) == []
    assert database.news(pair.settings, [replace(bad, state="fine")]) == []
    assert database.news(pair.settings, [bad]) == [bad]
    (pair.home / "database-troubles.json").unlink()
