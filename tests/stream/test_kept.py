"""A stream's partition is archived when its time is over, as any other; what comes for it afterwards is not lost, nor half of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.contracts.command import run
from tests.stream.parcels import Depot, parcel

from tidegate.errors import HeldError
from tidegate.gates.ledger import Batch
from tidegate.publish.ahead import PutAwayError, ensure_partition
from tidegate.publish.partitions import archive, archive_outlived, restore
from tidegate.publish.settle import settle
from tidegate.stores.postgres import connect
from tidegate.stream.reconcile import reconcile

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=3 * 366)
ROWS = "SELECT parcel_id, seen_on, seen_at, city, weight_kg, _partition FROM raw.parcel ORDER BY parcel_id"
#: A parcel of April; those with small numbers are of March.
APRIL = 13 * 60


@pytest.fixture
def kept(depot: Depot) -> Depot:
    """March and a parcel of April were taken in, are kept for two years, and were noticed."""
    path = depot.root / "schemas/parcel.odcs.yaml"
    path.write_text(
        path.read_text().replace("slaProperties:", "slaProperties:\n  - {property: retention, value: 2, unit: y}")
    )
    depot.send(*(parcel(n) for n in range(40)), parcel(APRIL))
    depot.drain()
    return depot


def away(depot: Depot, now: datetime = LATER) -> dict[str, Batch]:
    """Archive what is due, March and April; return it by partition."""
    archive_outlived(depot.settings, depot.contract, NOW)
    done = archive_outlived(depot.settings, depot.contract, now)
    assert [one.trouble for one in done] == [None] * len(done)
    return {one.partition: one.batch for one in done if one.batch}


def partitions(depot: Depot) -> list[str]:
    query = (
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'raw.parcel'::regclass ORDER BY 1"
    )
    return [row["name"] for row in depot.query(query)]


def test_a_streams_partition_goes_when_its_retention_is_over_since_it_was_first_seen(kept: Depot) -> None:
    assert archive_outlived(kept.settings, kept.contract, NOW) == []
    # Its interval is older than its retention; it holds rows since today.
    assert archive_outlived(kept.settings, kept.contract, NOW + timedelta(days=729)) == []
    listed = run("partition", "list").output
    assert f"parcel\t2024-03\twritten\t\t\t{(NOW + timedelta(days=730)):%Y-%m}" in listed
    rows = kept.query(ROWS)
    assert (
        "2024-03: its rows would be archived" in run("partition", "archive", "--dry-run", "--on", "2090-01-01").output
    )
    assert kept.query(ROWS) == rows
    done = away(kept)
    assert {name: (batch.state, batch.accepted_count) for name, batch in done.items()} == {
        "2024-03": ("archived", 40),
        "2024-04": ("archived", 1),
    }
    assert (kept.numbers(), partitions(kept)) == ([], [])
    file = pq.read_table(Path(done["2024-03"].landing_url.removeprefix("file://")))
    assert file.to_pylist() == [{k: v for k, v in row.items() if k != "_partition"} for row in rows[:-1]]
    assert reconcile(kept.settings, kept.contract).rows == 0
    assert archive_outlived(kept.settings, kept.contract, LATER) == []


def test_a_message_for_an_archived_month_is_refused_and_makes_it_not_anew(kept: Depot) -> None:
    away(kept)
    kept.send(parcel(50), parcel(31 * 24 * 60), parcel(51))
    account = kept.drain()
    assert (account.rows, account.known, account.refused) == (1, 0, 2)
    assert partitions(kept) == ["raw.parcel__2024_05"]
    assert [(row["rule"], row["state"]) for row in kept.refused()] == [("archived", "open")] * 2
    assert "2024-03 is archived: `tidegate partition restore parcel 2024-03" in kept.refused()[0]["expected"]
    with connect(kept.settings) as connection, pytest.raises(PutAwayError):
        ensure_partition(connection, kept.contract, "2024-03")
    assert reconcile(kept.settings, kept.contract).rows == 1


def test_a_restored_month_takes_what_was_refused_and_is_archived_with_it(kept: Depot, tmp_path: Path) -> None:
    rows = kept.query(ROWS)
    first = away(kept)
    kept.send(parcel(50))
    kept.drain()
    for name in first:
        restore(kept.settings, kept.contract, name, by="ada", why="the auditors ask")
    assert kept.query(ROWS) == rows
    file = tmp_path / "again.jsonl"
    assert run("quarantine", "export", "--to", str(file)).exit_code == 0
    assert "1 messages accepted" in run("quarantine", "replay", str(file)).output
    kept.send(parcel(51), parcel(3))
    assert (kept.drain().rows, kept.numbers()) == (1, [*range(40), 50, 51, APRIL])
    rows = kept.query(ROWS)
    assert archive_outlived(kept.settings, kept.contract, NOW + timedelta(days=29)) == []
    second = away(kept)
    # April has not changed since: it is the batch that it was.
    assert second["2024-04"].batch_id == first["2024-04"].batch_id
    assert (second["2024-03"].accepted_count, second["2024-03"].batch_id == first["2024-03"].batch_id) == (42, False)
    states = kept.query("SELECT state FROM ops.batch WHERE partition = '2024-03' ORDER BY created_at")
    assert [row["state"] for row in states] == ["superseded", "archived"]
    assert reconcile(kept.settings, kept.contract).rows == 0
    for name in second:
        restore(kept.settings, kept.contract, name, by="ada", why="again")
    assert kept.query(ROWS) == rows


def test_a_row_that_comes_while_its_month_is_archived_is_archived_with_it(kept: Depot) -> None:
    batch = settle(kept.settings, kept.contract, "2024-03")
    assert settle(kept.settings, kept.contract, "2024-03").batch_id == batch.batch_id
    kept.send(parcel(50))
    assert kept.drain().rows == 1
    with pytest.raises(HeldError, match="2024-03 is not archived"):
        archive(kept.settings, kept.contract, batch.batch_id)
    assert 50 in kept.numbers()
    archive_outlived(kept.settings, kept.contract, NOW)
    assert away(kept)["2024-03"].accepted_count == 41
    assert reconcile(kept.settings, kept.contract).rows == 0
