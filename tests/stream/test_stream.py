"""A topic is a dataset like any other: its rows, its refusals, its place are written together, once."""

from __future__ import annotations

import json
import threading
from decimal import Decimal

import pytest
from tests.stream.parcels import BEGIN, FRAGILE, NAMESAKES, Depot, parcel

from tidegate.errors import HeldError, SourceError, UsageError
from tidegate.stores.postgres import connect
from tidegate.stream import ledger
from tidegate.stream.worker import Worker, stream_of


def test_a_topics_messages_become_published_rows(depot: Depot) -> None:
    depot.send(*(parcel(n) for n in range(100)))
    account = depot.drain()
    assert (account.messages, account.rows, account.known, account.refused) == (100, 100, 0, 0)
    assert depot.numbers() == list(range(100))
    (row,) = depot.query("SELECT * FROM raw.parcel WHERE parcel_id = 9")
    (batch,) = depot.query("SELECT DISTINCT batch_id FROM ops.stream_batch WHERE batch_id = %s", [row["_batch_id"]])
    assert row == {
        "parcel_id": 9, "seen_on": BEGIN.date(), "seen_at": BEGIN.replace(minute=9), "city": "City 2",
        "weight_kg": Decimal("1.125"), "_partition": "2024-03", "_batch_id": batch["batch_id"],
    }  # fmt: skip


def test_what_was_taken_in_is_not_taken_in_again(depot: Depot) -> None:
    depot.send(*(parcel(n) for n in range(10)))
    depot.drain()
    depot.send(*(parcel(n) for n in range(10, 15)))
    assert depot.drain().messages == 5
    assert depot.drain().messages == 0
    assert depot.numbers() == list(range(15))


def test_the_offsets_are_those_of_the_rows_and_follow_each_other(depot: Depot) -> None:
    for start in range(0, 60, 20):
        depot.send(*(parcel(n) for n in range(start, start + 20)))
        depot.drain()
    spans = depot.query("SELECT * FROM ops.stream_range ORDER BY topic_partition, first_offset")
    for number in (0, 1):
        mine = [span for span in spans if span["topic_partition"] == number]
        assert [span["first_offset"] for span in mine] == [0, *(span["next_offset"] for span in mine[:-1])]
    at = depot.query("SELECT sum(next_offset) AS taken FROM ops.stream_offset")
    assert at[0]["taken"] == 60


def test_a_message_that_comes_twice_is_known(depot: Depot) -> None:
    depot.send(parcel(1), parcel(2), parcel(1), partition=0)
    assert depot.drain().known == 1
    depot.send(parcel(2), parcel(3), partition=1)
    account = depot.drain()
    assert (account.rows, account.known, account.refused) == (1, 1, 0)
    assert depot.numbers() == [1, 2, 3]


def test_another_message_of_a_key_is_refused_not_forgotten(depot: Depot) -> None:
    depot.send(parcel(1), parcel(2), parcel(1, city="Elsewhere"), partition=0)
    assert depot.drain().refused == 1
    depot.send(parcel(2, weight_kg=None), partition=1)
    assert depot.drain().refused == 1
    assert [(json.loads(r["message_value"])["parcel_id"], r["rule"]) for r in depot.refused()] == [
        (1, "key"),
        (2, "key"),
    ]
    assert [r["city"] for r in depot.query("SELECT city FROM raw.parcel ORDER BY parcel_id")] == ["City 1", "City 2"]


def test_rows_of_any_order_land_in_their_partitions_and_late_ones_are_counted(depot: Depot) -> None:
    april = 13 * 60
    depot.send(parcel(april), partition=0)
    depot.drain()
    depot.send(parcel(april + 1), parcel(1), parcel(april - 30), partition=0)
    depot.drain()
    found = depot.query("SELECT parcel_id, _partition FROM raw.parcel ORDER BY parcel_id")
    assert [(row["parcel_id"], row["_partition"]) for row in found] == [
        (1, "2024-03"), (april - 30, "2024-04"), (april, "2024-04"), (april + 1, "2024-04"),
    ]  # fmt: skip
    assert depot.query("SELECT sum(late_count) AS late FROM ops.stream_batch")[0]["late"] == 1


POISON = {
    "no JSON": (b"{", "structure", ""),
    "no object": (b"[1]", "structure", ""),
    "another key": (json.dumps(parcel(1) | {"colour": "red"}).encode(), "structure", ""),
    "no UTF-8": (b'{"city": "\xff"}', "encoding", ""),
    "no value": (None, "empty", ""),
    "too large": (json.dumps(parcel(1, city="x" * 600)).encode(), "too large", ""),
    "missing": (json.dumps(parcel(1, city=...)).encode(), "required", "city"),
    "no number": (json.dumps(parcel(1, weight_kg="heavy")).encode(), "type", "weight_kg"),
    "rounded": (json.dumps(parcel(1, weight_kg=1.00001)).encode(), "type", "weight_kg"),
    "fraction": (json.dumps(parcel(1, parcel_id=1.5)).encode(), "type", "parcel_id"),
    "too long": (json.dumps(parcel(1, city="A city of a long name")).encode(), "max_length", "city"),
    "below": (json.dumps(parcel(1, weight_kg=-1)).encode(), "minimum", "weight_kg"),
    "a NUL": (json.dumps(parcel(1, city="a\0b")).encode(), "type", "city"),
}


def test_every_kind_of_poison_goes_to_quarantine_as_it_came_and_to_the_dead_letters(depot: Depot) -> None:
    messages = [value for value, _, _ in POISON.values()]
    depot.send(parcel(50), *messages, parcel(51), partition=1, headers=[("trace", b"a\xff\0")])
    depot.send(parcel(52), partition=1, keyed=False)
    account = depot.drain()
    assert (account.rows, account.refused) == (2, len(POISON) + 1)
    refused = depot.refused()
    assert [bytes(r["message_value"]) if r["message_value"] is not None else None for r in refused[:-1]] == messages
    assert [(r["rule"], r["column_name"]) for r in refused] == [
        *((rule, column) for _, rule, column in POISON.values()),
        ("null key", ""),
    ]
    assert [r["message_offset"] for r in refused] == [*range(1, len(POISON) + 1), len(POISON) + 2]
    assert refused[0]["headers"] == [["trace", "a\\xff\\u0000"]]
    letters = depot.letters()
    assert [dict(letter.headers)["tidegate.rule"].decode() for letter in letters] == [r["rule"] for r in refused]
    assert [letter.value for letter in letters[:4]] == messages[:4]
    assert all(r["copied_at"] for r in refused)
    assert not depot.query(
        "SELECT 1 FROM ops.stream_offset WHERE topic_partition = 1 AND next_offset <> %s", [len(POISON) + 3]
    )


def test_columns_may_be_called_as_the_parts_of_a_message(depot: Depot) -> None:
    depot.agree(more=NAMESAKES)
    words = {
        name: name.upper()
        for name in ("key", "value", "headers", "line", "document", "texts", "place", "message_offset")
    }
    depot.send(parcel(1, **words), parcel(2, topic_partition="x"), parcel(1, **words), parcel(3, key=1.5, city=...))
    account = depot.drain()
    assert (account.rows, account.known, account.refused) == (2, 1, 1)
    first, second = depot.query("SELECT * FROM raw.parcel ORDER BY parcel_id")
    assert {name: first[name] for name in words} == words
    assert (second["topic_partition"], second["key"]) == ("x", None)
    assert [(r["rule"], r["column_name"]) for r in depot.refused()] == [("required", "city")]


def test_too_large_a_share_holds_the_stream_which_keeps_its_place(depot: Depot) -> None:
    depot.agree(share=0.002)
    depot.send(parcel(1), b"?", b"?", parcel(2), partition=0)
    depot.drain()
    depot.send(parcel(3), b"?", partition=0)
    with pytest.raises(
        HeldError, match=r"3 of the last 6 messages were refused, and schemas/parcel.odcs.yaml:\d+ allows 0.20%"
    ):
        depot.drain()
    with pytest.raises(HeldError, match="the stream parcel is held"):
        depot.drain()
    assert depot.numbers() == [1, 2]
    assert len(depot.refused()) == 2
    with connect(depot.settings) as connection:
        ledger.release(connection, "parcel", by="ada", why="the sender knows")
    assert depot.drain().refused == 1
    depot.send(b"?", b"?", parcel(4), partition=0)
    assert depot.drain().rows == 1
    assert depot.numbers() == [1, 2, 3, 4]
    depot.send(b"?", partition=0)
    with pytest.raises(HeldError):
        depot.drain()


def test_a_contract_that_says_nothing_of_refusals_allows_none(depot: Depot) -> None:
    depot.agree(share=0)
    depot.send(parcel(1), b"?")
    with pytest.raises(HeldError, match=r"allows 0\.00%"):
        depot.drain()


def test_only_a_held_stream_is_released_and_with_a_reason(depot: Depot) -> None:
    with connect(depot.settings) as connection, pytest.raises(UsageError, match="not held"):
        ledger.release(connection, "parcel", by="ada", why="x")
    with connect(depot.settings) as connection, pytest.raises(UsageError, match="reason"):
        ledger.release(connection, "parcel", by="ada", why=" ")


def test_messages_of_two_versions_are_taken_by_the_newer_one(depot: Depot) -> None:
    depot.send(parcel(1), parcel(2, fragile=True), partition=0)
    assert depot.drain().refused == 1
    depot.agree(version="1.1.0", more=FRAGILE)
    depot.send(parcel(3), parcel(4, fragile=False), partition=0)
    assert depot.drain().rows == 2
    found = depot.query("SELECT parcel_id, fragile FROM raw.parcel ORDER BY parcel_id")
    assert [tuple(row.values()) for row in found] == [(1, None), (3, None), (4, False)]


def test_a_worker_takes_up_a_contract_that_changes_while_it_works(depot: Depot) -> None:
    seen = threading.Event()
    worker = Worker(depot.settings, "parcel", told=lambda _: seen.set())
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        depot.send(parcel(1))
        assert seen.wait(30)
        depot.agree(version="1.1.0", more=FRAGILE)
        for number in range(2, 100):
            seen.clear()
            depot.send(parcel(number, fragile=True))
            assert seen.wait(30)
            if worker.account.rows > 1:
                break
        assert depot.query("SELECT DISTINCT fragile FROM raw.parcel WHERE parcel_id > 1") == [{"fragile": True}]
    finally:
        worker.stop.set()
        thread.join()


def test_each_publish_is_told_to_whoever_listens(depot: Depot) -> None:
    with connect(depot.settings, autocommit=True) as listener:
        listener.execute("LISTEN tidegate_stream")
        depot.send(parcel(1), parcel(2))
        depot.drain()
        told = [json.loads(notice.payload) for notice in listener.notifies(timeout=10, stop_after=1)]
    assert [(t["dataset"], t["rows"]) for t in told] == [("parcel", 2)]


def test_a_topic_that_is_not_there_is_named(depot: Depot) -> None:
    depot.topic = "nowhere"
    depot.agree()
    with pytest.raises(SourceError, match="there is no topic nowhere: `tidegate topic create nowhere`"):
        depot.drain()


def test_a_dataset_of_files_is_no_stream(depot: Depot) -> None:
    with pytest.raises(UsageError, match="no dataset 'letters'"):
        stream_of(depot.settings, "letters")
