"""The pool: who is let in, what happens when there are more clients than connections, and draining."""

from __future__ import annotations

import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import psycopg
import pytest
from tests.availability.conftest import Pair, end, write

from tidegate.errors import BusyError
from tidegate.stack import pgbouncer, pool, roles, scram
from tidegate.stack.pgbouncer import Sizes
from tidegate.stack.postgres_databases import ensure_role
from tidegate.stack.secret import Secrets

CLIENTS = 80


def test_the_pool_leaves_half_of_the_server_to_direct_connections_and_never_takes_more_than_100() -> None:
    assert Sizes.of(100) == Sizes(clients=500, per_user=25, in_all=50)
    assert Sizes.of(1000).in_all == 100
    assert Sizes.of(4).in_all == 2


def test_a_verifier_knows_its_password_and_no_other() -> None:
    kept = scram.verifier("secret")
    assert scram.matches(kept, "secret")
    assert not scram.matches(kept, "Secret")
    assert not scram.matches(None, "secret")


def test_a_server_keeps_the_verifier_of_a_password_that_stays(pair: Pair) -> None:
    def kept() -> list[tuple[object, ...]]:
        return pair.ask("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")

    before = kept()
    assert scram.matches(str(before[0][0]), Secrets.load(pair.home).logins["app"])
    with psycopg.connect(pair.superuser, autocommit=True) as connection:
        ensure_role(connection, "app", Secrets.load(pair.home).logins["app"])
        assert kept() == before
        ensure_role(connection, "app", "d0d0ca" * 8)
        assert kept() != before
        ensure_role(connection, "app", Secrets.load(pair.home).logins["app"])
    pair.up()  # and the pool learns it


def test_status_and_env_name_the_pooled_address_and_only_env_its_password(pair: Pair) -> None:
    found = pair.json("status")
    address = found["services"]["pgbouncer"]["address"]
    assert found["pool_dsn"] == f"postgresql://app@{address}/warehouse"
    password = Secrets.load(pair.home).logins["app"]
    assert f"export TIDEGATE_POOL_URL=postgresql://app:{password}@{address}/warehouse" in pair.run("env").stdout
    assert password not in str(found)


def test_the_pools_secrets_are_in_no_argument_and_no_readable_file(pair: Pair) -> None:
    running = pool.of(pair.settings).running()
    assert running is not None
    folder, secrets = pair.home / "pgbouncer", Secrets.load(pair.home)
    words = " ".join(psutil.Process(running.pid).cmdline()) + (pair.home / "logs/pgbouncer.log").read_text()
    told = words + "".join(file.read_text() for file in folder.iterdir())
    for secret in (secrets.pool_password, secrets.logins["app"], secrets.postgres_password):
        assert secret not in told
    assert stat.S_IMODE((folder / "userlist.txt").stat().st_mode) == 0o600


@pytest.mark.parametrize("login", ["postgres", "backup", "replication", "nobody"])
def test_superusers_dumps_replicas_and_strangers_are_not_let_in(pair: Pair, login: str) -> None:
    secrets = Secrets.load(pair.home)
    known = {"postgres": secrets.postgres_password, "replication": secrets.replication_password, **secrets.logins}
    address = pool.mine(pair.settings).dsn("warehouse", login, known.get(login, "x"))
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(address)


def test_a_login_that_is_made_while_the_pool_runs_is_let_in_at_once(pair: Pair) -> None:
    who = roles.credentials(pair.settings, "readonly", "B6")
    with psycopg.connect(pool.mine(pair.settings).dsn("warehouse", who["PGUSER"], who["PGPASSWORD"])) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("readonly_B6",)


def test_more_clients_than_connections_are_all_answered(pair: Pair) -> None:
    per_user = Sizes.of(100).per_user
    together = threading.Barrier(CLIENTS + 1)
    seen: list[pgbouncer.Load] = []

    def client(number: int) -> int:
        with psycopg.connect(pair.pooled, autocommit=True, prepare_threshold=None) as connection:
            together.wait(60)
            row = connection.execute("SELECT %s::int FROM pg_sleep(0.4)", [number]).fetchone()
            assert row is not None
            return int(row[0])

    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = [clients.submit(client, number) for number in range(CLIENTS)]
        together.wait(60)
        while not all(answer.done() for answer in answers):
            seen.append(pool.mine(pair.settings).load())
            time.sleep(0.05)
        assert sorted(answer.result() for answer in answers) == list(range(CLIENTS))
    fullest = max(seen, key=lambda load: (load.busy, load.waiting))
    assert 0 < fullest.waiting <= CLIENTS - per_user
    assert fullest.busy == per_user
    assert fullest.utilisation == 1.0
    assert fullest.longest_wait > 0
    assert pool.mine(pair.settings).load().waiting == 0


def test_in_normal_load_less_than_four_fifths_of_the_pool_is_taken(pair: Pair) -> None:
    writers = write(pair.pooled, 10)
    seen = [pool.mine(pair.settings).load() for _ in range(20) if not time.sleep(0.05)]
    end(writers)
    assert 0 < max(load.utilisation for load in seen) < 0.8
    assert [writer.failures for writer in writers] == [[]] * 10


def test_postgresql_is_restarted_behind_the_pool_without_a_failed_query(pair: Pair) -> None:
    before = pair.postgres_pid
    writers = write(pair.pooled, 4)
    done = pair.run("pool", "restart")
    assert done.exit_code == 0, (done.output, done.exception)
    for writer in writers:
        writer.wait_for(20)
    acknowledged = end(writers)
    assert pair.postgres_pid != before
    assert [writer.failures for writer in writers] == [[]] * 4
    assert max(writer.slowest for writer in writers) > 0.1  # that was the restart
    assert {n for (n,) in pair.ask("SELECT n FROM public.written")} == acknowledged


def test_a_drained_pool_holds_clients_back_until_it_is_resumed(pair: Pair) -> None:
    assert pair.run("pool", "drain").exit_code == 0
    assert pair.json("pool", "status")["load"]["paused"]
    assert pair.ask("SELECT 1 FROM pg_stat_activity WHERE usename = 'app'") == []
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(pair.ask, "SELECT 42", pair.pooled)
        time.sleep(0.3)
        assert not answer.done()
        assert pair.run("pool", "drain").exit_code == 0  # twice is once
        assert pair.run("pool", "resume").exit_code == 0
        assert answer.result(10) == [(42,)]


def test_a_transaction_that_does_not_end_is_not_cut_by_draining(pair: Pair) -> None:
    with psycopg.connect(pair.pooled, prepare_threshold=None) as connection:
        connection.execute("INSERT INTO public.written VALUES (1)")
        done = pair.run("pool", "drain", "--patience", "0.3")
        assert isinstance(done.exception, BusyError)
        assert pair.ask("SELECT 1", pair.pooled) == [(1,)]
    assert pair.ask("SELECT n FROM public.written") == [(1,)]


def test_a_killed_pool_is_started_again_at_the_same_address(pair: Pair) -> None:
    running = pool.of(pair.settings).running()
    assert running is not None
    leader = psutil.Process(running.pid)
    leader.kill()
    psutil.wait_procs([leader], timeout=10)
    assert pair.status().services["pgbouncer"].state == "dead"
    address = pair.pooled
    pair.up()
    assert pair.pooled == address
    assert pair.ask("SELECT 1", address) == [(1,)]


def test_without_pgbouncer_everything_else_runs_and_it_is_said(
    pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair.down()
    with monkeypatch.context() as patch:
        patch.setattr(pgbouncer, "_PLACES", ())
        patch.setenv("PATH", "/usr/bin:/bin")
        settings = pair.up()
        assert "pgbouncer: not installed" in pair.said
        assert settings.pool_url is None
        assert pair.status().services["pgbouncer"].state == "not installed"
        assert "PgBouncer is not installed" in str(pair.run("pool", "status").exception)
        pair.down()
