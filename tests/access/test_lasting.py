"""Masks and policies stay while data come, go and change their form: no batch is ever seen without them."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from tests.access.conftest import House
from tests.shop import orders, orders_contract

from tidegate.contracts import Contract, load
from tidegate.errors import ContractError
from tidegate.gates.ledger import Batch
from tidegate.ingest import sheet
from tidegate.ingest.quarantine import opened
from tidegate.ingest.quarantine import rows as refused_rows
from tidegate.ingest.replay import land_repaired
from tidegate.publish.batches import undo
from tidegate.stores.postgres import connect
from tidegate.wave import finish, ingest

SEAT_NOTE = """\
      - name: seat_note
        logicalType: string
        physicalType: text
        description: What the passenger asked for.
        classification: confidential
"""


def contract(house: House) -> Contract:
    return load(house.shop.settings, "bookings")


def revise(house: House, version: str, *changes: tuple[str, str], more: str = "") -> Contract:
    path = house.shop.root / "schemas/bookings.odcs.yaml"
    text = path.read_text()
    before = next(line for line in text.splitlines() if line.startswith("version:"))
    for old, new in ((before, f"version: {version}"), *changes):
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text + more)
    return contract(house)


def delivered(house: House, month: str) -> list[dict[str, str]]:
    file = house.shop.settings.inbox_path / f"bookings/bookings-{month}.csv.gz"
    return list(csv.DictReader(io.StringIO(gzip.decompress(file.read_bytes()).decode())))


def deliver(house: House, month: str, rows: list[dict[str, str]], name: str) -> Batch:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    file = house.shop.file(text.getvalue(), f"{name}.csv")
    return ingest(house.shop.settings, "bookings", month, file)


def carriers(house: House, login: str, place: str = "raw.bookings") -> set[str]:
    return {row[0] for row in house.as_(login).execute(f"SELECT carrier FROM {place}").fetchall()}  # type: ignore[call-overload]


def assert_apart(house: House) -> None:
    """Every table of bookings is guarded, and a tenant sees its own rows through the table and through the mask."""
    assert house.unguarded() == []
    for tenant in ("UA", "DL"):
        assert carriers(house, f"app_{tenant}") == {tenant}
        assert carriers(house, f"analyst_{tenant}", "masked.bookings") == {tenant}
    with pytest.raises(errors.InsufficientPrivilege):
        carriers(house, "readonly_UA")


def test_a_batch_that_replaces_another_and_one_that_comes_back_are_guarded(house: House) -> None:
    assert_apart(house)
    fewer = deliver(house, "2013-02", delivered(house, "2013-02")[:200], "fewer")
    assert_apart(house)
    archived = house.administrate("SELECT count(*) AS n FROM pg_tables WHERE schemaname = 'archive'")
    assert archived == [{"n": 1}]
    undo(house.shop.settings, contract(house), fewer.batch_id, by="test", why="to see who sees the batch before")
    assert_apart(house)


def test_a_guard_that_was_lost_in_the_archive_is_put_up_before_the_batch_is_seen(house: House) -> None:
    fewer = deliver(house, "2013-02", delivered(house, "2013-02")[:150], "even fewer")
    before = house.administrate(
        "SELECT relname FROM pg_class JOIN ops.batch ON relname = 'bookings__2013_02__' || batch_id "
        f"JOIN (SELECT previous_batch_id AS id FROM ops.batch WHERE batch_id = '{fewer.batch_id}') AS p ON p.id = batch_id"
    )[0]["relname"]
    house.administrate(f'DROP POLICY tenant ON archive."{before}"')
    house.administrate(f'ALTER TABLE archive."{before}" DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY')
    assert house.unguarded() == [f"archive.{before}"]
    undo(house.shop.settings, contract(house), fewer.batch_id, by="test", why="as before")
    assert_apart(house)


def test_repaired_rows_come_to_their_tenant_alone(house: House, tmp_path: Path) -> None:
    rows = delivered(house, "2013-02")[:100]
    wrong = next(row for row in rows if row["carrier"] == "UA")
    right, wrong["fare_usd"] = wrong["fare_usd"], "-1"
    revise(
        house,
        "1.0.1",
        ("slaProperties:", "customProperties:\n  - {property: maxRefusedShare, value: 0.5}\nslaProperties:"),
    )
    deliver(house, "2013-02", rows, "with one wrong")
    with connect(house.shop.settings) as connection:
        waiting = opened(house.shop.settings, refused_rows(connection, dataset="bookings", state="open"))
        assert len(waiting) == 1
        path = tmp_path / "repair.csv"
        sheet.write(contract(house), waiting, path)
    path.write_text(path.read_text().replace(",-1", f",{right}"))
    replay = land_repaired(house.shop.settings, path, by="test")
    assert replay.taken == 1
    for batch in replay.batches:
        finish(house.shop.settings, replay.contract, batch)
    assert_apart(house)
    query = "SELECT count(*) FROM raw.bookings WHERE booking_id = %s"
    assert house.as_("app_UA").execute(query, [wrong["booking_id"]]).fetchone() == (1,)
    assert house.as_("app_DL").execute(query, [wrong["booking_id"]]).fetchone() == (0,)


def test_a_new_classified_column_is_masked_from_its_first_row_on(house: House) -> None:
    revise(house, "1.1.0", more=SEAT_NOTE)
    rows = [{**row, "seat_note": "by the window"} for row in delivered(house, "2013-02")]
    deliver(house, "2013-02", rows, "with notes")
    assert_apart(house)
    noted = "SELECT count(*), count(seat_note) FROM {} WHERE _partition = '2013-02'"
    (full, notes), (shown, seen) = (
        house.as_(login).execute(noted.format(place)).fetchone() or (0, 0)  # type: ignore[call-overload]
        for login, place in (("app_UA", "raw.bookings"), ("analyst_UA", "masked.bookings"))
    )
    assert full == notes == shown > 0
    assert seen == 0


def test_a_wider_type_leaves_mask_and_policies(house: House) -> None:
    revise(house, "1.2.0", ("numeric(8,2)", "numeric(10,2)"))
    deliver(house, "2013-02", [{**row, "seat_note": ""} for row in delivered(house, "2013-02")[:250]], "wider")
    assert_apart(house)
    assert house.administrate(
        "SELECT format_type(atttypid, atttypmod) AS type FROM pg_attribute "
        "WHERE attrelid = 'masked.bookings'::regclass AND attname = 'fare_usd'"
    ) == [{"type": "numeric(10,2)"}]


def test_a_column_that_is_classified_later_is_taken_from_those_who_could_read_it(house: House) -> None:
    reader, query = house.as_("readonly"), "SELECT max(customer) FROM raw.orders"
    assert reader.execute(query).fetchone() != (None,)
    path = house.shop.root / "schemas/orders.odcs.yaml"
    who = "description: Who ordered.\n"
    path.write_text(orders_contract(version="1.1.0").replace(who, f"{who}        classification: restricted\n"))
    house.shop.ingest(orders(4, 5, "2024-04"), "2024-04", "april.csv")
    with pytest.raises(errors.InsufficientPrivilege):
        reader.execute(query)
    assert reader.execute("SELECT count(*), max(customer) FROM masked.orders").fetchone() == (5, "Z…")


def test_tenants_that_were_kept_apart_are_not_merged_by_a_contract(house: House) -> None:
    path = house.shop.root / "schemas/bookings.odcs.yaml"
    kept = path.read_text()
    version = contract(house).version
    revise(house, "9.0.0", ("        tags: [tenant]\n", ""))
    rows = [{**row, "seat_note": ""} for row in delivered(house, "2013-02")[:50]]
    try:
        with pytest.raises(ContractError, match=r"names no tenant column any more.*keep the tag `tenant`"):
            deliver(house, "2013-02", rows, "everybody's")
    finally:
        path.write_text(kept)
    assert contract(house).version == version
    assert_apart(house)


def test_a_reader_that_stays_connected_sees_its_tenant_in_every_batch_that_comes(house: House) -> None:
    with psycopg.connect(house.url("app")) as connection:
        for number in (290, 280):
            rows = [{**row, "seat_note": ""} for row in delivered(house, "2013-01")[:number]]
            deliver(house, "2013-01", rows, f"{number} of them")
            with connection.transaction():
                connection.execute("SELECT ops.enter('UA')")
                seen = connection.execute(
                    "SELECT DISTINCT carrier FROM raw.bookings WHERE _partition = '2013-01'", prepare=True
                ).fetchall()
                assert seen == [("UA",)]
            assert connection.execute("SELECT count(*) FROM raw.bookings", prepare=True).fetchone() == (0,)
            connection.commit()
