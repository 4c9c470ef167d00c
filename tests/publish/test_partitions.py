"""What has outlived its retention is kept as Parquet alone, comes back row by row, and nothing in between loses a row."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.access.conftest import House
from tests.access.conftest import house as house
from tests.contracts.command import run
from tests.journeys import dying
from tests.publish.showroom import crowd, url
from tests.shop import MARCH, Shop, orders

from tidegate.contracts import Contract, load
from tidegate.errors import BusyError, ContractError, HeldError, SourceError, TerminalError, UsageError
from tidegate.gates import audit_chain, ledger
from tidegate.gates.ledger import Batch
from tidegate.observe.summary import summary
from tidegate.publish import marts, retention
from tidegate.publish.partitions import archive, archive_outlived, restore
from tidegate.stores.postgres import connect

LATER = datetime(2400, 1, 1, tzinfo=UTC)
KEPT = "\nslaProperties:\n  - {{property: retention, value: {}, unit: {}}}\nschema:"


def keep(shop: Shop, value: int, unit: str, **changes: Any) -> Contract:
    """Let the shop's contract promise a retention."""
    shop.agree(**changes)
    path = shop.root / "schemas/orders.odcs.yaml"
    path.write_text(path.read_text().replace("\nschema:", KEPT.format(value, unit)))
    return shop.contract


@pytest.fixture
def years(shop: Shop) -> Shop:
    """A shop with one month of each of two years published, a month's rows kept for two years."""
    keep(shop, 2, "y")
    shop.ingest(MARCH)
    shop.ingest(orders(10, 400, "2025-04"), "2025-04", "april.csv")
    return shop


def batch(shop: Shop, partition: str, state: str = "published") -> str:
    (row,) = shop.query("SELECT batch_id FROM ops.batch WHERE partition = %s AND state = %s", [partition, state])
    return str(row["batch_id"])


def tables(shop: Shop) -> list[str]:
    """Every table of a batch, wherever it stands."""
    query = "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'r' AND relname LIKE 'orders\\_\\_%%' ORDER BY 1"
    return [row["name"] for row in shop.query(query, [])]


@pytest.mark.parametrize(
    ("value", "unit", "until"),
    [
        (2, "y", "2026-04-01"), (18, "m", "2025-10-01"), (3, "months", "2024-07-01"), (2, "weeks", "2024-04-15"),
        (10, "d", "2024-04-11"), (9000, "y", None),
    ],
)  # fmt: skip
def test_retention_counts_from_the_end_of_the_interval(shop: Shop, value: int, unit: str, until: str | None) -> None:
    contract = keep(shop, value, unit)
    published = datetime(2024, 4, 1, 0, 0, tzinfo=UTC)
    assert str(retention.until(contract, "2024-03", published))[:10] == str(until)


def test_years_of_the_past_that_are_taken_in_today_are_not_archived_tonight(shop: Shop) -> None:
    contract = keep(shop, 2, "y")
    shop.ingest(MARCH)
    shop.ingest(orders(11, 19, "1999-01"), "1999-01", "old.csv")
    with connect(shop.settings) as connection:
        (old, _) = retention.partitions(connection, contract)
    assert old.batch.partition == "1999-01"
    assert old.until is not None
    assert old.until > datetime.now(UTC) + timedelta(days=729)
    assert archive_outlived(shop.settings, contract, datetime.now(UTC)) == []


def test_what_has_no_interval_or_no_retention_is_kept_for_ever_and_one_that_nobody_understands_is_refused(
    shop: Shop,
) -> None:
    since = datetime(2024, 4, 1, tzinfo=UTC)
    assert retention.until(shop.agree(), "2024-03", since) is None
    assert retention.until(keep(shop, 1, "d", partitioned=False), "all", since) is None
    with pytest.raises(ContractError, match="found a retention of '2 fortnights', expected a whole number of days"):
        retention.until(keep(shop, 2, "fortnights"), "2024-03", since)


def test_an_archived_partition_comes_back_row_by_row(years: Shop) -> None:
    before, rows = years.checksum(), years.published()
    contract = years.contract
    with connect(years.settings) as connection:
        (first, _) = retention.partitions(connection, contract)
    assert first.until is not None
    # Not one moment sooner; the other partition was first published later.
    assert archive_outlived(years.settings, contract, first.until - timedelta(seconds=1)) == []
    (done,) = archive_outlived(years.settings, contract, first.until)
    assert done.batch is not None
    assert (done.partition, done.batch.state, done.trouble) == ("2024-03", "archived", None)
    assert years.numbers() == list(range(10, 401))
    assert tables(years) == [f"raw.{first.batch.table.replace('2024_03', '2025_04')[:-16]}{batch(years, '2025-04')}"]
    assert archive(years.settings, contract, done.batch.batch_id).state == "archived"

    again = restore(years.settings, contract, "2024-03", by="Ada", why="the auditors ask")
    assert (again.state, again.published_at) == ("published", first.batch.published_at)
    assert (years.checksum(), years.published()) == (before, rows)
    decisions = years.query("SELECT subject, action, decided_by, why FROM ops.decision")
    assert [tuple(row.values()) for row in decisions] == [(first.batch.batch_id, "restore", "Ada", "the auditors ask")]
    # It stays, however old it is, until those who wanted it have seen it.
    assert archive_outlived(years.settings, contract, datetime.now(UTC) + timedelta(days=29)) == []
    told = [
        row["figures"] for row in years.query("SELECT figures FROM ops.evidence WHERE path LIKE '%%archived.json'", [])
    ]
    assert [(t["rows"], t["rows_published"], t["checksum"] == t["checksum_published"]) for t in told] == [(3, 3, True)]
    assert {
        (v["gate"], v["verdict"]) for v in years.query("SELECT gate, verdict FROM ops.verdict WHERE gate = 'archive'")
    } == {("archive", "PASS")}


def test_what_is_told_of_the_platform_and_the_marts_follow_what_readers_see(years: Shop) -> None:
    def figures() -> tuple[int, int, int]:
        told = summary(years.settings)
        assert told.rows_delivered == told.rows_published + told.rows_refused
        return (
            told.rows_published,
            years.query("SELECT count(*) AS n FROM raw.orders")[0]["n"],
            sum(told.batches.values()),
        )

    assert figures() == (394, 394, 2)
    build = marts.prepare(years.settings)
    archive(years.settings, years.contract, batch(years, "2024-03"))
    assert figures() == (391, 391, 2)
    assert marts.prepare(years.settings) != build, "made of other batches, it is another set of marts"
    restore(years.settings, years.contract, "2024-03", by="Ada", why="wanted")
    assert figures() == (394, 394, 2)
    assert marts.prepare(years.settings) == build


def test_the_commands_say_what_goes_and_bring_it_back(years: Shop) -> None:
    listed = json.loads(run("partition", "list", "--json").output)
    assert [(p["partition"], p["state"], p["rows"]) for p in listed] == [
        ("2024-03", "published", 3),
        ("2025-04", "published", 391),
    ]
    assert run("partition", "archive").output == ""
    assert run("partition", "archive", "--dry-run").output == ""
    dry = run("partition", "archive", "--dry-run", "--on", "2400-01-01", "--dataset", "orders").output
    assert dry.startswith("orders 2024-03: 3 rows would be archived, kept until 20")
    assert "orders 2025-04: 391 rows would be archived" in dry
    refused = run("partition", "archive", "--on", "2400-01-01")
    assert (refused.exit_code, "say --dry-run with it" in refused.output) == (1, True)
    archive(years.settings, years.contract, batch(years, "2024-03"))
    assert "\tarchived\t" in run("partition", "list", "--dataset", "orders").output
    back = run("partition", "restore", "orders", "2024-03", "--why", "wanted", "--as", "Ada")
    assert (back.exit_code, back.output.endswith(" is published again, 3 rows\n")) == (0, True)
    twice = run("partition", "restore", "orders", "2024-03", "--why", "wanted")
    assert (twice.exit_code, "orders 2024-03 is not archived; `tidegate partition list`" in twice.output) == (1, True)
    assert run("partition", "restore", "orders", "2024-03", "--why", " ").exit_code == 1
    assert run("partition", "restore", "orders", "March", "--why", "wanted").exit_code == 1


def test_the_same_delivery_is_told_of_the_archive_and_a_new_one_takes_its_place(years: Shop) -> None:
    first = batch(years, "2024-03")
    archive(years.settings, years.contract, first)
    with pytest.raises(
        SourceError, match=r"is archived: delivering it again .* `tidegate partition restore orders 2024-03"
    ):
        years.ingest(MARCH)
    years.ingest(MARCH[:2])
    assert years.numbers() == [1, 2, *range(10, 401)]
    newer = batch(years, "2024-03")
    with pytest.raises(UsageError, match=f"batch {newer} is published, delivered after {first} was archived"):
        restore(years.settings, years.contract, "2024-03", by="Ada", why="wanted")
    assert run("batch", "undo", newer, "--why", "the old ones").exit_code == 0
    restore(years.settings, years.contract, "2024-03", by="Ada", why="wanted")
    assert years.numbers() == [1, 2, 3, *range(10, 401)]


def test_rows_whose_keys_were_published_meanwhile_are_not_restored(years: Shop) -> None:
    archive(years.settings, years.contract, batch(years, "2024-03"))
    years.ingest(orders(2, 5, "2026-05"), "2026-05", "may.csv")
    with pytest.raises(
        HeldError, match=r"is not restored: \(order_id\) is not published in another partition, and 2 of 3 rows"
    ):
        restore(years.settings, years.contract, "2024-03", by="Ada", why="wanted")
    assert (years.numbers(), years.staging()) == ([2, 3, 4, 5, *range(10, 401)], [])


def test_rows_archived_before_the_table_evolved_come_back_in_its_new_layout(years: Shop) -> None:
    first = batch(years, "2024-03")
    path = years.root / "schemas/orders.odcs.yaml"
    column = "      - name: gift\n        logicalType: boolean\n        physicalType: boolean\n        description: Whether it is one.\n"
    evolved = (
        path.read_text().replace("version: 1.0.0", "version: 1.1.0").replace("numeric(12,2)", "numeric(14,2)") + column
    )
    rows = years.published()
    archive(years.settings, years.contract, first)
    path.write_text(evolved)
    assert run("contract", "apply", "orders").exit_code == 0
    restore(years.settings, years.contract, "2024-03", by="Ada", why="wanted")
    assert years.published() == rows
    assert years.query("SELECT count(*) AS n, count(gift) AS given FROM raw.orders") == [{"n": 394, "given": 0}]
    # And it goes again, though the file is of the layout before.
    assert archive(years.settings, years.contract, first).state == "archived"
    path.write_text(path.read_text().replace(column, ""))
    path.write_text(path.read_text().replace("      - name: weight_kg", "      - name: weight"))
    with pytest.raises(ContractError, match="has no column weight_kg, and the rows of orders 2024-03 have"):
        restore(years.settings, years.contract, "2024-03", by="Ada", why="wanted")


def damaged(shop: Shop, how: str) -> None:
    """Make the landed file of March, or the table, differ from the other."""
    (row,) = shop.query("SELECT batch_id, landing_url FROM ops.batch WHERE partition = '2024-03'")
    file = Path(row["landing_url"].removeprefix("file://"))
    if how == "the table":
        shop.query("UPDATE raw.orders SET amount_euro = 20 WHERE order_id = 1")
        return
    if how == "a value":
        found = pq.read_table(file)
        names = pa.array(["Ada", "Grace", "Zoe"], found.schema.field("customer").type)
        content = found.set_column(2, found.schema.field("customer"), names)
        file.unlink()
        pq.write_table(content, file)
    elif how == "gone":
        file.rename(file.with_suffix(".away"))
    else:
        file.chmod(0o644)
        file.write_bytes(file.read_bytes()[:-20] if how == "cut off" else b"PAR1" + b"x" * 200 + b"PAR1")


@pytest.mark.parametrize("how", ["the table", "a value", "cut off", "rubbish", "gone"])
def test_a_partition_whose_file_does_not_hold_its_rows_stays(years: Shop, how: str) -> None:
    damaged(years, how)
    before = years.checksum()
    wanted = (
        "2024-03 is not archived: .* holds 3 rows, checksum"
        if how in ("the table", "a value")
        else "file://.* (cannot be r)"
    )
    with pytest.raises((HeldError, TerminalError), match=wanted):
        archive(years.settings, years.contract, batch(years, "2024-03"))
    assert (years.checksum(), years.states()) == (before, ["published", "published"])
    outcomes = archive_outlived(years.settings, years.contract, LATER)
    assert [(o.partition, o.trouble is None) for o in outcomes] == [("2024-03", False), ("2025-04", True)]
    assert years.numbers() == [1, 2, 3]


@pytest.mark.parametrize("how", ["a value", "cut off", "gone"])
def test_a_file_that_was_damaged_in_the_archive_is_not_restored(years: Shop, how: str) -> None:
    archive(years.settings, years.contract, batch(years, "2024-03"))
    damaged(years, how)
    wanted = (
        "is not restored: .* holds 3 rows, checksum .* and held 3 rows"
        if how == "a value"
        else "file://.* (cannot be r)"
    )
    with pytest.raises((HeldError, TerminalError), match=wanted):
        restore(years.settings, years.contract, "2024-03", by="Ada", why="wanted")
    assert (years.states(), years.staging()) == (["archived", "published"], [])
    assert years.numbers() == list(range(10, 401))


def test_readers_see_all_of_a_partition_or_none_and_nobody_waits_for_long(
    years: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long reader is given way to; the partition goes when it is gone."""
    monkeypatch.setattr("tidegate.publish.batches._ATTEMPTS", 2)
    contract, first = years.contract, batch(years, "2024-03")
    count = "SELECT count(*), count(DISTINCT _batch_id) FROM raw.orders WHERE _partition = '2024-03'"
    with psycopg.connect(url(years)) as reader:
        reader.execute("SELECT count(*) FROM raw.orders")
        with crowd(years, (count, False)) as others, pytest.raises(BusyError, match="readers hold the published table"):
            archive(years.settings, contract, first)
    assert others.troubles == []
    assert (others.distinct(), others.longest_wait < 5) == ([(3, 1)], True)
    with crowd(years, (count, False)) as others:
        archive(years.settings, contract, first)
        restore(years.settings, contract, "2024-03", by="Ada", why="wanted")
    assert others.troubles == []
    assert set(others.distinct()) <= {(3, 1), (0, 0)}


def ends(shop: Shop, state: str) -> Iterator[tuple[int, int]]:
    """Archive or restore March in processes that are killed at one effect after the other; yield what each left behind."""
    work = {
        "archived": lambda: archive(shop.settings, shop.contract, batch(shop, "2024-03")),
        "published": lambda: restore(shop.settings, shop.contract, "2024-03", by="Ada", why="wanted"),
    }[state]
    for effect in range(1, 200):
        died, _ = dying.run(work, effect)
        yield died, effect
        if died == dying.SURVIVED:
            return


@pytest.mark.parametrize("way", ["archived", "published"])
def test_killed_before_any_of_its_effects_no_row_is_lost_and_the_next_run_ends_it(years: Shop, way: str) -> None:
    """Each run dies one effect later than the one before, so each goes on from where another was killed."""
    rows, april = years.published(), list(range(10, 401))
    if way == "published":
        archive(years.settings, years.contract, batch(years, "2024-03"))
    killed = 0
    for died, effect in ends(years, way):
        state = years.query("SELECT state FROM ops.batch WHERE partition = '2024-03'")[0]["state"]
        assert years.numbers() == (april if state == "archived" else [1, 2, 3, *april]), effect
        if died == signal.SIGKILL:
            killed += 1
            if state == way:
                # Only its last words were missing.
                break
    assert killed > 20
    state = years.query("SELECT state FROM ops.batch WHERE partition = '2024-03'")[0]["state"]
    if state == "archived":
        restore(years.settings, years.contract, "2024-03", by="Ada", why="wanted")
    assert years.published() == rows
    assert years.staging() == []


def bookings(house: House) -> list[dict[str, Any]]:
    return house.administrate("SELECT * FROM raw.bookings WHERE _partition = '2013-01' ORDER BY booking_id")


@pytest.fixture
def january(house: House) -> tuple[Contract, Batch]:
    """The contract of the bookings, and the batch of January."""
    settings = house.shop.settings
    contract = load(settings, "bookings")
    house.close()
    house._open.clear()
    with connect(settings) as connection:
        found = ledger.published_batch(connection, "bookings", "2013-01")
    assert found is not None
    return contract, found


def test_what_is_sealed_stays_sealed_is_compared_by_what_it_says_and_every_tenant_keeps_its_own(
    house: House, january: tuple[Contract, Batch]
) -> None:
    settings, (contract, found) = house.shop.settings, january
    before = bookings(house)
    assert run("keys", "rotate").exit_code == 0
    renewed = archive(settings, contract, found.batch_id)
    assert bookings(house) == []
    file = Path(renewed.landing_url.removeprefix("file://")).read_bytes()
    assert all(row["document_number"] is None or bytes(row["document_number"])[:1] == b"\xf5" for row in before)
    assert b"document_number" in file
    # Somebody asks to be forgotten while the partition is away.
    email = open_email(house, before)
    erased = run("person", "erase", f"email={email}", "--why", "asked", "--yes-i-mean-it", "--json")
    assert erased.exit_code == 0, erased.output
    assert "landing" in erased.output
    restore(settings, contract, "2013-01", by="Ada", why="wanted")
    after = bookings(house)
    personal = {column.name for column in contract.columns if "personal" in column.tags}
    facts = [[{n: v for n, v in row.items() if n not in personal} for row in rows] for rows in (before, after)]
    assert facts[0] == facts[1]
    assert [row["passenger_name"] for row in before] != [row["passenger_name"] for row in after]
    assert run("person", "export", f"email={email}", "--out", str(settings.home / "nobody.json")).output.strip() != ""
    assert house.unguarded() == []
    seen = house.as_("analyst_UA").execute("SELECT DISTINCT carrier FROM masked.bookings").fetchall()
    assert seen == [("UA",)]
    assert audit_chain.verify(settings, [contract]).whole


def open_email(house: House, rows: list[dict[str, Any]]) -> str:
    from tidegate.publish.landed import seals

    opening = seals(house.shop.settings, load(house.shop.settings, "bookings"))
    value = rows[0]["email"]
    if "email" not in opening:
        return str(value)
    (plain,) = opening["email"].open([bytes(value)])
    assert plain is not None
    return plain.decode()


def test_an_empty_partition_made_ahead_would_make_publishing_wait_for_readers(years: Shop) -> None:
    """Why none is made for batches: what is attached where nothing stood waits for nobody (docs/decisions/0011)."""
    empty = "CREATE TABLE raw.ahead PARTITION OF raw.orders FOR VALUES IN ('2026-05')"
    years.query(empty)
    with psycopg.connect(url(years)) as reader, psycopg.connect(url(years)) as publisher:
        reader.execute("SELECT count(*) FROM raw.orders")
        publisher.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            publisher.execute("ALTER TABLE raw.orders DETACH PARTITION raw.ahead")
        years.ingest(orders(500, 501, "2026-06"), "2026-06", "june.csv")
        assert reader.execute("SELECT count(*) FROM raw.orders").fetchone() == (396,)
