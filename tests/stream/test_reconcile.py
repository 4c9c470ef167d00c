"""What the ledger says of a stream is held against its rows and its topic; what does not agree is told, or repaired."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.stream.parcels import Depot, parcel

from tidegate.errors import HeldError, TerminalError
from tidegate.evidence import pipelines
from tidegate.evidence.probe import Ground
from tidegate.gates import ledger as verdicts
from tidegate.observe import freshness
from tidegate.stores import topics
from tidegate.stores.postgres import connect
from tidegate.stream import ledger
from tidegate.stream.judge import judge
from tidegate.stream.reconcile import reconcile
from tidegate.stream.worker import group_of

SUITE = """\
expectations:
  - name: parcels are light
    type: expect_column_max_to_be_between
    kwargs: {column: weight_kg, max_value: 10}
"""


@pytest.fixture
def stocked(depot: Depot) -> Depot:
    depot.send(*(parcel(n) for n in range(40)))
    depot.drain()
    depot.send(*(parcel(n) for n in range(40, 60)))
    depot.drain()
    return depot


def test_a_stream_that_nobody_has_touched_agrees(stocked: Depot) -> None:
    done = reconcile(stocked.settings, stocked.contract)
    assert (done.micro_batches, done.rows) == (2, 60)


def test_the_broker_is_told_anew_how_far_a_stream_is(stocked: Depot) -> None:
    reconcile(stocked.settings, stocked.contract)
    truth = {row["topic_partition"]: row["next_offset"] for row in stocked.query("SELECT * FROM ops.stream_offset")}
    assert topics.committed(stocked.settings, stocked.topic, group_of("parcel")) == truth
    assert reconcile(stocked.settings, stocked.contract).hints == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DELETE FROM raw.parcel WHERE parcel_id = 5", "wrote 40 rows, and 39 are there"),
        ("UPDATE ops.stream_range SET first_offset = first_offset + 1 WHERE first_offset > 0", "was read to"),
        ("UPDATE ops.stream_offset SET next_offset = next_offset + 1", "stands at"),
    ],
)
def test_what_was_changed_by_hand_is_found(stocked: Depot, change: str, said: str) -> None:
    stocked.query(change)
    with pytest.raises(TerminalError, match=f"the stream parcel is not what its ledger says: .*{said}"):
        reconcile(stocked.settings, stocked.contract)


def test_news_are_what_was_added_since_somebody_was_told(stocked: Depot) -> None:
    every = ledger.since(stocked.settings, stocked.contract, None)
    assert (every.rows, every.partitions) == (60, ("2024-03",))
    assert every.batch_id == ledger.newest_batch(stocked.settings, "parcel")
    assert ledger.since(stocked.settings, stocked.contract, every.seen).rows == 0
    stocked.send(*(parcel(n) for n in range(55, 80)))
    stocked.drain()
    assert ledger.since(stocked.settings, stocked.contract, every.seen).rows == 20


def test_rows_that_nobody_was_told_of_are_counted_and_after_a_restore_all_are_told_anew(stocked: Depot) -> None:
    assert reconcile(stocked.settings, stocked.contract).untold == 60
    told = ledger.since(stocked.settings, stocked.contract, None)
    assert not told.anew
    assert reconcile(stocked.settings, stocked.contract, told.seen).untold == 0
    history, _, snapshot = told.seen.partition("/")
    server, _, timeline = history.partition("-")
    assert timeline == "00000001"
    for other in (f"{server}-00000002", f"1-{timeline}"):
        news = ledger.since(stocked.settings, stocked.contract, f"{other}/{snapshot}")
        assert (news.rows, news.anew) == (60, True)
        assert reconcile(stocked.settings, stocked.contract, f"{other}/{snapshot}").untold == 60


def test_a_sample_of_the_newest_rows_is_judged_and_what_fails_holds_the_stream(stocked: Depot, tmp_path: Path) -> None:
    suites = stocked.root / "expectations"
    suites.mkdir()
    (suites / "parcel.yaml").write_text(SUITE)
    batch = ledger.newest_batch(stocked.settings, "parcel")
    assert batch is not None
    assert {verdict.verdict for verdict in judge(stocked.settings, stocked.contract, batch)} == {"PASS"}
    stocked.send(parcel(60, weight_kg=11))
    stocked.drain()
    newest = ledger.newest_batch(stocked.settings, "parcel")
    assert newest is not None
    with pytest.raises(HeldError, match=r"the stream parcel is held: .*parcels are light"):
        judge(stocked.settings, stocked.contract, newest)
    with pytest.raises(HeldError):
        stocked.drain()
    with connect(stocked.settings) as connection:
        assert verdicts.verdicts_of(connection, newest)[0].verdict == "FAIL"
        ledger.release(connection, "parcel", by="ada", why="it is an anvil")
    stocked.send(parcel(61))
    assert stocked.drain().rows == 1
    assert stocked.query("SELECT 1 FROM pg_class WHERE relnamespace = 'staging'::regnamespace") == []


def test_messages_that_wait_for_too_long_are_told_of_once(stocked: Depot) -> None:
    (fresh,) = freshness.judge_streams(stocked.settings)
    assert (fresh.verdict.verdict, fresh.verdict.value) == ("PASS", "0 messages wait, the oldest for 0 s")
    path = stocked.root / "schemas/parcel.odcs.yaml"
    path.write_text(path.read_text().replace("    value: 15\n    unit: min", "    value: 0\n    unit: min"))
    stocked.send(parcel(70))
    (stale,) = freshness.judge_streams(stocked.settings)
    assert stale.is_stale
    assert stale.is_news
    assert stale.verdict.target_source.startswith("schemas/parcel.odcs.yaml:")
    (again,) = freshness.judge_streams(stocked.settings)
    assert (again.is_stale, again.is_news) == (True, False)


def test_the_evidence_of_freshness_has_a_figure_of_streams_where_there_is_one(stocked: Depot) -> None:
    stocked.send(parcel(99))
    (found,) = pipelines.freshness(Ground(stocked.settings))
    assert found.figures["datasets"] == 1
    assert 0 < found.figures["stream_oldest_seconds"] < 900
    assert "oldest_seconds" not in found.figures
    assert found.text.startswith("PASS parcel: 1 messages wait, the oldest for ")


def test_micro_batches_count_as_deliveries_and_late_ones_as_left_behind(stocked: Depot) -> None:
    (found,) = pipelines.success(Ground(stocked.settings))
    assert (found.figures["micro_batches"], found.figures["left_behind"]) == (2, 0)
    stocked.query("UPDATE ops.stream_batch SET latency_p99_seconds = 901 WHERE row_count = 40")
    (found,) = pipelines.success(Ground(stocked.settings))
    assert (found.figures["share"], found.exit_status) == (0.5, 1)
    assert "1 micro-batches of parcel had messages that waited for longer than allowed" in found.text
