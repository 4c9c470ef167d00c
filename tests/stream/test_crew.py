"""Workers share a topic's partitions by locks of the warehouse, which end with whoever holds them."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from tidegate.settings import Settings
from tidegate.stores.postgres import connect
from tidegate.stream import crew
from tidegate.stream.crew import Crew


@pytest.mark.parametrize(("partitions", "workers"), [(1, 1), (1, 3), (4, 2), (5, 3), (8, 3), (2, 2)])
def test_every_partition_has_one_worker_and_the_shares_are_even(
    settings: Settings, partitions: int, workers: int
) -> None:
    numbers = range(partitions)
    with ExitStack() as stack:
        crews = []
        for _ in range(workers):
            crews.append(Crew(stack.enter_context(connect(settings)), "parcel"))
            for each in [*crews, *crews]:
                each.share(numbers)
        shares = [each.share(numbers) for each in crews]
    assert sorted(number for share in shares for number in share) == list(numbers)
    assert max(map(len, shares)) <= -(-partitions // workers)


def test_what_a_worker_read_is_free_when_its_connection_ends(settings: Settings) -> None:
    with connect(settings) as ours:
        mine = Crew(ours, "parcel")
        with connect(settings) as theirs:
            other = Crew(theirs, "parcel")
            other.share(range(4))
            assert len(mine.share(range(4))) == 2
            assert crew.count(ours, "parcel") == 2
        # The server notices a moment later that somebody has gone.
        deadline = time.monotonic() + 30
        while crew.count(ours, "parcel") > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert mine.share(range(4)) == {0, 1, 2, 3}


def test_workers_of_other_datasets_take_nothing_away(settings: Settings) -> None:
    with connect(settings) as ours, connect(settings) as theirs:
        assert Crew(ours, "parcel").share(range(3)) == {0, 1, 2}
        assert Crew(theirs, "letter").share(range(3)) == {0, 1, 2}
