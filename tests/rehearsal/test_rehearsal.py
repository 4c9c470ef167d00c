"""A rehearsal is the warehouse without its people: the same rows, its own doors, and nothing comes back from it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr
from tests.conftest import PASSWORD
from tests.whole import PROGRAM, Typed, eventually

from tidegate.backup import compare
from tidegate.errors import UnavailableError
from tidegate.rehearsal import clone, rehearsal
from tidegate.rehearsal.rehearsal import Rehearsal
from tidegate.settings import Settings
from tidegate.stack import warehouse
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_role
from tidegate.stack.secret import Secrets
from tidegate.stores.postgres import connect


def ask(dsn: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        cursor = connection.execute(query)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def of_superuser(found: Rehearsal) -> str:
    return found.dsn("postgres")


def test_it_holds_every_row_of_the_warehouse(original: Typed, rehearsed: Rehearsal) -> None:
    def held(dsn: str) -> compare.Fingerprints:
        with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
            return compare.fingerprints(connection)

    mine, its = held(original.superuser), held(of_superuser(rehearsed))
    assert {name: rows for name, (rows, _) in mine.items()} == {name: rows for name, (rows, _) in its.items()}
    assert compare.differences(mine, its) == [
        line for line in compare.differences(mine, its) if line.startswith("raw.bookings:")
    ]
    assert mine["raw.bookings"][0] == 200


def test_nobody_is_told_of_in_it(original: Typed, rehearsed: Rehearsal) -> None:
    people = ask(original.superuser, "SELECT DISTINCT passenger_name, birth_on FROM raw.bookings")
    names = {row["passenger_name"] for row in people} | {"Grace Canary", "grace@nowhere"}
    program = rehearsed.primary.programs().folder / "pg_dump"
    dumped = subprocess.run([program, of_superuser(rehearsed)], capture_output=True, text=True, check=True).stdout
    assert "raw.bookings" in dumped
    assert not [name for name in names if name in dumped]
    # Nor do the files still hold them in rows that are dead.
    ask(of_superuser(rehearsed), "CHECKPOINT")
    kept = b"".join(file.read_bytes() for file in (rehearsed.primary.directory / "base").rglob("*") if file.is_file())
    assert b"2013-01" in kept
    assert not [name for name in names if name.encode() in kept]
    # What was one person's stays one person's, so that plans and counts hold.
    pairs = "SELECT count(DISTINCT passenger_name) AS names, count(*) FILTER (WHERE birth_on IS NULL) AS unborn FROM raw.bookings"
    assert ask(original.superuser, pairs) == ask(of_superuser(rehearsed), pairs)


def test_no_password_of_the_one_opens_the_other(original: Typed, rehearsed: Rehearsal) -> None:
    theirs = Secrets.load(original.home)
    for user, password in [
        ("tidegate", theirs.warehouse_password),
        ("postgres", theirs.postgres_password),
        *theirs.logins.items(),
    ]:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(rehearsed.primary.dsn("warehouse", user, password))
    for user, password in rehearsed.passwords.items():
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(warehouse.reach(original.settings).dsn("warehouse", user, password))


def test_until_it_is_masked_only_the_superuser_is_let_in(original: Typed, reachable_folder: Path) -> None:
    folder = reachable_folder / "half"
    folder.mkdir(mode=0o711)
    half = clone.of_files(warehouse.reach(original.settings), folder, "half")
    try:
        assert ask(half.dsn("warehouse"), "SELECT count(*) AS n FROM raw.bookings") == [{"n": 200}]
        with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
            psycopg.connect(half.dsn("warehouse", "tidegate", Secrets.load(original.home).warehouse_password))
    finally:
        half.stop()


def test_its_replica_follows_it(rehearsed: Rehearsal) -> None:
    ask(of_superuser(rehearsed), "CREATE TABLE public.followed AS SELECT 1 AS n")
    replica = rehearsed.replica.dsn("warehouse")
    assert eventually(lambda: ask(replica, "SELECT to_regclass('public.followed')::text AS t")[0]["t"]) == "followed"
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        ask(replica, "DROP TABLE public.followed")


def test_what_is_destroyed_in_it_is_whole_in_the_warehouse(original: Typed, rehearsed: Rehearsal) -> None:
    ask(of_superuser(rehearsed), "DROP SCHEMA raw CASCADE")
    assert ask(original.superuser, "SELECT count(*) AS n FROM raw.bookings") == [{"n": 200}]
    rehearsal.down(original.settings, lambda _: None)
    assert not rehearsed.folder.exists()
    assert rehearsal.look(original.settings) is None


def test_one_that_was_killed_while_it_was_made_is_made_anew(original: Typed) -> None:
    environment = {**os.environ, "TIDEGATE_HOME": str(original.home), "TIDEGATE_PROJECT": str(original.project)}
    folder = warehouse.place_of(original.settings, rehearsal.FOLDER)
    with subprocess.Popen([PROGRAM, "rehearsal", "up"], env=environment, start_new_session=True) as making:
        eventually((folder / "primary/postmaster.pid").exists)
        making.send_signal(signal.SIGKILL)
    said: list[str] = []
    found = rehearsal.up(original.settings, said.append)
    assert "what was left of the last one is gone" in "\n".join(said)
    assert ask(of_superuser(found), "SELECT count(*) AS n FROM raw.bookings") == [{"n": 200}]


def test_a_second_up_finds_the_first(original: Typed) -> None:
    rehearsal.up(original.settings, lambda _: None)
    began = time.time()
    assert rehearsal.up(original.settings, lambda _: None).made_at.timestamp() < began


def test_a_disk_that_would_be_too_full_is_said_beforehand(
    original: Typed, reachable_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clone, "_FULL", 0.01)
    with pytest.raises(UnavailableError, match=r"needs \d+ MiB of disk \(\d+ MiB are free\).* more than 1% full"):
        clone.needs(original.settings, reachable_folder, 2)


def test_a_warehouse_of_somebody_elses_is_rehearsed_from_a_dump_by_who_sees_every_row(
    settings: Settings, postgres: PostgresServer, reachable_folder: Path
) -> None:
    settings = settings.model_copy(update={"home": reachable_folder / "managed"})
    database = str(settings.warehouse_url.get_secret_value()).rpartition("/")[2] if settings.warehouse_url else ""
    with connect(settings) as connection:
        connection.execute("CREATE TABLE raw.gate (n integer PRIMARY KEY); INSERT INTO raw.gate VALUES (7)")
        connection.execute("ALTER TABLE raw.gate ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    with pytest.raises(
        UnavailableError, match=r"row-level security.*Name a login that sees every row in TIDEGATE_DUMP_URL"
    ):
        rehearsal.up(settings, lambda _: None)
    with psycopg.connect(postgres.dsn(), autocommit=True) as administrator:
        ensure_role(administrator, "backup", PASSWORD)
        administrator.execute(f"GRANT CONNECT ON DATABASE {database} TO backup")  # type: ignore[call-overload]
    settings = settings.model_copy(update={"dump_url": SecretStr(postgres.dsn(database, "backup", PASSWORD))})
    try:
        found = rehearsal.up(settings, lambda _: None)
        assert found.source == "rows"
        assert ask(of_superuser(found), "SELECT n FROM raw.gate") == [{"n": 7}]
        assert ask(found.dsn("readonly"), "SELECT count(*) AS n FROM ops.batch") == [{"n": 0}]
        assert eventually(lambda: ask(found.replica.dsn("warehouse"), "SELECT n FROM raw.gate")) == [{"n": 7}]
    finally:
        rehearsal.down(settings, lambda _: None)
