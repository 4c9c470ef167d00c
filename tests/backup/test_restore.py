"""What was committed comes back, to the row and to the moment, whatever has happened to the server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.backup.conftest import Kept

from tidegate.backup import compare, drill, shelf, take, wal
from tidegate.backup.moment import Moment
from tidegate.backup.restore import restore
from tidegate.errors import BackupError, BusyError, StackError, UsageError
from tidegate.settings import load_settings
from tidegate.stack import warehouse
from tidegate.stack.secret import Secrets


def fingerprints(dsn: str) -> compare.Fingerprints:
    with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
        return compare.fingerprints(connection)


def test_a_restore_equals_its_source_and_a_difference_is_found(kept: Kept, reachable_folder: Path) -> None:
    taken = kept.json("take")["taken"]
    kept.write("after the backup")
    source = fingerprints(kept.superuser)
    place = reachable_folder / "beside"
    told = kept.json("restore", "--into", str(place))
    assert told["backup_id"] == taken["backup_id"]
    dsn = told["dsn"].replace("tidegate@", f"tidegate:{Secrets.load(kept.home).warehouse_password}@")
    assert {"core.bulk", "core.kept", "ops.backup", "ops.batch"} <= source.keys()
    assert compare.differences(source, fingerprints(dsn)) == []
    assert kept.names(dsn) == ["after the backup"]

    kept.ask("UPDATE core.bulk SET md5 = 'x' WHERE g = 7", dsn)
    (found,) = compare.differences(source, fingerprints(dsn))
    assert found.startswith("core.bulk: 50000 rows")

    subprocess.run(told["stop"], shell=True, check=True, capture_output=True)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)
    refused = kept.run("restore", "--into", str(place))
    assert isinstance(refused.exception, UsageError)
    assert f"{place} is not empty" in str(refused.exception)
    assert (place / "data/PG_VERSION").exists()


def test_a_restore_stops_at_the_very_transaction(kept: Kept) -> None:
    take.take(kept.settings)
    time, lsn = kept.write("A")
    kept.write("B")
    for moment in (time, lsn):
        restored = restore(kept.settings, Moment.read(moment))
        try:
            assert kept.names(restored.server.dsn("warehouse")) == ["A"]
            # It is a server like any other, and hands its WAL to nobody.
            kept.ask("INSERT INTO core.kept VALUES ('C')", restored.server.dsn("warehouse"))
            assert kept.ask("SHOW archive_mode", restored.server.dsn()) == [("off",)]
        finally:
            restored.remove()
        assert not restored.server.directory.parent.exists()
    assert kept.names() == ["A", "B"]


def test_a_moment_without_a_backup_before_it_is_refused(kept: Kept) -> None:
    with pytest.raises(UsageError, match=r"no backup leads to 2001-01-01.*the oldest of those asked for ended at"):
        restore(kept.settings, Moment.read("2001-01-01T00:00:00+00:00"))
    with pytest.raises(UsageError, match="lies in the future"):
        Moment.read("2999-01-01T00:00:00+00:00")
    with pytest.raises(UsageError, match="'yesterday' is no moment: expected a time such as"):
        Moment.read("yesterday")
    with pytest.raises(BackupError, match=r"F/0 was not reached: the WAL that was kept .* ends before it"):
        restore(kept.settings, Moment.read("F/0"))


def test_in_place_the_warehouse_goes_back_and_the_one_before_is_archived(kept: Kept) -> None:
    take.take(kept.settings)
    time, _ = kept.write("A")
    kept.write("B")
    refused = kept.run("restore", "--in-place", "--to", time)
    assert "Nothing was done: say --yes-i-mean-it" in str(refused.exception)
    assert kept.names() == ["A", "B"]

    told = kept.json("restore", "--in-place", "--to", time, "--yes-i-mean-it")
    assert kept.names() == ["A"]
    assert (Path(told["old"]) / "PG_VERSION").exists()
    # The new timeline goes on where the old one was left: no gap from the backup before it to now.
    kept.write("C")
    wal.flush(warehouse.reach(kept.settings), wal.Archive(kept.archive))
    take.verify(kept.settings, shelf.find(kept.settings, None))
    restored = restore(kept.settings, Moment())
    try:
        assert kept.names(restored.server.dsn("warehouse")) == ["A", "C"]
    finally:
        restored.remove()
    # Rows of the ledger that the restore took back are there again.
    rows = kept.ask("SELECT count(*) FROM ops.backup WHERE removed_at IS NULL")
    assert rows == [(len(shelf.backups(kept.settings)),)]


def test_of_a_server_killed_under_writes_nothing_that_was_acknowledged_is_lost(kept: Kept) -> None:
    take.take(kept.settings)
    # Its archiver is behind when it dies.
    kept.ask("ALTER SYSTEM SET archive_command = 'false'")
    kept.ask("SELECT pg_reload_conf()")
    acknowledged: list[str] = []

    def write() -> None:
        with psycopg.connect(kept.superuser, autocommit=True) as connection:
            for number in range(1_000_000):
                connection.execute("INSERT INTO core.kept SELECT %s", [f"{number:07}"])
                acknowledged.append(f"{number:07}")
                if number % 100 == 0:
                    connection.execute("SELECT pg_switch_wal()")

    def until_it_dies() -> None:
        with pytest.raises(psycopg.OperationalError):
            write()

    writer = threading.Thread(target=until_it_dies)
    writer.start()
    while len(acknowledged) < 350:
        assert writer.is_alive()
    leader = psutil.Process(kept.postgres_pid)
    os.kill(leader.pid, signal.SIGKILL)
    psutil.wait_procs([leader], timeout=30)
    writer.join()
    # Its machine is lost, too, but not its disk: the last segment was not handed over to anybody.
    kept.run("restore", "--in-place", "--yes-i-mean-it")
    assert set(acknowledged) <= set(kept.names())

    kept.up()
    wal.flush(warehouse.reach(kept.settings), wal.Archive(kept.archive))
    take.verify(kept.settings, shelf.find(kept.settings, None))


def test_a_lost_data_directory_comes_back_as_far_as_its_wal_was_kept(kept: Kept) -> None:
    kept.write("A")
    wal.flush(warehouse.reach(kept.settings), wal.Archive(kept.archive))
    leader = psutil.Process(kept.postgres_pid)
    os.kill(leader.pid, signal.SIGKILL)
    psutil.wait_procs([leader], timeout=30)
    shutil.rmtree(kept.home / "postgres")
    assert kept.json("restore", "--in-place", "--yes-i-mean-it")["old"] is None
    assert kept.names() == ["A"]


def test_a_drill_proves_every_row_and_measures_what_a_lost_disk_would_cost(kept: Kept) -> None:
    take.take(kept.settings)
    kept.write("A")
    before = sorted((kept.home / "restored").iterdir())
    kept.ask("ALTER SYSTEM SET archive_timeout = '2s'")
    kept.ask("SELECT pg_reload_conf()")
    try:
        found = drill.drill(kept.settings)
    finally:
        kept.ask("ALTER SYSTEM RESET archive_timeout")
        kept.ask("SELECT pg_reload_conf()")
    assert [(v.rule, v.verdict) for v in found.verdicts] == [
        ("what was restored equals its source", "PASS"), ("RTO", "PASS"), ("RPO", "PASS"),
    ]  # fmt: skip
    assert [(v.target, v.target_source.partition(":")[0]) for v in found.verdicts[1:]] == [
        ("< 15 min", "strategies/database.md"), ("<= 1 min", "strategies/database.md"),
    ]  # fmt: skip
    assert found.rows >= 50_001
    assert 0 < found.rpo < 10
    assert 0 < found.rto < 60
    assert kept.ask(f"SELECT count(*) FROM ops.verdict WHERE evidence_sha256 = '{found.evidence.sha256}'") == [(3,)]
    assert sorted((kept.home / "restored").iterdir()) == before


def test_a_drill_gives_way_to_a_writer(kept: Kept) -> None:
    with psycopg.connect(kept.superuser) as connection:
        connection.execute("INSERT INTO core.kept VALUES ('under way')")
        with pytest.raises(BusyError, match="a batch is being written"):
            drill.drill(kept.settings)


def test_a_warehouse_that_is_not_ours_is_left_to_whoever_runs_it(kept: Kept) -> None:
    with pytest.raises(StackError, match="whoever runs it backs it up"):
        take.take(load_settings(home=kept.home, warehouse_url="postgresql://127.0.0.1:9/warehouse"))
