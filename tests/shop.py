"""A small dataset of every type, in a project of its own: what tests of the data wave deliver and look at."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.conftest import KEYS, OWNER, PASSWORD, TEMPLATE

from tidegate.contracts import Contract, load
from tidegate.gates.ledger import Batch
from tidegate.settings import Settings, load_settings
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database
from tidegate.wave import ingest

HEADER = "order_id,ordered_on,customer,amount_euro,weight_kg,paid,shipped_at"
MARCH = [
    "1,2024-03-01,Ada,19.90,0.5,true,2024-03-02T10:00:00Z",
    "2,2024-03-02,Grace,0.01,,false,",
    "3,2024-03-31,Zoë,99999.99,12.25,true,2024-04-01T08:30:00+02:00",
]
LOCAL = """
  - server: inbox
    type: local
    path: "orders/{partition}.csv"
    format: csv
"""
TOPIC = """
  - server: events
    type: kafka
    host: kafka
    format: json
    customProperties:
      - property: eventTime
        value: shipped_at
"""
ORDERS = """\
apiVersion: v3.1.0
kind: DataContract
id: urn:test:orders
name: Orders
version: {version}
status: active
team:
  name: shop
servers:{server}
customProperties:
  - property: maxRefusedShare
    value: {share}
schema:
  - name: orders
    physicalName: raw.orders
    physicalType: table
    description: What was ordered.
    dataGranularityDescription: One row per order.
    properties:
      - name: order_id
        logicalType: integer
        physicalType: bigint
        description: Number of the order.
        primaryKey: true
        primaryKeyPosition: 1
      - name: ordered_on
        logicalType: date
        physicalType: date
        description: Day of the order.
        required: true
        {partitioned}
      - name: customer
        logicalType: string
        physicalType: text
        description: Who ordered.
        required: true
      - name: amount_euro
        logicalType: number
        physicalType: numeric(12,2)
        description: Price in euro.
        required: true
        logicalTypeOptions:
          minimum: 0
      - name: weight_kg
        logicalType: number
        physicalType: double precision
        description: Weight in kilograms.
      - name: paid
        logicalType: boolean
        physicalType: boolean
        description: Whether it has been paid.
        required: true
      - name: shipped_at
        logicalType: timestamp
        physicalType: timestamptz
        description: When it left the house.
"""


def orders_contract(*, server: str = LOCAL, share: float = 0, version: str = "1.0.0", partitioned: bool = True) -> str:
    """The contract's text; `server` is a YAML list of one."""
    mark = "partitioned: true" if partitioned else "partitioned: false"
    return ORDERS.format(server=server.rstrip(), share=share, version=version, partitioned=mark)


def topic_contract() -> str:
    """The contract's text where orders come one by one, as messages: its key and its event time are a stream's."""
    told = "description: Day of the order.\n"
    keyed = orders_contract(server=TOPIC).replace(
        told, f"{told}        primaryKey: true\n        primaryKeyPosition: 2\n"
    )
    return keyed.replace("physicalType: timestamptz\n", "physicalType: timestamptz\n        required: true\n")


def orders(first: int, last: int, month: str = "2024-03") -> list[str]:
    """Lines of good orders with the numbers `first` to `last`."""
    return [
        f"{n},{month}-{n % 28 + 1:02d},C{n},{n}.50,{n / 8},{str(n % 2 == 0).lower()},{month}-01T00:00:00Z"
        for n in range(first, last + 1)
    ]


@dataclass
class Shop:
    """A project with one contract, its inbox, and a look into its warehouse."""

    settings: Settings
    root: Path

    def agree(self, **changes: Any) -> Contract:
        """Write the contract of the orders anew."""
        path = self.root / "schemas/orders.odcs.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(orders_contract(**changes))
        return self.contract

    @property
    def contract(self) -> Contract:
        return load(self.settings, "orders")

    def file(self, rows: list[str] | str | bytes, name: str = "orders.csv", header: str = HEADER) -> Path:
        """Write a file: lines under the header, or content as it is."""
        path = self.root / "delivered" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(rows, list):
            rows = "\n".join([header, *rows]) + "\n"
        path.write_bytes(rows.encode() if isinstance(rows, str) else rows)
        return path

    def ingest(self, rows: list[str] | str | bytes, partition: str = "2024-03", name: str = "orders.csv") -> Batch:
        """Take rows all the way to the published table."""
        return ingest(self.settings, "orders", partition, self.file(rows, name))

    def query(self, statement: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
        assert self.settings.warehouse_url is not None
        with psycopg.connect(self.settings.warehouse_url.get_secret_value(), row_factory=dict_row) as connection:
            cursor = connection.execute(statement, parameters)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def published(self) -> list[dict[str, Any]]:
        """Every published order, by number, without its lineage; nothing where nothing was ever published."""
        if not self.query("SELECT 1 FROM pg_class WHERE oid = to_regclass('raw.orders')"):
            return []
        columns = HEADER.replace(",", ", ")
        return self.query(f"SELECT {columns} FROM raw.orders ORDER BY order_id")

    def numbers(self) -> list[int]:
        return [row["order_id"] for row in self.published()]

    def checksum(self) -> str:
        """Of everything that readers see, lineage included."""
        rows = self.query("SELECT o::text AS row FROM raw.orders o ORDER BY 1")
        return hashlib.sha256("\n".join(row["row"] for row in rows).encode()).hexdigest()

    def refused(self) -> list[dict[str, Any]]:
        return self.query("SELECT * FROM quarantine.refused_row ORDER BY refused_row_id")

    def states(self) -> list[str]:
        return [row["state"] for row in self.query("SELECT state FROM ops.batch ORDER BY created_at, batch_id")]

    def staging(self) -> list[str]:
        return [
            r["relname"]
            for r in self.query(
                "SELECT relname FROM pg_class WHERE relnamespace = 'staging'::regnamespace AND relkind = 'r'"
            )
        ]


@pytest.fixture
def shop(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The shop, open: its contract is written, nothing has been delivered."""
    root = tmp_path / "project"
    monkeypatch.setenv("TIDEGATE_PROJECT", str(root))
    found = Shop(load_settings(), root)
    found.agree()
    return found


@pytest.fixture(scope="module")
def stocked(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop for the tests of a whole module, with the orders 1 to 3 of March published."""
    folder, name = tmp_path_factory.mktemp("stocked"), f"shop_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection, pytest.MonkeyPatch.context() as patch:
        ensure_database(connection, name, OWNER, TEMPLATE)
        patch.setenv("TIDEGATE_PROJECT", str(folder / "project"))
        patch.setenv("TIDEGATE_HOME", str(folder / "home"))
        patch.setenv("TIDEGATE_WAREHOUSE_URL", postgres.dsn(name, OWNER, PASSWORD))
        patch.setenv("TIDEGATE_ENCRYPTION_KEYS", KEYS)
        found = Shop(load_settings(), folder / "project")
        found.agree()
        found.ingest(MARCH)
        yield found
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
