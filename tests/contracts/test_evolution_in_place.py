"""A contract changes while data are published: compatible changes happen in place, breaking ones are refused."""

from __future__ import annotations

import psycopg
import pytest
from tests.shop import Shop, orders, orders_contract

from tidegate.contracts import Contract
from tidegate.errors import ContractError
from tidegate.publish import evolve
from tidegate.publish.batches import publish, undo
from tidegate.stores.postgres import connect
from tidegate.wave import ingest

HEADER = "order_id,ordered_on,customer,amount_euro,weight_kg,paid,shipped_at,note"
NOTE = """\
      - name: note
        logicalType: string
        physicalType: text
        description: What the customer wrote.
"""


def revise(shop: Shop, version: str, *changes: tuple[str, str], more: str = "") -> Contract:
    text = orders_contract(version=version)
    for before, after in changes:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    (shop.root / "schemas/orders.odcs.yaml").write_text(text + more)
    return shop.contract


def deliver(shop: Shop, rows: list[str], partition: str, header: str = HEADER) -> str:
    return ingest(shop.settings, "orders", partition, shop.file(rows, f"{partition}.csv", header)).batch_id


def layout(shop: Shop) -> dict[str, tuple[str, bool]]:
    with connect(shop.settings) as connection:
        found = evolve.layout_of(connection, "raw", "orders")
    assert found is not None
    return {name: (shape.type, shape.required) for name, shape in found.columns.items()}


def test_a_new_column_that_may_be_empty_is_added_in_place_and_old_rows_stay(shop: Shop) -> None:
    shop.ingest(orders(1, 5))
    before = shop.published()
    revise(shop, "1.1.0", more=NOTE)
    deliver(shop, [f"{row},thanks" for row in orders(6, 7, "2024-04")], "2024-04")
    assert shop.published()[:5] == before
    notes = shop.query("SELECT note, count(*) AS n FROM raw.orders GROUP BY 1 ORDER BY 1")
    assert notes == [{"note": "thanks", "n": 2}, {"note": None, "n": 5}]
    recorded = shop.query("SELECT contract_version, columns -> -1 ->> 'name' AS last FROM ops.table_layout")
    assert recorded == [{"contract_version": "1.1.0", "last": "note"}]
    described = shop.query("SELECT col_description('raw.orders'::regclass, 10) AS words")
    assert described == [{"words": "What the customer wrote."}]


def test_a_type_is_widened_and_a_column_may_become_empty_under_the_views_on_it(shop: Shop) -> None:
    narrow = ("physicalType: bigint", "physicalType: integer")
    revise(shop, "1.0.0", narrow)
    shop.ingest(orders(1, 3))
    shop.query(
        "CREATE VIEW staging.stg_orders WITH (security_barrier=true) AS SELECT order_id, customer FROM raw.orders"
    )
    shop.query("CREATE VIEW staging.stg_first AS SELECT min(order_id) AS first FROM staging.stg_orders")
    shop.query("COMMENT ON VIEW staging.stg_orders IS 'for people'")
    shop.query("COMMENT ON COLUMN staging.stg_orders.customer IS 'a name'")
    shop.query("GRANT SELECT ON staging.stg_orders TO PUBLIC")
    before = shop.published()

    relaxed = ("description: Who ordered.\n        required: true", "description: Who ordered.")
    wide = ("numeric(12,2)", "numeric(14,3)")
    revise(shop, "1.1.0", relaxed, wide)
    shop.ingest(["3000000000,2024-04-01,,1.125,,true,"], "2024-04", "april.csv")
    assert shop.published()[:3] == before
    assert shop.numbers() == [1, 2, 3, 3_000_000_000]
    assert layout(shop)["order_id"] == ("bigint", True)
    assert layout(shop)["customer"] == ("text", False)
    assert layout(shop)["amount_euro"] == ("numeric(14,3)", True)
    assert shop.query("SELECT first FROM staging.stg_first") == [{"first": 1}]
    view = shop.query(
        "SELECT obj_description(c.oid) AS words, col_description(c.oid, 2) AS column_words, "
        "array_to_string(reloptions, ',') AS options, array_to_string(relacl, ',') AS grants "
        "FROM pg_class c WHERE oid = 'staging.stg_orders'::regclass"
    )[0]
    assert (view["words"], view["column_words"], view["options"]) == (
        "for people",
        "a name",
        "security_barrier=true",
    )
    assert "=r/" in view["grants"]


def test_a_materialized_view_on_a_widened_column_is_not_made_again_behind_its_owner(shop: Shop) -> None:
    revise(shop, "1.0.0", ("physicalType: bigint", "physicalType: integer"))
    shop.ingest(orders(1, 3))
    shop.query("CREATE MATERIALIZED VIEW staging.frozen AS SELECT order_id FROM raw.orders")
    shop.agree(version="1.1.0")
    with pytest.raises(ContractError, match=r"widen column order_id to bigint would change staging\.frozen"):
        shop.ingest(orders(4, 5, "2024-04"), "2024-04", "april.csv")
    assert shop.numbers() == [1, 2, 3]


def test_undo_brings_back_a_batch_of_before_the_change(shop: Shop) -> None:
    shop.ingest(orders(1, 5))
    before = shop.published()
    contract = revise(shop, "1.1.0", more=NOTE)
    later = deliver(shop, [f"{row},thanks" for row in orders(1, 9)], "2024-03")
    assert len(shop.published()) == 9
    undo(shop.settings, contract, later, by="test", why="to see the old rows again")
    assert shop.published() == before
    assert shop.query("SELECT DISTINCT note FROM raw.orders") == [{"note": None}]


def test_a_batch_staged_before_the_change_is_published_after_it(shop: Shop) -> None:
    from tidegate.gates.judge import judge
    from tidegate.ingest.land import land
    from tidegate.ingest.stage import stage

    old = shop.contract
    waiting = land(shop.settings, old, "2024-03", shop.file(orders(1, 2)))
    stage(shop.settings, old, waiting.batch_id)
    judge(shop.settings, old, waiting.batch_id)
    new = revise(shop, "1.1.0", more=NOTE)
    deliver(shop, [f"{row},thanks" for row in orders(3, 4, "2024-04")], "2024-04")
    publish(shop.settings, new, waiting.batch_id)
    assert shop.numbers() == [1, 2, 3, 4]


def test_a_batch_staged_under_a_later_contract_is_not_published_by_an_older_checkout(shop: Shop) -> None:
    from tidegate.gates.judge import judge
    from tidegate.ingest.land import land
    from tidegate.ingest.stage import stage

    old = shop.contract
    shop.ingest(orders(1, 2))
    new = revise(shop, "1.1.0", more=NOTE)
    file = shop.file([f"{row},thanks" for row in orders(3, 4, "2024-04")], "april.csv", HEADER)
    waiting = land(shop.settings, new, "2024-04", file)
    stage(shop.settings, new, waiting.batch_id)
    judge(shop.settings, new, waiting.batch_id)
    with pytest.raises(ContractError, match=r"cannot join raw\.orders: the latter drops column note; deliver"):
        publish(shop.settings, old, waiting.batch_id)
    assert shop.numbers() == [1, 2]
    publish(shop.settings, new, waiting.batch_id)
    assert shop.numbers() == [1, 2, 3, 4]


def test_a_dataset_without_a_key_is_published_corrected_and_taken_back(shop: Shop) -> None:
    """Rows may be there twice; nothing else is different."""
    contract = revise(shop, "1.0.0", ("        primaryKey: true\n        primaryKeyPosition: 1\n", ""))
    shop.ingest([*orders(1, 2), *orders(2, 2)])
    assert shop.numbers() == [1, 2, 2]
    later = shop.ingest(orders(1, 3))
    undo(shop.settings, contract, later.batch_id, by="test", why="to see the old rows again")
    assert shop.numbers() == [1, 2, 2]


def test_a_checkout_with_the_older_contract_goes_on_publishing(shop: Shop) -> None:
    revise(shop, "1.1.0", more=NOTE)
    deliver(shop, [f"{row},thanks" for row in orders(1, 2)], "2024-03")
    shop.agree()
    shop.ingest(orders(3, 4, "2024-04"), "2024-04", "april.csv")
    assert shop.numbers() == [1, 2, 3, 4]
    assert shop.query("SELECT contract_version FROM ops.table_layout") == [{"contract_version": "1.1.0"}]


def test_a_change_without_a_new_version_is_refused(shop: Shop) -> None:
    shop.ingest(orders(1, 2))
    revise(shop, "1.0.0", more=NOTE)
    with pytest.raises(ContractError, match=r"has changed \(add column note text\) and still calls itself 1\.0\.0"):
        deliver(shop, [f"{row},thanks" for row in orders(3, 4, "2024-04")], "2024-04")
    assert shop.numbers() == [1, 2]


BREAKING = {
    "dropped": (
        ("        description: Who ordered.\n        required: true\n", ""),
        ("      - name: customer\n        logicalType: string\n        physicalType: text\n", ""),
        r"orders\.odcs\.yaml:\d+: version 2\.0\.0 drops column customer;.* keep customer with `required: false`",
    ),
    "renamed": (
        ("name: customer", "name: buyer"),
        ("Who ordered.\n        required: true", "Who ordered."),
        r"orders\.odcs\.yaml:\d+: version 2\.0\.0 drops column customer \(renames it to buyer\)",
    ),
    "retyped": (
        ("logicalType: boolean", "logicalType: string"),
        ("physicalType: boolean", "physicalType: text"),
        r"orders\.odcs\.yaml:\d+: version 2\.0\.0 changes column paid from boolean to text;.* under another name",
    ),
    "narrowed": (
        ("physicalType: bigint", "physicalType: integer"),
        ("version: 2.0.0", "version: 2.0.0"),
        r"orders\.odcs\.yaml:\d+: version 2\.0\.0 changes column order_id from bigint to integer",
    ),
    "tightened": (
        ("Weight in kilograms.", "Weight in kilograms.\n        required: true"),
        ("version: 2.0.0", "version: 2.0.0"),
        r"says that column weight_kg is never empty, and rows published before may be",
    ),
    "rekeyed": (
        ("Who ordered.", "Who ordered.\n        primaryKey: true\n        primaryKeyPosition: 2"),
        ("version: 2.0.0", "version: 2.0.0"),
        r"changes the key from \(order_id\) to \(order_id, customer\)",
    ),
    "repartitioned": (
        (
            "partitioned: true",
            "partitioned: true\n        customProperties: [{property: partitionGrain, value: day}]",
        ),
        ("version: 2.0.0", "version: 2.0.0"),
        r"changes what a partition is from ordered_on \(month\) to ordered_on \(day\)",
    ),
    "added, never empty": (
        ("version: 2.0.0", "version: 2.0.0"),
        (
            "description: When it left the house.\n",
            "description: When it left the house.\n" + NOTE + "        required: true\n",
        ),
        r"adds column note, never empty, and rows published before have no value for it;.* `required: false`",
    ),
}


@pytest.mark.parametrize("case", BREAKING)
def test_a_breaking_change_is_refused_and_nothing_is_touched(shop: Shop, case: str) -> None:
    first, second, sentence = BREAKING[case]
    shop.ingest(orders(1, 3))
    checksum, before = shop.checksum(), layout(shop)
    contract = revise(shop, "2.0.0", first, second)
    with connect(shop.settings) as connection, pytest.raises(ContractError, match=sentence):
        evolve.ensure(connection, contract)
    assert (shop.checksum(), layout(shop)) == (checksum, before)
    assert shop.query("SELECT contract_version FROM ops.table_layout") == [{"contract_version": "1.0.0"}]


def test_the_refusal_names_the_model_the_transform_the_suite_and_the_contract_that_read_the_column(
    shop: Shop,
) -> None:
    shop.ingest(orders(1, 3))
    readers = {
        "models/staging/stg_orders.sql": "-- customer\nselect\n    customer as buyer\nfrom {{ source('raw', 'orders') }}\n",
        "models/marts/mart_buyer.sql": "select buyer from {{ ref('stg_orders') }}\n",
        "models/marts/mart_other.sql": "select 1 as customer\n",
        "transforms/loyal.py": '"""Reads customer."""\nINPUTS = ("orders",)\n\n\ndef transform(orders):\n'
        '    return orders.select("customer")\n',
        "expectations/orders.yaml": "# customer\nexpectations:\n  - {name: known, type: expect_column_to_exist, kwargs: {column: customer}, severity: warning}\n",
        "schemas/visit.odcs.yaml": orders_contract()
        .replace("orders", "visit")
        .replace("Who ordered.", "Who came.\n        relationships: [{type: foreignKey, to: orders.customer}]"),
    }
    for name, text in readers.items():
        path = shop.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    contract = revise(shop, "2.0.0", ("name: customer", "name: buyer"))
    with pytest.raises(ContractError) as refused:
        deliver(
            shop,
            orders(4, 5, "2024-04"),
            "2024-04",
            HEADER.removesuffix(",note").replace("customer", "buyer"),
        )
    sentence = str(refused.value)
    assert "dbt model stg_orders (models/staging/stg_orders.sql:3)" in sentence
    assert "transform loyal (transforms/loyal.py:6)" in sentence
    assert "suite orders (expectations/orders.yaml:3)" in sentence
    assert "contract visit (schemas/visit.odcs.yaml:" in sentence
    assert "and through them mart_buyer" in sentence
    assert "mart_other" not in sentence
    assert shop.numbers() == [1, 2, 3]
    assert contract.version == "2.0.0"


def test_publishing_again_under_the_same_contract_takes_no_lock_that_readers_feel(shop: Shop) -> None:
    shop.ingest(orders(1, 3))
    assert shop.settings.warehouse_url is not None
    with psycopg.connect(shop.settings.warehouse_url.get_secret_value()) as reader:
        reader.execute("SELECT count(*) FROM raw.orders")
        with connect(shop.settings) as connection:
            connection.execute("SET LOCAL lock_timeout = '200ms'")
            assert evolve.ensure(connection, shop.contract) == []
