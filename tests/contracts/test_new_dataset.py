"""A new dataset is one new file and no Python: contracts of datasets that this repository has never seen."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.contracts.command import run

from tidegate.contracts import house, load_all
from tidegate.settings import Settings, get_settings, load_settings

CHECKOUT = Path(__file__).resolve().parents[2]

HEAD = """\
apiVersion: v3.1.0
kind: DataContract
id: urn:test:{name}
name: {name}
version: 1.0.0
status: active
team: {{name: somebody}}
slaProperties:
  - {{property: latency, value: 6, unit: h}}
  - {{property: frequency, value: 1, unit: day}}
  - {{property: retention, value: 1, unit: y}}
"""

METERS = (
    HEAD.format(name="meter_reading")
    + """\
servers:
  - server: utility
    type: local
    path: "meters/{partition}.csv"
    format: csv
    customProperties:
      - {property: delimiter, value: ";"}
      - {property: nullValues, value: ["-"]}
schema:
  - name: meter_reading
    description: Readings of electricity meters.
    dataGranularityDescription: One row per meter and register at an hour.
    properties:
      - {name: meter, logicalType: string, primaryKey: true, primaryKeyPosition: 1, description: Number on the meter.,
         logicalTypeOptions: {pattern: "^[A-Z]{2}[0-9]{4}$"}}
      - {name: read_on, logicalType: date, required: true, partitioned: true, description: Day of the reading.,
         primaryKey: true, primaryKeyPosition: 3, customProperties: [{property: partitionGrain, value: day}]}
      - {name: register, logicalType: integer, physicalType: smallint, primaryKey: true, primaryKeyPosition: 2,
         description: Which of its counters., logicalTypeOptions: {minimum: 1, maximum: 4}}
      - {name: energy_kwh, logicalType: number, physicalType: "numeric(18,6)", description: Energy in kWh.}
      - {name: remark, logicalType: string, description: What the reader saw.}
"""
)
METER_ROWS = [
    "meter;read_on;register;energy_kwh;remark",
    'AB1234;2024-02-29;1;123456789012.123456;"door; closed"',
    "AB1234;2024-02-29;2;0.000001;-",
    "ZZ0001;2024-02-29;1;-;Zähler fehlt",
]

INVOICES = (
    HEAD.format(name="invoice")
    + """\
servers:
  - {server: books, type: local, path: "invoices-{partition}.parquet", format: parquet}
schema:
  - name: invoice
    description: What was billed.
    dataGranularityDescription: One row per invoice.
    properties:
      - {name: invoice_id, logicalType: integer, primaryKey: true, description: Number of the invoice.}
      - {name: billed_on, logicalType: date, required: true, partitioned: true, description: Date on the invoice.}
      - {name: total_euro, logicalType: number, physicalType: "numeric(12,2)", required: true, description: Sum in euro.}
      - {name: paid, logicalType: boolean, description: Whether it is paid.}
"""
)
INVOICE_TABLE = pa.table(
    {
        "paid": pa.array([True, None], pa.bool_()),
        "invoice_id": pa.array([2**40, 7], pa.int64()),
        "billed_on": pa.array([date(2024, 5, 1), date(2024, 5, 31)], pa.date32()),
        "total_euro": pa.array([Decimal("9999999999.99"), Decimal("-0.01")], pa.decimal128(12, 2)),
    }
)

EVENTS = (
    HEAD.format(name="door_event")
    + """\
servers:
  - {server: doors, type: local, path: "doors/*.jsonl.gz", format: jsonl}
schema:
  - name: door_event
    description: Doors that were opened or closed.
    dataGranularityDescription: One row per event.
    properties:
      - {name: event_id, logicalType: string, primaryKey: true, description: Identifier given by the door.}
      - {name: at, logicalType: timestamp, required: true, description: Instant of the event.}
      - {name: opened, logicalType: boolean, required: true, description: True for opened.}
      - {name: force_newton, logicalType: number, physicalType: real, description: Force in newton.}
"""
)
EVENT_ROWS = [
    {"event_id": "e1", "at": "2024-05-01T10:00:00+02:00", "opened": True, "force_newton": 1.5},
    {"event_id": "e,2;\"'", "at": "2024-05-01T10:00:01Z", "opened": False},
]


@pytest.fixture
def project(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty project: nothing but three contracts, and what was delivered."""
    root = tmp_path / "elsewhere"
    schemas, inbox = root / "schemas", settings.inbox_path
    schemas.mkdir(parents=True)
    for name, text in {"meter_reading": METERS, "invoice": INVOICES, "door_event": EVENTS}.items():
        (schemas / f"{name}.odcs.yaml").write_text(text)
    (inbox / "meters").mkdir(parents=True)
    (inbox / "doors").mkdir()
    (inbox / "meters/2024-02-29.csv").write_text("\n".join(METER_ROWS), encoding="utf-8")
    pq.write_table(INVOICE_TABLE, inbox / "invoices-2024-05.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in EVENT_ROWS)
    (inbox / "doors/today.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    monkeypatch.setenv("TIDEGATE_PROJECT", str(root))
    get_settings.cache_clear()
    return load_settings()


def rows(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    assert settings.warehouse_url is not None
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        connection.execute("SET timezone = 'UTC'")
        return connection.execute(statement).fetchall()  # type: ignore[call-overload, no-any-return]


def test_a_semicolon_file_with_decimals_is_published_by_day(project: Settings) -> None:
    ended = run("ingest", "meter_reading", "--partition", "2024-02-29")
    assert ended.exit_code == 0, ended.output
    day = date(2024, 2, 29)
    assert rows(project, "SELECT * FROM raw.meter_reading ORDER BY meter, register") == [
        ("AB1234", day, 1, Decimal("123456789012.123456"), "door; closed", "2024-02-29", batch(project)),
        ("AB1234", day, 2, Decimal("0.000001"), None, "2024-02-29", batch(project)),
        ("ZZ0001", day, 1, None, "Zähler fehlt", "2024-02-29", batch(project)),
    ]


def test_a_parquet_file_is_published_by_the_month_of_a_date(project: Settings) -> None:
    ended = run("ingest", "invoice", "--partition", "2024-05")
    assert ended.exit_code == 0, ended.output
    assert rows(project, "SELECT invoice_id, billed_on, total_euro, paid FROM raw.invoice ORDER BY 1") == [
        (7, date(2024, 5, 31), Decimal("-0.01"), None),
        (2**40, date(2024, 5, 1), Decimal("9999999999.99"), True),
    ]


def test_gzipped_json_lines_are_published_whole(project: Settings) -> None:
    ended = run("ingest", "door_event")
    assert ended.exit_code == 0, ended.output
    assert rows(project, 'SELECT event_id, "at", opened, force_newton FROM raw.door_event ORDER BY 2') == [
        ("e1", datetime(2024, 5, 1, 8, tzinfo=UTC), True, 1.5),
        ("e,2;\"'", datetime(2024, 5, 1, 10, 0, 1, tzinfo=UTC), False, None),
    ]


def test_its_gate_is_derived_and_refuses_what_the_contract_does(project: Settings) -> None:
    broken = "\n".join([*METER_ROWS, "ab1;2024-02-29;1;1;-", "AB1234;2024-02-29;9;1;-", "AB1234;2024-02-29;1;1;-"])
    (project.inbox_path / "meters/2024-02-29.csv").write_text(broken)
    ended = run("ingest", "meter_reading", "--partition", "2024-02-29")
    assert ended.exit_code == 1
    assert "is held: refused rows: 3 of 6 rows" in ended.output
    assert rows(project, "SELECT line, column_name, rule FROM quarantine.refused_row ORDER BY line") == [
        (5, "meter", "pattern"),
        (6, "register", "maximum"),
        (7, "meter, register, read_on", "key"),
    ]
    verdicts = rows(project, "SELECT count(*) FROM ops.verdict WHERE gate = 'expectations.contract'")
    assert verdicts[0][0] >= 5
    assert rows(project, "SELECT to_regclass('raw.meter_reading')") == [(None,)]


def test_the_contracts_keep_the_rules_of_the_house_and_have_pages(project: Settings) -> None:
    assert [str(finding) for finding in house.check(project)] == []
    assert run("contract", "docs").exit_code == 0
    assert run("contract", "check").exit_code == 0
    index = (project.project / "docs/reference/index.md").read_text()
    assert all(f"[{contract.dataset}]({contract.dataset}.md)" in index for contract in load_all(project))


def test_each_contract_is_a_dag(project: Settings, tmp_path: Path) -> None:
    """Airflow reads a DAG from each; that such a DAG takes its dataset in is told in journeys/test_year.py."""
    program = (
        "from airflow.dag_processing.dagbag import DagBag\n"
        f"bag = DagBag({str(CHECKOUT / 'dags' / 'ingest.py')!r})\n"
        "assert not bag.import_errors, bag.import_errors\n"
        "print('DAGS', *sorted(bag.dag_ids))\n"
        "print('TASKS', *sorted(t.split('.')[-1] for t in bag.dags['ingest_invoice'].task_ids))\n"
    )
    environment = {
        **os.environ,
        "TIDEGATE_PROJECT": str(project.project),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "false",
        "PYTHONPATH": str(CHECKOUT),
    }
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert told["DAGS"] == ["ingest_door_event", "ingest_invoice", "ingest_meter_reading"]
    assert {"land", "stage", "judge", "publish"} <= set(told["TASKS"])


def batch(settings: Settings) -> str:
    return str(rows(settings, "SELECT batch_id FROM ops.batch")[0][0])
