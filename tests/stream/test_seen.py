"""The filter in front: a copy falls away before it is sifted, and whatever Redis says or forgets, the rows are the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pydantic import SecretStr
from tests.redis_servers import kill, redis, shared_redis, store
from tests.stream.parcels import Depot, parcel

from tidegate.stack.redis_server import RedisServer
from tidegate.stores.redis import Store
from tidegate.stream import seen
from tidegate.stream.feed import Haul
from tidegate.stream.sieve import Sieve, Sifted

__all__ = ["redis", "shared_redis", "store"]


@pytest.fixture
def skipped(depot: Depot, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages of each haul fell away before the sieve; the depot has a Redis."""
    depot.settings = depot.settings.model_copy(update={"redis_url": SecretStr(redis.url())})
    sift, counts = Sieve.sift, list[int]()

    def counted(sieve: Sieve, haul: Haul, known: Sequence[int] = ()) -> Sifted:
        counts.append(len(known))
        return sift(sieve, haul, known)

    monkeypatch.setattr(Sieve, "sift", counted)
    return counts


def test_copies_fall_away_before_they_are_sifted_and_count_as_known(depot: Depot, skipped: list[int]) -> None:
    depot.agree(share=1)
    for _ in range(2):
        # The same keys, too: copies are the same to the byte.
        depot.sent = 0
        depot.send(*(parcel(n) for n in range(20)), b"?")
        account = depot.drain()
    assert (account.rows, account.known, account.refused) == (0, 20, 1)
    assert skipped == [0, 20]
    # Without a key it is another message, which is refused.
    depot.send(parcel(1), keyed=False)
    assert depot.drain().refused == 1
    assert depot.numbers() == list(range(20))


def test_a_message_that_says_something_else_of_a_key_is_refused_each_time(depot: Depot, skipped: list[int]) -> None:
    depot.agree(share=1)
    depot.send(parcel(1))
    depot.drain()
    for _ in range(2):
        depot.sent = 7
        depot.send(parcel(1, city="Elsewhere"), parcel(2))
        depot.drain()
    assert [message["rule"] for message in depot.refused()] == ["key", "key"]
    assert skipped == [0, 0, 0]
    assert depot.numbers() == [1, 2]


def test_a_micro_batch_that_was_never_committed_makes_nothing_known(depot: Depot, skipped: list[int]) -> None:
    depot.send(parcel(1))
    depot.drain()
    # As after a warehouse was restored to an hour ago, of which Redis knows nothing.
    depot.query("TRUNCATE ops.stream_range, ops.stream_batch, raw.parcel CASCADE")
    depot.sent = 0
    depot.send(parcel(1))
    assert depot.drain().rows == 1
    assert skipped == [0, 0]


def test_without_redis_the_warehouse_tells_copies(
    depot: Depot, skipped: list[int], shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot.send(parcel(1))
    depot.drain()
    kill(shared_redis)
    try:
        depot.sent = 0
        depot.send(parcel(1), parcel(2))
        account = depot.drain()
        assert (account.rows, account.known) == (1, 1)
    finally:
        shared_redis.start()
    assert depot.numbers() == [1, 2]


def test_what_is_remembered_is_forgotten_in_minutes_and_says_nothing_of_anybody(
    depot: Depot, skipped: list[int], store: Store, redis: RedisServer
) -> None:
    depot.send(parcel(1, city="Constantinople"))
    depot.drain()
    with Store(redis.url("tester")) as all_rights:
        (key,) = all_rights.client.keys("tidegate:seen:*")
        assert 0 < all_rights.client.ttl(key) <= seen.REMEMBERED
        assert b"Constantinople" not in key + all_rights.client.get(key)
