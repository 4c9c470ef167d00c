"""One embedded warehouse with passengers in it, for all tests of rehearsals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.whole import Stack

from tidegate.rehearsal import rehearsal
from tidegate.rehearsal.rehearsal import Rehearsal
from tidegate.run.bookings import deliver
from tidegate.stack import warehouse
from tidegate.wave import ingest

ELSEWHERE = {"airflow_url": "http://127.0.0.1:9", "spark_master": "local[1]"}
MONTH = "2013-01"


@pytest.fixture(scope="package")
def original(reachable_folder: Path) -> Iterator[Stack]:
    """The warehouse, with 200 published bookings and one that was refused."""
    stack = Stack(reachable_folder / "original", ELSEWHERE)
    settings = stack.up()
    deliver(settings, [MONTH], 200)
    ingest(settings, "bookings", MONTH)
    with psycopg.connect(superuser(stack)) as connection:
        connection.execute(
            "INSERT INTO quarantine.refused_row (batch_id, dataset, partition, contract_version, source_file, line, "
            "column_name, value, rule, expected, record) SELECT batch_id, dataset, partition, contract_version, 'b.csv', 2, "
            "'email', 'grace@nowhere', 'pattern', 'an address', '{\"passenger_name\": \"Grace Canary\"}' FROM ops.batch"
        )
    yield stack
    rehearsal.down(stack.settings, lambda _: None)
    stack.down()


@pytest.fixture(scope="package")
def rehearsed(original: Stack) -> Rehearsal:
    """A rehearsal of it."""
    return rehearsal.up(original.settings, lambda _: None)


def superuser(stack: Stack) -> str:
    """The address of the warehouse for its superuser."""
    return warehouse.reach(stack.settings).dsn("warehouse")
