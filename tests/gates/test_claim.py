"""One worker at a time works on a batch, with Redis, without it and when it dies; who comes back late writes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.redis_servers import kill, serve
from tests.shop import MARCH, Shop, orders

from tidegate.contracts import Contract
from tidegate.errors import BusyError, FencedError
from tidegate.gates import claim as claims
from tidegate.gates.claim import claim
from tidegate.gates.judge import judge
from tidegate.ingest.land import land
from tidegate.ingest.stage import stage
from tidegate.publish import batches
from tidegate.settings import Settings
from tidegate.stack.process import Process
from tidegate.stack.redis_server import RedisServer
from tidegate.stores import lease
from tidegate.stores.postgres import Connection
from tidegate.stores.redis import Store


@pytest.fixture
def with_redis(settings: Settings, redis: RedisServer) -> Settings:
    return settings.model_copy(update={"redis_url": SecretStr(redis.url())})


def sessions(shop: Shop) -> list[int]:
    """The warehouse's sessions that hold a lock on a batch."""
    held = "SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    return [row["pid"] for row in shop.query(held)]


def test_a_second_worker_is_turned_away_before_it_asks_the_warehouse(
    with_redis: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with claim(with_redis, "b1") as mine:
        assert mine.token == 1
        with monkeypatch.context() as patch:
            patch.setattr(claims, "connect", None)
            with pytest.raises(BusyError, match="batch b1 is being worked on"), claim(with_redis, "b1"):
                pass
        with claim(with_redis, "b2") as other:
            assert other.token == 2
    with claim(with_redis, "b1") as again:
        assert again.token == 3


def test_without_redis_the_warehouse_turns_away_and_numbers(settings: Settings) -> None:
    with claim(settings, "b1") as mine:
        assert mine.token == 1
        with pytest.raises(BusyError), claim(settings, "b1"):
            pass
    with claim(settings, "b1") as again:
        assert again.token == 2


def test_tokens_never_go_back_whatever_redis_forgets(with_redis: Settings, redis: RedisServer) -> None:
    tokens = []
    for _ in range(3):
        with claim(with_redis, "b1") as mine:
            tokens.append(mine.token)
    with Store(redis.url("tester")) as tester:
        tester.client.flushall()
    away = with_redis.model_copy(update={"redis_url": None})
    for settings in (with_redis, away, with_redis, away, away, with_redis):
        with claim(settings, "b1") as mine:
            tokens.append(mine.token)
    assert tokens == sorted(set(tokens))


def test_a_worker_of_this_machine_that_was_killed_keeps_nobody_waiting(with_redis: Settings, store: Store) -> None:
    with subprocess.Popen(["sleep", "60"]) as worker:
        process = Process.of(worker.pid)
        holder = claims._myself().split()
        lease.take(store, "batch b1", f"{holder[0]} {process.pid} {process.created} x")
        with pytest.raises(BusyError), claim(with_redis, "b1"):
            pass
        worker.kill()
    with claim(with_redis, "b1") as mine:
        assert mine.token == 2


WORKER = """
import sys
from tidegate.gates.claim import claim
from tidegate.settings import get_settings
from tidegate.stores import lease
from tidegate.stores.postgres import connect
lease.held.__wrapped__.__defaults__ = (0.5,)
with claim(get_settings(), "b1") as mine:
    print(mine.token, flush=True)
    sys.stdin.readline()
    with connect(get_settings()) as late:
        late.execute("INSERT INTO ops.step (subject, step, started_at, seconds) VALUES ('b1', 'late', now(), 0)")
        mine.check(late)
"""


def test_a_worker_paused_beyond_its_lease_writes_nothing_when_it_comes_back(
    shop: Shop, with_redis: Settings, redis: RedisServer
) -> None:
    environment = {**os.environ, "TIDEGATE_REDIS_URL": redis.url()}
    with subprocess.Popen(
        [sys.executable, "-c", WORKER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as paused:
        assert paused.stdout
        assert paused.stdin
        assert paused.stdout.readline() == "1\n"
        paused.send_signal(signal.SIGSTOP)
        time.sleep(0.7)
        # Its session lives: the warehouse still says who works.
        with pytest.raises(BusyError), claim(with_redis, "b1"):
            pass
        # A failover, or keepalives that nobody answers, end its session: then another worker takes over.
        shop.query("SELECT pg_terminate_backend(%s)", sessions(shop))
        with claim(with_redis, "b1") as mine:
            assert mine.token == 3
            paused.send_signal(signal.SIGCONT)
            _, said = paused.communicate("\n", timeout=20)
        assert paused.returncode == 1
        assert "FencedError: batch b1" in said
        assert "took the work over (token 3)" in said
    assert shop.query("SELECT FROM ops.step WHERE step = 'late'") == []


def test_no_step_keeps_what_it_wrote_after_another_took_over(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, contract, by = shop.settings, shop.contract, {"by": "ada", "why": "seen"}
    enter = claims._enter

    def overtaken(connection: Connection, subject: str, holder: str, number: int) -> int:
        token = enter(connection, subject, holder, number)
        enter(connection, subject, "another 1 1 x", number)
        return token

    def take[Result](step: Callable[[], Result]) -> Result:
        before = shop.states()
        with monkeypatch.context() as patch:
            patch.setattr(claims, "_enter", overtaken)
            with pytest.raises(FencedError, match="another 1 1 x took the work over"):
                step()
        assert shop.states() == before
        return step()

    batch_id = take(lambda: land(settings, contract, "2024-03", shop.file(MARCH))).batch_id
    take(lambda: stage(settings, contract, batch_id))
    take(lambda: judge(settings, contract, batch_id))
    take(lambda: batches.publish(settings, contract, batch_id))
    assert shop.numbers() == [1, 2, 3]
    take(lambda: batches.undo(settings, contract, batch_id, **by))
    bad = land(settings, contract, "2024-04", shop.file(["4,never,Bad,1,,true,", *orders(5, 6, "2024-04")])).batch_id
    stage(settings, contract, bad)
    judge(settings, contract, bad)
    take(lambda: batches.release(settings, bad, **by))
    assert shop.states() == ["undone", "judged"]


def test_rows_that_a_late_worker_copies_are_not_kept(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies run in sessions of their own: they are the writes that outlive the session that held the lock."""
    from tidegate.ingest import stage as stages

    landed = land(shop.settings, shop.contract, "2024-03", shop.file(MARCH))
    copy = stages._copy

    def overtaken(settings: Settings, contract: Contract, *rest: object) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(stages, "_copy", copy)
            shop.query("SELECT pg_terminate_backend(%s)", sessions(shop))
            stage(settings, contract, landed.batch_id)
        return copy(settings, contract, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(stages, "_copy", overtaken)
    with pytest.raises(FencedError):
        stage(shop.settings, shop.contract, landed.batch_id)
    (table,) = shop.staging()
    assert shop.query(f'SELECT count(*) AS rows FROM staging."{table}"') == [{"rows": 3}]


@pytest.fixture
def mortal(reachable_folder: Path) -> Iterator[RedisServer]:
    server = serve(reachable_folder)
    server.start()
    yield server
    server.stop()


def test_redis_killed_in_the_middle_of_a_wave_loses_and_doubles_nothing(shop: Shop, mortal: RedisServer) -> None:
    settings = shop.settings.model_copy(update={"redis_url": SecretStr(mortal.url())})
    landed = land(settings, shop.contract, "2024-03", shop.file(MARCH))
    with claim(settings, "other") as mine:
        kill(mortal)
        stage(settings, shop.contract, landed.batch_id)
        with pytest.raises(BusyError, match="batch other"), claim(settings, "other"):
            pass
        mine.check()
    judge(settings, shop.contract, landed.batch_id)
    mortal.start()
    batches.publish(settings, shop.contract, landed.batch_id)
    assert shop.numbers() == [1, 2, 3]
    tokens = shop.query("SELECT token FROM ops.fence WHERE subject = %s", [f"batch {landed.batch_id}"])
    assert tokens[0]["token"] >= 4


RACER = """
import sys, time
from pathlib import Path
from tidegate.contracts import load
from tidegate.errors import TransientError
from tidegate.ingest.land import land
from tidegate.ingest.stage import stage
from tidegate.settings import get_settings
settings = get_settings()
contract = load(settings, "orders")
print("ready", flush=True)
sys.stdin.readline()
turned_away = 0
while True:
    try:
        batch = stage(settings, contract, land(settings, contract, "2024-03", Path(sys.argv[1])).batch_id)
        print(batch.state, turned_away)
        break
    except TransientError:
        turned_away += 1
        time.sleep(0.05)
"""


def test_workers_that_race_for_one_delivery_take_each_step_once(shop: Shop, redis: RedisServer) -> None:
    file = shop.file(orders(1, 2000))
    environment = {**os.environ, "TIDEGATE_REDIS_URL": redis.url(), "TIDEGATE_LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-c", RACER, file]
    racers = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("\n")
        racer.stdin.flush()
    ended = [racer.communicate(timeout=120)[0].splitlines()[-1].split() for racer in racers]
    assert [state for state, _ in ended] == ["staged", "staged"]
    assert sum(int(turned_away) for _, turned_away in ended) > 0
    taken = shop.query("SELECT step, count(*) AS times FROM ops.step GROUP BY 1 ORDER BY 1")
    assert {row["step"]: row["times"] for row in taken} == {"land": 1, "stage": 1}
    (table,) = shop.staging()
    assert shop.query(f'SELECT count(*) AS rows FROM staging."{table}"') == [{"rows": 2000}]
