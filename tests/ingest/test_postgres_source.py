"""Somebody's PostgreSQL is read exactly, by its partition or its increment, and never written to."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from tests.conftest import OWNER, PASSWORD
from tests.contracts.command import run
from tests.shop import Shop

from tidegate import wave
from tidegate.errors import ContractError, SourceError, UnavailableError, UsageError
from tidegate.gates.ledger import Batch
from tidegate.publish.batches import undo
from tidegate.settings import get_settings, load_settings
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database

TILL = """
    CREATE SEQUENCE ones;
    CREATE TABLE orders (order_id bigint, ordered_on date, customer text, amount_euro numeric, weight_kg float8,
                         paid boolean, shipped_at timestamptz, secret text DEFAULT 'not ours');
    INSERT INTO orders VALUES
        (1, '2024-03-01', 'Ada', 19.90, 0.1, true, '2024-03-02 10:00:00.123456+00'),
        (2, '2024-03-31', '', 9999999999.99, NULL, false, NULL),
        (4, '2024-04-01', 'Grace', 0.01, 12.25, true, '2024-04-01 08:30:00+02');
"""
NEW = "INSERT INTO orders VALUES (%s, '2024-03-05', %s, 5, 1, true, %s)"


@dataclass
class Till:
    """The shop's till: a database of somebody else's, and the shop that reads it."""

    shop: Shop
    url: str

    def agree(self, *properties: str, **changes: Any) -> None:
        lines = "".join(f"\n      - {{{p}}}" for p in properties)
        self.shop.agree(
            server=f"\n  - server: till-1\n    type: postgres\n    host: localhost\n    port: 5432\n    database: till\n"
            f"    schema: public\n    customProperties:{lines}\n",
            **changes,
        )

    def execute(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement, values or None)  # type: ignore[call-overload]

    def ingest(self, partition: str | None = "2024-03") -> Batch:
        return wave.ingest(load_settings(), "orders", partition)


@pytest.fixture
def till(shop: Shop, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Till]:
    name = f"till_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        ensure_database(connection, name, OWNER)
        found = Till(shop, postgres.dsn(name, OWNER, PASSWORD))
        monkeypatch.setenv("TIDEGATE_SOURCE_TILL_1_URL", found.url)
        found.execute(TILL)
        found.agree("property: table, value: orders")
        yield found
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


MARCH_1 = {
    "order_id": 1,
    "ordered_on": datetime(2024, 3, 1).date(),
    "customer": "Ada",
    "amount_euro": Decimal("19.90"),
    "weight_kg": 0.1,
    "paid": True,
    "shipped_at": datetime(2024, 3, 2, 10, 0, 0, 123456, tzinfo=UTC),
}


def test_a_table_is_read_by_its_partition_with_exact_values(till: Till) -> None:
    batch = till.ingest()
    first, second = till.shop.published()
    assert first == MARCH_1
    assert (second["customer"], second["amount_euro"]) == ("", Decimal("9999999999.99"))
    assert (second["weight_kg"], second["shipped_at"]) == (None, None)
    assert (batch.source_name, batch.delivered_count) == ("till-1", 2)
    # Read once more, in whatever order, it is the same delivery.
    till.execute("CREATE TABLE again AS SELECT * FROM orders ORDER BY order_id DESC; DROP TABLE orders")
    till.execute("ALTER TABLE again RENAME TO orders")
    assert till.ingest().batch_id == batch.batch_id
    till.ingest("2024-04")
    assert till.shop.numbers() == [1, 2, 4]


def test_a_query_is_read_whole_where_there_are_no_partitions(till: Till) -> None:
    query = "WITH o AS (SELECT * FROM orders) SELECT * FROM o WHERE paid AND customer LIKE '%' -- paid {ones};"
    till.agree(f'property: query, value: "{query}"', partitioned=False)
    till.ingest(None)
    assert till.shop.numbers() == [1, 4]


def test_a_partitioned_table_is_asked_for_one_of_its_partitions(till: Till) -> None:
    till.execute("ALTER TABLE orders RENAME TO everything")
    till.execute("CREATE TABLE orders (LIKE everything) PARTITION BY RANGE (ordered_on)")
    till.execute("CREATE TABLE march PARTITION OF orders FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')")
    till.execute("CREATE TABLE april PARTITION OF orders FOR VALUES FROM ('2024-04-01') TO ('2024-05-01')")
    till.execute("INSERT INTO orders SELECT * FROM everything")
    with psycopg.connect(till.url) as blocking:
        # Who had to look into April would wait for this lock.
        blocking.execute("LOCK TABLE ONLY april IN ACCESS EXCLUSIVE MODE")
        till.ingest("2024-03")
    assert till.shop.numbers() == [1, 2]


INCREMENT = ("property: table, value: orders", "property: incrementalColumn, value: shipped_at")


def test_an_increment_brings_new_and_changed_rows_and_then_nothing(till: Till) -> None:
    till.agree(*INCREMENT)
    till.ingest()
    # In the same instant as the newest, and before it: the latter is not asked for.
    till.execute(NEW, 3, "Same", "2024-03-02 10:00:00.123456+00")
    till.execute(NEW, 5, "Late", "2024-03-01 00:00:00+00")
    till.execute("UPDATE orders SET customer = 'Ada L.', shipped_at = '2024-03-09 00:00:00+00' WHERE order_id = 1")
    changed = till.ingest()
    assert [(row["order_id"], row["customer"]) for row in till.shop.published()] == [
        (1, "Ada L."),
        (2, ""),
        (3, "Same"),
    ]
    assert (changed.delivered_count, changed.refused_count) == (3, 0)
    assert changed.source_name.endswith(", till-1")
    checksum = till.shop.checksum()
    assert till.ingest().batch_id == changed.batch_id
    assert till.shop.checksum() == checksum
    assert till.shop.states() == ["superseded", "published"]


def test_an_increment_is_read_again_after_it_was_undone(till: Till) -> None:
    till.agree(*INCREMENT)
    till.ingest()
    till.execute(NEW, 3, "Three", "2024-03-08 00:00:00+00")
    wrong = till.ingest()
    undo(till.shop.settings, till.shop.contract, wrong.batch_id, by="tester", why="test")
    assert till.shop.numbers() == [1, 2]
    till.execute("UPDATE orders SET customer = 'Drei', shipped_at = '2024-03-08 00:00:01+00' WHERE order_id = 3")
    till.ingest()
    assert [row["customer"] for row in till.shop.published()] == ["Ada", "", "Drei"]


def test_a_refused_row_that_is_read_again_and_again_makes_one_batch(till: Till) -> None:
    till.agree(*INCREMENT, share=0.5)
    till.ingest()
    till.execute("INSERT INTO orders VALUES (3, '2024-03-08', 'C', 'NaN', 1, true, '2024-03-08 00:00:00+00')")
    batches = {till.ingest().batch_id for _ in range(3)}
    assert (len(batches), len(till.shop.refused())) == (1, 1)
    assert till.shop.numbers() == [1, 2]


def test_a_new_version_of_the_contract_reads_everything_again(till: Till) -> None:
    till.agree(*INCREMENT)
    till.ingest()
    till.execute("UPDATE orders SET customer = 'Eve' WHERE order_id = 2")
    assert [row["customer"] for row in till.shop.published()] == ["Ada", ""]
    till.agree(*INCREMENT, version="1.1.0")
    till.ingest()
    assert [row["customer"] for row in till.shop.published()] == ["Ada", "Eve"]


def test_values_that_the_contract_has_no_room_for_are_held_as_the_source_prints_them(till: Till) -> None:
    till.agree("property: table, value: orders", share=0.9)
    till.execute("INSERT INTO orders VALUES (6, '2024-03-06', 'A', 'NaN', 1, true, NULL)")
    till.execute("INSERT INTO orders VALUES (7, '2024-03-07', 'B', 1, 'Infinity', true, NULL)")
    till.execute("INSERT INTO orders VALUES (8, '2024-03-08', 'C', 1, 1, true, 'infinity')")
    till.execute("INSERT INTO orders VALUES (9, '2024-03-09', 'D', 1, 1, true, '0044-03-15 BC')")
    till.execute("INSERT INTO orders VALUES (10, '2024-03-10', 'E', 1.005, 1, true, NULL)")
    till.ingest()
    assert till.shop.numbers() == [1, 2]
    assert sorted((row["column_name"], row["value"]) for row in till.shop.refused()) == [
        ("amount_euro", "1.005"),
        ("amount_euro", "NaN"),
        ("shipped_at", "0044-03-15 00:00:00+00 BC"),
        ("shipped_at", "infinity"),
        ("weight_kg", "Infinity"),
    ]
    assert {row["source_file"] for row in till.shop.refused()} == {"till-1"}


def test_types_that_the_contract_does_not_know_arrive_as_their_text(till: Till) -> None:
    till.execute("ALTER TABLE orders ALTER customer TYPE uuid USING '6ba7b810-9dad-11d1-80b4-00c04fd430c8'")
    till.execute("ALTER TABLE orders ALTER order_id TYPE oid USING 4294967295, ALTER paid TYPE text USING 'no'")
    till.execute("DELETE FROM orders WHERE amount_euro > 20")
    till.ingest()
    (row,) = till.shop.published()
    assert (row["order_id"], row["customer"]) == (4294967295, "6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    assert row["paid"] is False


@pytest.mark.parametrize(
    ("properties", "error", "sentence"),
    [
        (["property: table, value: nope"], SourceError, 'refuses the query (relation "public.nope" does not exist)'),
        (
            ["property: query, value: SELECT 1 AS order_id"],
            SourceError,
            'refuses the query (column "ordered_on" does not exist); check table, query and column names',
        ),
        (
            ["property: query, value: 'SELECT * FROM orders; DROP TABLE orders'"],
            SourceError,
            'refuses the query (syntax error at or near ";")',
        ),
        (
            ["property: query, value: SELECT o.* FROM orders o WHERE nextval('ones') > 0"],
            SourceError,
            "refuses the query (cannot execute nextval() in a read-only transaction)",
        ),
        (
            ["property: query, value: SELECT o.* FROM orders o WHERE 1 / (order_id - 1) = 0"],
            SourceError,
            "refuses the query (division by zero)",
        ),
        (["property: fetchSize, value: 1"], ContractError, "server 'till-1' needs a custom property `table`, or else"),
        (
            ["property: table, value: orders", "property: query, value: SELECT 1"],
            ContractError,
            "needs a custom property `table`, or else `query`",
        ),
        (
            ["property: table, value: orders", "property: incrementalColumn, value: changed_at"],
            ContractError,
            "incrementalColumn 'changed_at' must be a column of the contract",
        ),
    ],
)
def test_what_the_source_or_the_contract_refuses_is_told(
    till: Till, properties: list[str], error: type[Exception], sentence: str
) -> None:
    till.agree(*properties)
    with pytest.raises(error) as refused:
        till.ingest()
    assert sentence in str(refused.value)
    till.execute("SELECT count(*) FROM orders")
    assert till.shop.published() == []


def test_a_source_that_goes_away_while_it_sends_is_transient(till: Till) -> None:
    till.agree("property: query, value: SELECT o.* FROM orders o WHERE pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(
        UnavailableError, match=r"does not answer \(terminating connection due to administrator command"
    ):
        till.ingest()


SECRET = "hunter2%2Fsecret"


def test_a_source_that_is_down_or_refuses_us_tells_no_secret(
    till: Till, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    host = f"127.0.0.1:{postgres.dsn().rpartition(':')[2].partition('/')[0]}"
    told = []
    for address, error, sentence in (
        (
            f"postgresql://ada:{SECRET}@127.0.0.1:1/till",
            UnavailableError,
            "till-1 at postgresql://ada@127.0.0.1:1/till does",
        ),
        (f"postgresql://{OWNER}:{SECRET}@{host}/till", SourceError, "refuses us (password authentication failed"),
        (
            f"postgresql://ada:{SECRET}%zz@localhost/till",
            ContractError,
            "TIDEGATE_SOURCE_TILL_1_URL is no address of a PostgreSQL",
        ),
        (f"postgresql://ada:{SECRET.replace('%2F', '/')}@localhost/till", UsageError, "percent-encoded"),
        (
            f"mysql://ada:{SECRET}@localhost/till",
            ContractError,
            "expected postgresql://user:password@host:port/database",
        ),
    ):
        monkeypatch.setenv("TIDEGATE_SOURCE_TILL_1_URL", address)
        with pytest.raises(error) as refused:
            till.ingest()
        assert sentence in str(refused.value)
        get_settings.cache_clear()
        ended = run("ingest", "orders", "-p", "2024-03")
        assert (ended.exit_code, sentence in ended.output) == (1, True)
        told += [str(refused.value), ended.output]
    assert "hunter2" not in "\n".join([*told, caplog.text])


def test_without_an_address_of_ours_libpq_looks_where_its_user_keeps_them(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TIDEGATE_SOURCE_TILL_1_URL")
    with psycopg.connect(till.url) as connection:
        info = connection.info
        contract = till.shop.root / "schemas/orders.odcs.yaml"
        text = (
            contract.read_text()
            .replace("port: 5432", f"port: {info.port}")
            .replace("host: localhost", f"host: {info.host}")
        )
        contract.write_text(text.replace("database: till", f"database: {info.dbname}"))
        monkeypatch.setenv("PGUSER", info.user)
        monkeypatch.setenv("PGPASSWORD", info.password)
    till.ingest()
    assert till.shop.numbers() == [1, 2]
