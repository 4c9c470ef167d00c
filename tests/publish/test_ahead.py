"""A partition stands before its first row, waits for nobody, and gives way to a batch as long as it is empty."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest
from tests.access.conftest import TENANTS, House
from tests.access.conftest import house as house
from tests.contracts.command import run
from tests.publish.showroom import url
from tests.shop import MARCH, Shop, orders, topic_contract

from tidegate.contracts import Contract, load
from tidegate.errors import BusyError, ContractError, TerminalError, UsageError
from tidegate.gates import audit_chain
from tidegate.publish.ahead import ensure_partition, make_ahead, name_of, standing
from tidegate.publish.batches import undo
from tidegate.stores.postgres import connect

NOVEMBER = datetime(2025, 11, 30, 23, 59, tzinfo=UTC)
INSERT = (
    "INSERT INTO raw.orders (order_id, ordered_on, customer, amount_euro, paid, _partition, _batch_id) "
    "VALUES (%s, %s, 'Ada', 1, true, %s, 'b')"
)


def by_topic(shop: Shop) -> Contract:
    """Let the orders come as messages."""
    (shop.root / "schemas/orders.odcs.yaml").write_text(topic_contract())
    return shop.contract


def partitions(shop: Shop) -> list[tuple[str, str]]:
    """Every partition of the orders: its table and what it takes."""
    rows = shop.query(
        "SELECT relname, pg_get_expr(relpartbound, oid) AS bound FROM pg_class WHERE oid IN "
        "(SELECT inhrelid FROM pg_inherits WHERE inhparent = 'raw.orders'::regclass) ORDER BY 1"
    )
    return [(row["relname"], row["bound"].split("'")[1]) for row in rows]


def ensure(shop: Shop, partition: str) -> str:
    with connect(shop.settings) as connection:
        return ensure_partition(connection, shop.contract, partition)


def ahead(shop: Shop) -> list[tuple[str, str]]:
    with connect(shop.settings) as connection:
        return [(found.partition, found.state) for found in standing(connection, shop.contract)]


def test_the_present_interval_and_those_after_it_stand_before_their_first_row(shop: Shop) -> None:
    assert make_ahead(shop.settings, shop.contract, NOVEMBER) == ["2025-11", "2025-12", "2026-01"]
    assert make_ahead(shop.settings, shop.contract, NOVEMBER) == []
    assert make_ahead(shop.settings, shop.contract, NOVEMBER, 3) == ["2026-02"]
    assert partitions(shop) == [
        ("orders__2025_11", "2025-11"), ("orders__2025_12", "2025-12"), ("orders__2026_01", "2026-01"), ("orders__2026_02", "2026-02"),
    ]  # fmt: skip
    shop.query(INSERT, [1, "2025-12-01", "2025-12"])
    with pytest.raises(psycopg.errors.UniqueViolation):
        shop.query(INSERT, [1, "2025-12-01", "2025-12"])
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition of relation"):
        shop.query(INSERT, [1, "2024-12-01", "2024-12"])
    assert ahead(shop) == [("2025-11", "ahead"), ("2025-12", "written"), ("2026-01", "ahead"), ("2026-02", "ahead")]


def test_partitions_are_made_ahead_where_rows_come_one_by_one_and_the_calendar_parts_them(shop: Shop) -> None:
    assert not shop.contract.made_ahead
    assert by_topic(shop).made_ahead
    whole = shop.agree(partitioned=False)
    assert not replace(whole, topic=by_topic(shop).topic).made_ahead
    shop.agree(partitioned=False)
    with pytest.raises(UsageError, match="orders is parted by nothing: only of a year, month or day"):
        make_ahead(shop.settings, whole, NOVEMBER)
    assert ensure(shop, "all").startswith("orders__all__")
    assert ensure(shop, "all") == ensure(shop, "all")


def test_a_name_that_is_no_partition_makes_none(shop: Shop) -> None:
    with pytest.raises(UsageError, match=r"'2025-13' is no partition of orders: expected the form YYYY-MM"):
        ensure(shop, "2025-13")
    with pytest.raises(UsageError, match="the calendar's last"):
        make_ahead(shop.settings, shop.contract, datetime(9999, 12, 1, tzinfo=UTC))
    assert shop.query("SELECT 1 FROM pg_class WHERE relname LIKE 'orders%%'", []) == []


def test_what_a_batch_brought_along_is_the_partition(shop: Shop) -> None:
    batch = shop.ingest(MARCH)
    assert ensure(shop, "2024-03") == batch.table
    assert ahead(shop) == []


def test_neither_readers_nor_writers_wait_for_a_partition_that_is_made(shop: Shop) -> None:
    shop.ingest(MARCH)
    make_ahead(shop.settings, shop.contract, NOVEMBER, 0)
    with psycopg.connect(url(shop)) as reader, psycopg.connect(url(shop)) as writer:
        reader.execute("SELECT count(*) FROM raw.orders")
        writer.execute(INSERT, [1, "2025-11-01", "2025-11"])
        with connect(shop.settings) as connection:
            assert ensure_partition(connection, shop.contract, "2025-12") == "orders__2025_12"
            # Not committed yet: who comes now goes on, too.
            with psycopg.connect(url(shop)) as third:
                third.execute("SET lock_timeout = '200ms'")
                assert third.execute("SELECT count(*) FROM raw.orders WHERE _partition = '2024-03'").fetchone() == (3,)
                third.execute(INSERT, [2, "2025-11-01", "2025-11"])
    assert len(shop.published()) == 5


def test_several_that_want_the_same_partition_at_once_find_one(shop: Shop) -> None:
    names: list[str] = []
    together = threading.Barrier(4)

    def want() -> None:
        together.wait()
        names.append(ensure(shop, "2026-01"))

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == ["orders__2026_01"] * 4


def test_another_change_of_the_table_that_does_not_end_is_busy_and_nothing_is_left(shop: Shop) -> None:
    shop.ingest(MARCH)
    with psycopg.connect(url(shop)) as other:
        other.execute("LOCK TABLE raw.orders IN SHARE UPDATE EXCLUSIVE MODE")
        with pytest.raises(BusyError):
            ensure(shop, "2026-01")
    assert len(partitions(shop)) == 1
    assert ensure(shop, "2026-01") == "orders__2026_01"


def test_a_partition_is_of_the_layout_that_the_table_has_by_now(shop: Shop) -> None:
    make_ahead(shop.settings, shop.contract, NOVEMBER, 0)
    path = shop.root / "schemas/orders.odcs.yaml"
    more = "      - name: gift\n        logicalType: boolean\n        physicalType: boolean\n        description: Whether it is one.\n"
    path.write_text(path.read_text() + more)
    with pytest.raises(ContractError, match="still calls itself"):
        ensure(shop, "2025-12")
    path.write_text(path.read_text().replace("version: 1.0.0", "version: 1.1.0"))
    ensure(shop, "2025-12")
    columns = shop.query(
        "SELECT attrelid::regclass::text AS name FROM pg_attribute WHERE attname = 'gift' AND attrelid::regclass::text LIKE 'raw.%%' ORDER BY 1",
        [],
    )
    assert [row["name"] for row in columns] == ["raw.orders", "raw.orders__2025_11", "raw.orders__2025_12"]


def test_a_batch_takes_the_place_of_an_empty_partition_in_one_step(shop: Shop) -> None:
    first = shop.ingest(MARCH)
    make_ahead(shop.settings, shop.contract, NOVEMBER)
    batch = shop.ingest(orders(10, 20, "2025-12"), "2025-12", "december.csv")
    assert ahead(shop) == [("2025-11", "ahead"), ("2026-01", "ahead")]
    assert shop.numbers() == [1, 2, 3, *range(10, 21)]
    # What is undone leaves a gap, as without it; the next call fills it.
    undo(shop.settings, shop.contract, batch.batch_id, by="Ada", why="wrong")
    assert make_ahead(shop.settings, shop.contract, NOVEMBER) == ["2025-12"]
    undo(shop.settings, shop.contract, first.batch_id, by="Ada", why="wrong")
    assert shop.numbers() == []
    shop.ingest(MARCH[:2])
    assert shop.numbers() == [1, 2]


def test_a_batch_does_not_hide_rows_that_came_one_by_one(shop: Shop) -> None:
    make_ahead(shop.settings, shop.contract, NOVEMBER)
    shop.query(INSERT, [1, "2025-12-01", "2025-12"])
    with pytest.raises(
        TerminalError, match=r"orders 2025-12 has rows that came one by one \(table raw.orders__2025_12\)"
    ):
        shop.ingest(orders(10, 20, "2025-12"), "2025-12", "december.csv")
    assert (shop.numbers(), shop.states()) == ([1], ["judged"])


def test_names_that_would_be_cut_or_written_in_other_characters_stay_apart(shop: Shop) -> None:
    contract = load(shop.settings, "orders")
    assert name_of(contract, "2025-12") == "orders__2025_12"
    path = shop.root / "schemas/orders.odcs.yaml"
    by_customer = path.read_text().replace("partitioned: true", "partitioned: false")
    path.write_text(
        by_customer.replace(
            "description: Who ordered.\n",
            "description: Who ordered.\n        partitioned: true\n        partitionKeyPosition: 1\n",
        )
    )
    parted = shop.contract
    assert name_of(parted, "A/B") != name_of(parted, "A-B")
    assert ensure(shop, "it's") == ensure(shop, "it's")
    assert ahead(shop) == [("it's", "ahead")]


def test_tenants_are_kept_apart_and_writes_are_recorded_in_a_partition_made_ahead(house: House) -> None:
    settings = house.shop.settings
    contract = load(settings, "bookings")
    assert make_ahead(settings, contract, NOVEMBER, 0) == ["2025-11"]
    assert house.unguarded() == []
    with connect(settings) as connection:
        assert audit_chain.unwatched(connection, [contract]) == ()
    house.administrate(
        'INSERT INTO raw.bookings SELECT (jsonb_populate_record(b, \'{"_partition": "2025-11"}\')).* FROM raw.bookings AS b '
        "WHERE _partition = '2013-01'"
    )
    # The owner is bound by the policies, and yet must not take it for empty.
    with connect(settings) as connection:
        assert [(one.partition, one.state) for one in standing(connection, contract)] == [("2025-11", "written")]
    for tenant in TENANTS:
        seen = house.as_(f"app_{tenant}").execute(
            "SELECT DISTINCT carrier FROM raw.bookings WHERE _partition = '2025-11'"
        )
        assert seen.fetchall() == [(tenant,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        house.as_("app_UA").execute("SELECT 1 FROM raw.bookings__2025_11")
    house.administrate("DELETE FROM raw.bookings WHERE _partition = '2025-11'")


def test_the_command_makes_them_and_lists_them(shop: Shop) -> None:
    assert run("partition", "ahead").output == ""
    said = run("partition", "ahead", "--dataset", "orders", "--count", "1", "--json").output
    # What was done is logged, to the other stream.
    made = json.loads(said[said.index("[\n") :])
    this, following = (one["partition"] for one in made)
    assert made[0] == {"dataset": "orders", "partition": this, "table": f"raw.orders__{this.replace('-', '_')}"}
    listed = json.loads(run("partition", "list", "--json").output)
    assert [(p["partition"], p["state"], p["rows"]) for p in listed] == [(this, "ahead", 0), (following, "ahead", 0)]
    shop.ingest(MARCH)
    shown = run("partition", "list", "--dataset", "orders").output
    assert ("\tpublished\t" in shown, shown.count("\tahead\t")) == (True, 2)
    assert run("partition", "ahead", "--count", "-1").exit_code == 2


def test_without_a_name_the_command_makes_them_for_every_dataset_whose_rows_come_one_by_one(shop: Shop) -> None:
    by_topic(shop)
    assert run("partition", "ahead").output.count(" waits for its rows\n") == 3
    assert run("partition", "ahead", "--count", "1").output == ""
    assert run("partition", "ahead", "--count", "3").output.count(" waits for its rows\n") == 1
