"""A column gets another name while programs that know either name go on: ops.batch.source becomes source_name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.conftest import CHECKOUT

from tidegate.migrate import door

_COLUMNS = "batch_id, dataset, partition, state, contract_version, source_sha256, landing_url, delivered_count, " \
    "accepted_count, refused_count, published_schema"  # fmt: skip
_VALUES = "'orders', '2024-03', 'superseded', '1.0.0', '0', 'x', 2, 2, 0, 'raw'"


@pytest.fixture
def before(warehouse: str) -> Iterator[psycopg.Connection[Any]]:
    """A warehouse of before the change, with batches in it."""
    door.downgrade(warehouse, CHECKOUT, "0003")
    with psycopg.connect(warehouse, autocommit=True) as connection:
        for number in range(50):
            write(connection, f"early {number}", "source")
        yield connection


def write(connection: psycopg.Connection[Any], batch: str, column: str) -> None:
    connection.execute(
        f"INSERT INTO ops.batch ({_COLUMNS}, {column}) VALUES (%s, {_VALUES}, %s)",  # type: ignore[call-overload]
        [batch, f"{batch}.csv"],
    )


def read(connection: psycopg.Connection[Any], column: str) -> set[tuple[str, str]]:
    return set(connection.execute(f"SELECT batch_id, {column} FROM ops.batch").fetchall())  # type: ignore[call-overload]


def test_old_and_new_programs_read_and_write_throughout(before: psycopg.Connection[Any], warehouse: str) -> None:
    door.upgrade(warehouse, CHECKOUT, "0004")
    stop = threading.Event()
    failed: list[Exception] = []

    def program(name: str, column: str) -> None:
        """Write batches until told to stop, and read each of them back."""
        try:
            with psycopg.connect(warehouse, autocommit=True) as own:
                for number in range(10_000):
                    if stop.is_set():
                        return
                    batch = f"{name} {number}"
                    write(own, batch, column)
                    own.execute(f"UPDATE ops.batch SET {column} = %s WHERE batch_id = %s", [f"{batch}.zip", batch])  # type: ignore[call-overload]
                    assert (batch, f"{batch}.zip") in read(own, column)
        except Exception as error:
            failed.append(error)

    programs = [threading.Thread(target=program, args=pair) for pair in (("old", "source"), ("new", "source_name"))]
    for thread in programs:
        thread.start()
    door.upgrade(warehouse, CHECKOUT, "0005")
    stop.wait(0.5)
    stop.set()
    for thread in programs:
        thread.join()
    assert failed == []
    both = read(before, "source_name")
    assert both == read(before, "source")
    assert {name.split()[0] for name, _ in both} == {"early", "old", "new"}
    assert all(source for _, source in both)
    door.upgrade(warehouse, CHECKOUT, "0006")
    assert read(before, "source_name") == both
    door.downgrade(warehouse, CHECKOUT, "0005")
    assert read(before, "source") == both
    write(before, "late", "source")
    assert ("late", "late.csv") in read(before, "source_name")
