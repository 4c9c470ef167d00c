"""Each migration goes up, down and up again; what it held comes back with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.conftest import CHECKOUT
from tests.migrate.filling import fill
from tests.migrate.picture import rows_of, schema_of

from tidegate.migrate import door, steps

STEPS = steps.read(CHECKOUT)
REVISIONS = [step.revision for step in STEPS]


@pytest.fixture
def bare(warehouse: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a warehouse that has been brought down to nothing, without what that has set aside."""
    door.downgrade(warehouse, CHECKOUT, "base")
    with psycopg.connect(warehouse, autocommit=True) as connection:
        kept = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'aside_%'").fetchall()
        for (name,) in kept:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
        yield connection


@pytest.mark.parametrize("step", STEPS, ids=REVISIONS)
def test_up_down_and_up_again_lead_to_the_same_schema_and_rows(
    bare: psycopg.Connection[Any], warehouse: str, step: steps.Step
) -> None:
    door.upgrade(warehouse, CHECKOUT, step.before)
    fill(bare)
    before, rows_before = schema_of(bare), rows_of(bare)
    door.upgrade(warehouse, CHECKOUT, step.revision)
    fill(bare)
    above, rows_above = schema_of(bare), rows_of(bare)
    assert above != before
    door.downgrade(warehouse, CHECKOUT, step.before)
    assert schema_of(bare) == before
    assert {table: rows for table, rows in rows_of(bare).items() if table in rows_before}.keys() == rows_before.keys()
    door.upgrade(warehouse, CHECKOUT, step.revision)
    assert schema_of(bare) == above
    assert rows_of(bare) == rows_above


def test_the_whole_chain_goes_up_down_and_up_with_every_row(bare: psycopg.Connection[Any], warehouse: str) -> None:
    door.upgrade(warehouse, CHECKOUT)
    fill(bare)
    top, rows = schema_of(bare), rows_of(bare)
    door.downgrade(warehouse, CHECKOUT, "base")
    assert rows_of(bare) == {}
    door.upgrade(warehouse, CHECKOUT)
    assert schema_of(bare) == top
    assert rows_of(bare) == rows


@pytest.mark.parametrize("step", STEPS, ids=REVISIONS)
def test_no_way_down_drops_a_table(step: steps.Step) -> None:
    """Views may go, which the next build makes anew, and columns whose values lie elsewhere: the tests above look."""
    lost = [loss for loss in steps.losses(step.down) if "DROP COLUMN" not in loss]
    assert [loss for loss in lost if "DROP SCHEMA IF EXISTS marts" not in loss] == []
