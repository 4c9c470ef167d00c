"""The ledger of a stream does not grow for ever, and what it answers stays the same."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.contracts.command import run
from tests.stream.parcels import Depot, parcel

from tidegate.errors import TerminalError
from tidegate.stream import ledger
from tidegate.stream.fold import Folded, fold
from tidegate.stream.reconcile import reconcile
from tidegate.stream.state import state_of

NOW = datetime.now(UTC)
PAST = "UPDATE ops.stream_batch SET committed_at = committed_at - interval '40 days' WHERE batch_id = %s"


@pytest.fixture
def old(depot: Depot) -> Depot:
    """Two days of 40 and 39 days ago with four micro-batches each, of messages good, known and refused; and one of today."""
    for n in range(0, 90, 10):
        depot.send(*(parcel(m) for m in range(n, n + 10)), parcel(n), b"?")
        depot.drain()
    # At noon, so that a day of theirs is one at whatever time this runs.
    depot.query(
        "UPDATE ops.stream_batch SET committed_at = date_trunc('day', now(), 'UTC') + interval '12 hours' "
        "- (40 - (n - 1) / 4) * interval '1 day' + n * interval '1 second' "
        "FROM (SELECT batch_id AS id, row_number() OVER (ORDER BY committed_at) AS n FROM ops.stream_batch) AS numbered "
        "WHERE id = batch_id AND n <= 8"
    )
    return depot


def told(depot: Depot) -> dict[str, Any]:
    """What is asked of the ledger."""
    news = ledger.since(depot.settings, depot.contract, None)
    return {
        "state": asdict(state_of(depot.settings, depot.contract)), "news": (news.rows, news.refused, news.partitions),
        "newest": ledger.newest_batch(depot.settings, "parcel"), "refused": len(depot.refused()),
        "taken": depot.query("SELECT topic_partition, sum(next_offset - first_offset) FROM ops.stream_range GROUP BY 1 ORDER BY 1"),
    }  # fmt: skip


def test_folded_micro_batches_answer_what_they_answered(old: Depot) -> None:
    before = told(old)
    assert fold(old.settings, NOW) == Folded(8, 2)
    assert told(old) == before
    rows = old.query(
        "SELECT folded_count, message_count, row_count, known_count FROM ops.stream_batch ORDER BY committed_at"
    )
    assert [tuple(row.values()) for row in rows] == [(4, 48, 40, 4), (4, 48, 40, 4), (1, 12, 10, 1)]
    assert len(old.query("SELECT 1 FROM ops.stream_range")) <= 6
    assert reconcile(old.settings, old.contract).rows == 10
    assert fold(old.settings, NOW) == Folded(0, 0)
    assert "0 micro-batches are 0 rows" in run("stream", "fold").output


def test_what_each_was_is_kept_as_parquet(old: Depot) -> None:
    was = {row["batch_id"]: row for row in old.query("SELECT * FROM ops.stream_batch")}
    spans = {(row["batch_id"], row["topic_partition"]): row for row in old.query("SELECT * FROM ops.stream_range")}
    fold(old.settings, NOW)
    home = Path(str(old.settings.landing).removeprefix("file://"))
    files = sorted(home.glob("_ledger/parcel/*.parquet"))
    kept = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert len(files) == 2
    for row in kept:
        ranges = json.loads(row.pop("ranges"))
        assert row == was[row["batch_id"]]
        assert ranges
        for one in ranges:
            assert spans[row["batch_id"], one["topic_partition"]] == {"batch_id": row["batch_id"], **one}
    assert {row["_batch_id"] for row in old.query("SELECT _batch_id FROM raw.parcel WHERE parcel_id < 80")} <= {
        row["batch_id"] for row in kept
    }


def test_what_is_young_and_the_newest_stays_as_it_is(old: Depot) -> None:
    assert fold(old.settings, NOW, timedelta(days=39)) == Folded(4, 1)
    newest = ledger.newest_batch(old.settings, "parcel")
    told = ledger.since(old.settings, old.contract, None)
    old.query(PAST, [newest])
    # Nothing has come for forty days: folding is no news.
    fold(old.settings, NOW)
    assert ledger.newest_batch(old.settings, "parcel") == newest
    assert ledger.since(old.settings, old.contract, told.seen).rows == 0


def test_a_day_with_a_hole_in_its_offsets_stays_so_that_it_is_seen(old: Depot) -> None:
    old.query(
        "UPDATE ops.stream_range SET first_offset = first_offset + 1 WHERE first_offset > 0 AND batch_id = "
        "(SELECT batch_id FROM ops.stream_batch ORDER BY committed_at OFFSET 2 LIMIT 1)"
    )
    assert fold(old.settings, NOW) == Folded(4, 1)
    with pytest.raises(TerminalError, match="was read to"):
        reconcile(old.settings, old.contract)


def test_a_reconciliation_begins_where_the_last_one_ended(old: Depot) -> None:
    reconcile(old.settings, old.contract)
    known = old.query("SELECT topic_partition, next_offset FROM ops.stream_reconciled ORDER BY 1")
    assert known == old.query("SELECT topic_partition, next_offset FROM ops.stream_offset ORDER BY 1")
    # What was found whole is not read again.
    old.query("DELETE FROM ops.stream_range WHERE batch_id <> %s", [ledger.newest_batch(old.settings, "parcel")])
    reconcile(old.settings, old.contract)
    old.send(*(parcel(n) for n in range(100, 110)))
    old.drain()
    assert reconcile(old.settings, old.contract).hints == 0
    old.send(*(parcel(n) for n in range(110, 130)))
    old.drain()
    old.query(
        "UPDATE ops.stream_range SET first_offset = first_offset + 1 WHERE batch_id = %s",
        [ledger.newest_batch(old.settings, "parcel")],
    )
    with pytest.raises(TerminalError, match="was read to"):
        reconcile(old.settings, old.contract)


def test_a_day_that_is_folded_over_where_the_last_reconciliation_ended_is_no_hole(old: Depot) -> None:
    reconcile(old.settings, old.contract)
    # As if that had been after the third micro-batch.
    old.query(
        "UPDATE ops.stream_reconciled SET next_offset = next_offset / 3, horizon = "
        "(SELECT transaction_id FROM ops.stream_batch ORDER BY committed_at OFFSET 3 LIMIT 1)"
    )
    fold(old.settings, NOW)
    assert reconcile(old.settings, old.contract).rows == 10


def test_what_waits_for_repair_is_found_by_its_folded_micro_batch(old: Depot, tmp_path: Path) -> None:
    fold(old.settings, NOW)
    assert len(old.query("SELECT 1 FROM quarantine.refused_message JOIN ops.stream_batch USING (batch_id)")) == 9
    assert run("quarantine", "export", "--to", str(tmp_path / "a.jsonl")).exit_code == 0
