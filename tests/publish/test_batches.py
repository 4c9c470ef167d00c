"""A batch becomes visible at once and once; what a person decides about it is done and written down."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.contracts.command import run
from tests.publish.showroom import crowd, url
from tests.shop import MARCH, Shop, orders

from tidegate.errors import BusyError, HeldError, SourceError, UsageError
from tidegate.gates.judge import judge
from tidegate.ingest.land import land
from tidegate.ingest.stage import stage
from tidegate.publish.batches import publish, release, undo

BAD = ["7,2024-03-07,Eve,-1,,true,"]
COUNT = "SELECT count(*), count(DISTINCT _batch_id) FROM raw.orders WHERE _partition = '2024-03'"


def step_by_step(shop: Shop, rows: list[str], upto: int = 4, partition: str = "2024-03") -> str:
    """Take a delivery through its first steps; return the batch."""
    contract, file = shop.contract, shop.file(rows)
    batch = land(shop.settings, contract, partition, file).batch_id
    for step in (stage, judge, publish)[: upto - 1]:
        step(shop.settings, contract, batch)
    return batch


def batch_of(shop: Shop, state: str) -> str:
    (row,) = shop.query("SELECT batch_id FROM ops.batch WHERE state = %s", [state])
    return str(row["batch_id"])


def decisions(shop: Shop) -> list[tuple[Any, ...]]:
    found = shop.query("SELECT subject, action, decided_by, why FROM ops.decision ORDER BY decision_id")
    return [tuple(row.values()) for row in found]


def test_autovacuum_keeps_away_from_a_batch_only_until_it_is_published(shop: Shop) -> None:
    """It would make publishing wait a second, for it gives a table up only at the deadlock timeout."""
    options = (
        "SELECT relnamespace::regnamespace::text, reloptions FROM pg_class WHERE relkind = 'r' AND relname LIKE %s"
    )
    batch = step_by_step(shop, MARCH, upto=3)
    assert [tuple(r.values()) for r in shop.query(options, [f"%{batch}"])] == [("staging", ["autovacuum_enabled=off"])]
    publish(shop.settings, shop.contract, batch)
    assert [tuple(r.values()) for r in shop.query(options, [f"%{batch}"])] == [("raw", None)]


@pytest.fixture
def held(shop: Shop) -> str:
    """A batch that its gate holds, over one that is published."""
    shop.ingest(MARCH)
    with pytest.raises(HeldError):
        shop.ingest([*MARCH[:1], *BAD])
    return batch_of(shop, "held")


def test_every_step_run_again_from_anywhere_ends_in_the_same_rows(shop: Shop) -> None:
    batch = step_by_step(shop, orders(1, 50))
    published, verdicts = shop.checksum(), shop.query("SELECT count(*) AS n FROM ops.verdict")
    contract = shop.contract
    for again in (stage, judge, publish):
        again(shop.settings, contract, batch)
        assert shop.checksum() == published
    for upto in (1, 2, 3, 4):
        assert step_by_step(shop, orders(1, 50), upto) == batch
        assert shop.checksum() == published
    assert shop.query("SELECT count(*) AS n FROM ops.verdict") == verdicts
    assert shop.states() == ["published"]
    assert shop.staging() == []


@pytest.mark.parametrize("upto", [1, 2, 3])
def test_a_batch_that_stopped_after_any_step_goes_on_to_the_same_rows(shop: Shop, upto: int) -> None:
    batch = step_by_step(shop, orders(1, 50), upto)
    assert shop.published() == []
    assert shop.ingest(orders(1, 50)).batch_id == batch
    assert shop.numbers() == list(range(1, 51))
    assert shop.staging() == []


def test_undo_returns_to_the_batch_before_and_from_there_to_the_one_before_that(shop: Shop) -> None:
    seen = {}
    for last in (3, 4, 5):
        shop.ingest(orders(1, last))
        seen[last] = shop.checksum()
    for last in (4, 3):
        ended = run("batch", "undo", batch_of(shop, "published"), "--why", f"back to {last}", "--as", "Ada")
        assert ended.exit_code == 0
        assert f"readers see batch {batch_of(shop, 'published')} again" in ended.output
        assert shop.checksum() == seen[last]
    last_one = batch_of(shop, "published")
    assert "the partition has no rows now" in run("batch", "undo", last_one, "--why", "all wrong").output
    assert shop.published() == []
    assert shop.states() == ["undone"] * 3
    assert [decision[1:] for decision in decisions(shop)][:2] == [
        ("undo", "Ada", "back to 4"),
        ("undo", "Ada", "back to 3"),
    ]
    again = run("batch", "undo", last_one, "--why", "again")
    assert again.exit_code == 1
    assert f"batch {last_one} is undone, not published: there is nothing to undo" in again.output
    with pytest.raises(
        SourceError, match="was published once and is undone: delivering it again does not bring it back"
    ):
        shop.ingest(orders(1, 3))
    shop.ingest(orders(1, 6))
    assert shop.numbers() == [1, 2, 3, 4, 5, 6]


def test_a_held_batch_is_shown_released_and_published(shop: Shop, held: str) -> None:
    listed = run("batch", "list", "--state", "held", "--dataset", "orders", "--json")
    assert [row["batch_id"] for row in json.loads(listed.output)] == [held]
    assert held in run("batch", "list").output
    shown = run("batch", "show", held[:6])
    assert shown.exit_code == 0
    for word in (held, "held", "refused rows", "FAIL", "schemas/orders.odcs.yaml:"):
        assert word in shown.output, word
    document = json.loads(run("batch", "show", held, "--json").output)
    assert document["batch"]["state"] == "held"
    assert {v["verdict"] for v in document["verdicts"]} == {"PASS", "FAIL"}

    released = run("batch", "release", held[:6], "--why", "known to the sender", "--as", "Ada")
    assert released.exit_code == 0
    assert released.output.endswith(f"orders 2024-03: batch {held} is published, released by Ada\n")
    assert shop.numbers() == [1]
    assert decisions(shop) == [(held, "release", "Ada", "known to the sender")]
    # Typed again it is no second decision.
    assert run("batch", "release", held, "--why", "twice", "--as", "Bob").exit_code == 0
    assert len(decisions(shop)) == 1
    assert "known to the sender" in run("batch", "show", held).output


def test_a_held_batch_is_rejected_for_good(shop: Shop, held: str) -> None:
    before = shop.checksum()
    rejected = run("batch", "reject", held, "--why", "negative amounts", "--as", "Ada")
    assert (rejected.exit_code, rejected.output) == (0, f"orders 2024-03: batch {held} is rejected by Ada\n")
    assert decisions(shop) == [(held, "reject", "Ada", "negative amounts")]
    assert shop.staging() == []
    archived = shop.query(
        "SELECT count(*) AS n FROM pg_class WHERE relnamespace = 'archive'::regnamespace AND relkind='r'"
    )
    assert archived == [{"n": 1}], "nothing is deleted"
    for command in ("release", "reject"):
        late = run("batch", command, held, "--why", "changed my mind")
        assert late.exit_code == 1
        assert f"is rejected, not held: there is nothing to {command}" in late.output
    with pytest.raises(HeldError, match="was rejected; deliver a corrected orders 2024-03"):
        shop.ingest([*MARCH[:1], *BAD])
    assert shop.checksum() == before
    shop.ingest(MARCH[:2])
    assert shop.numbers() == [1, 2]


def test_decisions_need_a_reason_and_a_batch(shop: Shop, held: str) -> None:
    for command in ("release", "reject", "undo"):
        assert run("batch", command, held).exit_code == 2, "no --why"
    blank = run("batch", "release", held, "--why", "  ")
    assert blank.exit_code == 1
    assert "release needs a reason: --why TEXT" in blank.output
    unknown = run("batch", "show", "ffffffffffffffff")
    assert unknown.exit_code == 1
    assert "no batch with id 'ffffffffffffffff'; `tidegate batch list` shows them" in unknown.output
    assert "several batches with id ''" in run("batch", "show", "").output
    assert decisions(shop) == []
    assert shop.states() == ["published", "held"]


def test_a_batch_with_a_warning_is_published_and_reported(shop: Shop) -> None:
    shop.agree(share=0.5)
    batch = shop.ingest([*MARCH, *BAD])
    assert (batch.state, shop.numbers()) == ("published", [1, 2, 3])
    told = json.loads(run("batch", "show", batch.batch_id, "--json").output)
    (warned,) = [v for v in told["verdicts"] if v["verdict"] == "WARN"]
    assert (warned["rule"], warned["value"], warned["target"]) == (
        "refused rows", "1 of 4 rows (25.0000%)", "at most 50.0000%"
    )  # fmt: skip
    from tidegate.observe.summary import summary

    assert summary(shop.settings).verdicts["contract"]["WARN"] == 1


def test_readers_see_a_partition_before_or_after_and_never_half(shop: Shop) -> None:
    shop.ingest(orders(1, 400))
    with crowd(shop, (COUNT, False), (COUNT, True)) as readers:
        for last in (500, 600):
            shop.ingest(orders(1, last))
        undo(shop.settings, shop.contract, batch_of(shop, "published"), by="test", why="to see")
        shop.ingest(orders(900, 950, "2024-04"), "2024-04", "april.csv")
    assert readers.troubles == []
    assert set(readers.distinct()) <= {(400, 1), (500, 1), (600, 1)}
    for seen in readers.seen:
        assert seen[0] == (400, 1)
        assert seen[-1] == (500, 1)


def test_a_new_partition_waits_for_no_reader(shop: Shop) -> None:
    shop.ingest(orders(1, 3))
    with psycopg.connect(url(shop)) as reader:
        reader.execute("SELECT count(*) FROM raw.orders")
        shop.ingest(orders(4, 5, "2024-04"), "2024-04", "april.csv")
        assert reader.execute("SELECT count(*) FROM raw.orders").fetchone() == (5,)


def test_a_publish_gives_way_to_a_long_reader_and_goes_through_when_it_is_gone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other readers wait behind it for a moment only, and nothing is lost."""
    monkeypatch.setattr("tidegate.publish.batches._ATTEMPTS", 2)
    shop.ingest(orders(1, 3))
    batch = step_by_step(shop, orders(1, 4), upto=3)
    with psycopg.connect(url(shop)) as reader:
        reader.execute("SELECT count(*) FROM raw.orders")
        with crowd(shop, (COUNT, False)) as others, pytest.raises(BusyError, match="readers hold the published table"):
            publish(shop.settings, shop.contract, batch)
    assert others.troubles == []
    assert others.distinct() == [(3, 1)]
    assert others.longest_wait < 5
    publish(shop.settings, shop.contract, batch)
    assert shop.numbers() == [1, 2, 3, 4]


def test_a_released_batch_that_readers_kept_from_being_published_is_published_by_the_same_command(
    shop: Shop, held: str
) -> None:
    release(shop.settings, held, by="Ada", why="known")
    ended = run("batch", "release", held, "--why", "known", "--as", "Ada")
    assert ended.exit_code == 0
    assert shop.numbers() == [1]
    assert len(decisions(shop)) == 1


def publish_at_once(*batches: str) -> list[tuple[int, str]]:
    """Publish in processes of their own that begin together; return how each ended."""
    # Busy is what one of two may be told: Airflow, and a person, try again.
    program = (
        "import sys, time; from tidegate.settings import get_settings; from tidegate.contracts import load\n"
        "from tidegate.publish.batches import publish; from tidegate.errors import BusyError\n"
        "settings = get_settings(); orders = load(settings, 'orders')\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "for _ in range(40):\n"
        "    try:\n        sys.exit(publish(settings, orders, sys.argv[1]).state != 'published')\n"
        "    except BusyError:\n        time.sleep(0.25)\n"
        "sys.exit('busy for ever')\n"
    )
    start = str(time.time() + 3)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, batch, start], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for batch in batches
    ]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    return [(process.returncode, output) for process, output in zip(running, outputs, strict=True)]


AT_ONCE = {
    "the same batch": ((MARCH, "2024-03"), (MARCH, "2024-03")),
    "two corrections": ((MARCH[:2], "2024-03"), (MARCH[1:], "2024-03")),
    "two partitions, the first of their table": ((MARCH, "2024-03"), (orders(100, 110, "2024-04"), "2024-04")),
}


@pytest.mark.parametrize("what", AT_ONCE)
def test_two_processes_publish_at_once(shop: Shop, what: str) -> None:
    if what == "two corrections":
        shop.ingest(MARCH)
    batches = [step_by_step(shop, rows, upto=3, partition=partition) for rows, partition in AT_ONCE[what]]
    for status, output in publish_at_once(*batches):
        assert status == 0, output
    numbers = shop.numbers()
    if what == "the same batch":
        assert (numbers, shop.states()) == ([1, 2, 3], ["published"])
    elif what == "two corrections":
        assert numbers in ([1, 2], [2, 3])
        assert sorted(shop.states()) == ["published", "superseded", "superseded"]
        # Each undo goes back one: no batch was forgotten.
        undo(shop.settings, shop.contract, batch_of(shop, "published"), by="test", why="to see")
        assert shop.numbers() in ([1, 2], [2, 3])
        undo(shop.settings, shop.contract, batch_of(shop, "published"), by="test", why="to see")
        assert shop.numbers() == [1, 2, 3]
    else:
        assert numbers == [1, 2, 3, *range(100, 111)]
    assert shop.staging() == []


def test_what_has_not_been_judged_is_not_published(shop: Shop) -> None:
    batch = step_by_step(shop, MARCH, upto=2)
    with pytest.raises(UsageError, match=f"batch {batch} is staged, not judged: run the steps before"):
        publish(shop.settings, shop.contract, batch)
    with pytest.raises(UsageError, match="no batch with id 'none'"):
        publish(shop.settings, shop.contract, "none")
    assert Path(shop.query("SELECT landing_url FROM ops.batch")[0]["landing_url"].removeprefix("file:")).is_file()
