"""When a stream's DAG is due: messages wait that nobody takes in, or workers took some in that no run has looked at."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dags.wiring import messages
from dags.wiring.messages import MessagesWait
from tests.stream.parcels import Depot, parcel, until
from tests.stream.test_poor_conditions import working

from tidegate.stream import worker
from tidegate.stream.reconcile import reconcile


def due(depot: Depot) -> Any:
    return MessagesWait("parcel")._due().get("why")


def test_a_run_is_due_while_messages_wait_and_none_when_it_has_looked_at_all(depot: Depot) -> None:
    assert due(depot) is None
    depot.send(*(parcel(n) for n in range(5)))
    assert due(depot) == "waiting"
    worker.drain(depot.settings, "parcel")
    assert due(depot) == "waiting"  # to be judged, reconciled, told of
    reconcile(depot.settings, depot.contract)
    assert due(depot) is None


def test_what_workers_take_in_is_looked_at_while_they_work_and_a_run_takes_nothing_from_them(depot: Depot) -> None:
    depot.send(parcel(1))
    with working(depot) as at_it:
        until(lambda: at_it.account.rows == 1)
        assert due(depot) == "taken in"
        worker.drain(depot.settings, "parcel")
        assert at_it.account.partitions == (0, 1)
        reconcile(depot.settings, depot.contract)
        assert due(depot) is None
        depot.send(parcel(2))
        until(lambda: at_it.account.rows == 2)
        assert due(depot) == "taken in"


def test_a_held_stream_is_due_for_nothing(depot: Depot) -> None:
    depot.agree(share=0)
    depot.send(b"?")
    with pytest.raises(worker.HeldError):
        depot.drain()
    assert due(depot) is None


def test_the_same_messages_are_told_once_and_again_when_no_run_took_them_in(
    depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "LOOK_EVERY", 0.05)
    depot.send(parcel(1))

    async def told(seconds: float) -> list[dict[str, Any]]:
        found = []

        async def listen() -> None:
            async for event in MessagesWait("parcel").run():
                found.append(event.payload)

        try:
            await asyncio.wait_for(listen(), seconds)
        except TimeoutError:
            return found
        raise AssertionError("a trigger ended by itself")

    once = asyncio.run(told(3))
    assert [event["why"] for event in once] == ["waiting"]
    monkeypatch.setattr(messages, "AGAIN_AFTER", 0.2)
    assert len(asyncio.run(told(3))) > 1
