"""One holder at a time, numbered upwards; who does not show signs of life loses the lease, who is forgotten keeps it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.redis_servers import kill, serve

from tidegate.errors import BusyError, UnavailableError
from tidegate.stack.redis_server import RedisServer
from tidegate.stores import lease
from tidegate.stores.redis import Store


def test_of_many_that_ask_at_once_one_holds_it(redis: RedisServer) -> None:
    def ask(number: int) -> str:
        with Store(redis.url()) as own:
            try:
                return f"token {lease.take(own, 'it', f'holder {number}').token}"
            except BusyError:
                return "busy"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(24)))
    assert sorted(answers) == ["busy"] * 23 + ["token 1"]


def test_asking_again_gives_the_same_token_for_an_answer_may_have_been_lost(store: Store) -> None:
    assert lease.take(store, "it", "me").token == lease.take(store, "it", "me").token == 1


def test_tokens_go_up_over_all_that_is_leased(store: Store) -> None:
    taken = [lease.take(store, name, "me") for name in ("a", "b", "c")]
    assert [one.token for one in taken] == [1, 2, 3]
    assert [one.subject for one in lease.everybody(store)] == ["a", "b", "c"]


def test_a_lease_runs_out_and_its_old_holder_can_neither_renew_nor_release_it(store: Store) -> None:
    old = lease.take(store, "it", "old", seconds=0.05)
    time.sleep(0.06)
    new = lease.take(store, "it", "new")
    assert new.token > old.token
    assert not lease.renew(store, old)
    assert not lease.release(store, old)
    assert lease.find(store, "it").holder == "new"  # type: ignore[union-attr]


def test_a_working_holder_keeps_it_beyond_its_time_and_gives_it_back(store: Store) -> None:
    with lease.held(store, "it", "me", seconds=0.3):
        time.sleep(0.8)
        with pytest.raises(BusyError, match=r"it is being worked on by another process \(me, token 1\)"):
            lease.take(store, "it", "other")
    assert lease.everybody(store) == []
    assert lease.take(store, "it", "other").token == 2


def test_a_holder_that_redis_has_forgotten_is_put_back_with_its_token(redis: RedisServer, store: Store) -> None:
    for _ in range(3):
        lease.release(store, lease.take(store, "it", "earlier"))
    mine = lease.take(store, "it", "me")
    with Store(redis.url("tester")) as tester:
        tester.client.flushall()
    assert lease.renew(store, mine)
    assert lease.find(store, "it").token == mine.token == 4  # type: ignore[union-attr]
    with pytest.raises(BusyError):
        lease.take(store, "it", "other")
    assert lease.take(store, "else", "other").token == 5


def test_a_lease_that_another_has_had_since_is_not_put_back(store: Store) -> None:
    old = lease.take(store, "it", "old", seconds=0.01)
    time.sleep(0.02)
    lease.release(store, lease.take(store, "it", "new"))
    assert not lease.renew(store, old)
    assert lease.find(store, "it") is None


def test_what_dead_workers_left_is_swept_after_an_hour(redis: RedisServer, store: Store) -> None:
    lease.take(store, "fresh", "dead", seconds=0.01)
    with Store(redis.url("tester")) as tester:
        tester.client.hset(lease.LEASES, "old", '{"holder": "dead", "token": 1, "since": 0, "ends": 1}')
    lease.take(store, "it", "me")
    assert [one.subject for one in lease.everybody(store)] == ["fresh", "it"]


def test_what_was_granted_two_seconds_before_a_kill_9_is_there_after_it(reachable_folder: Path) -> None:
    """Not what came later: while the disk is synchronised, Redis answers before it has written (gates.claim makes up for it)."""
    server = serve(reachable_folder)
    server.start()
    try:
        with Store(server.url()) as store:
            taken = [lease.take(store, f"it {number}", "me") for number in range(5)]
        time.sleep(2.5)
        kill(server)
        server.start()
        with Store(server.url()) as store:
            assert [one.subject for one in lease.everybody(store)] == [one.subject for one in taken]
            assert lease.take(store, "last", "me").token == 6
    finally:
        server.stop()


def test_a_redis_that_is_gone_is_told_with_the_next_step_and_without_the_password(reachable_folder: Path) -> None:
    server = serve(reachable_folder)
    with Store(server.url()) as store, pytest.raises(UnavailableError, match=r"`tidegate up --with redis`") as told:
        lease.take(store, "it", "me")
    assert server.password not in str(told.value)
