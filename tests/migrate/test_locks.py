"""What a migration would keep from readers, seen on tables with rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.conftest import CHECKOUT

from tidegate.migrate import door, locks, steps

STEPS = steps.read(CHECKOUT)
#: The tables that grow with every delivery; the others have a row a dataset, or a row a build.
_GROWING = """
INSERT INTO ops.batch (batch_id, dataset, partition, state, contract_version, source, source_sha256, landing_url,
    delivered_count, accepted_count, refused_count, published_schema)
SELECT n, 'orders', n, 'superseded', '1.0.0', 'a.csv', repeat('0', 64), 'x', 2, 1, 1, 'raw' FROM generate_series(1, 5000) AS n;
INSERT INTO ops.step (subject, step, started_at, seconds) SELECT n, 'land', now(), 1 FROM generate_series(1, 5000) AS n;
INSERT INTO quarantine.refused_row (batch_id, dataset, partition, contract_version, source_file, line, column_name, rule,
    expected, record)
SELECT n, 'orders', n, '1.0.0', 'a.csv', 2, 'amount', 'type', 'a number', '{}' FROM generate_series(1, 5000) AS n;
"""


@pytest.fixture
def table(warehouse: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(warehouse, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE public.t AS SELECT n AS id, n::text AS word FROM generate_series(1, 5000) AS n"
        )
        yield connection


def on_t(found: list[locks.Held]) -> list[locks.Held]:
    return [held for held in found if held.table in ("t", "public.t")]


@pytest.mark.parametrize(
    ("statement", "for_long"),
    [
        ("ALTER TABLE public.t ADD COLUMN later text", False),
        ("ALTER TABLE public.t ADD COLUMN later text NOT NULL DEFAULT 'x'", False),
        ("ALTER TABLE public.t ADD CONSTRAINT c CHECK (id > 0) NOT VALID", False),
        ("ALTER TABLE public.t ADD COLUMN at timestamptz DEFAULT clock_timestamp()", True),
        ("ALTER TABLE public.t ALTER COLUMN id TYPE bigint", True),
        ("ALTER TABLE public.t ADD CONSTRAINT c CHECK (id > 0)", True),
        ("ALTER TABLE public.t ALTER COLUMN id SET NOT NULL", True),
        ("ALTER TABLE public.t ADD COLUMN later text; UPDATE public.t SET later = word", True),
    ],
)
def test_readers_wait_long_only_where_every_row_is_gone_through(
    table: psycopg.Connection[Any], statement: str, for_long: bool
) -> None:
    (held,) = on_t(locks.trace(table, statement))
    assert held.mode == "AccessExclusiveLock"
    assert held.rows == 5000
    assert held.blocks_readers_for_long is for_long


def test_an_index_made_in_the_ordinary_way_keeps_writers_out_and_readers_not(table: psycopg.Connection[Any]) -> None:
    (held,) = on_t(locks.trace(table, "CREATE INDEX i ON public.t (id)"))
    assert (held.blocks_readers_for_long, held.blocks_writers_for_long) == (False, True)


def test_tracing_changes_nothing(table: psycopg.Connection[Any]) -> None:
    locks.trace(table, "DROP TABLE public.t")
    assert table.execute("SELECT count(*) FROM public.t").fetchone() == (5000,)


@pytest.mark.parametrize("step", STEPS[1:], ids=[step.revision for step in STEPS[1:]])
def test_no_migration_keeps_readers_of_a_large_table_out_for_long(warehouse: str, step: steps.Step) -> None:
    door.downgrade(warehouse, CHECKOUT, STEPS[0].revision)
    with psycopg.connect(warehouse, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS aside_0002, aside_0003 CASCADE")
        connection.execute(_GROWING)
        door.upgrade(warehouse, CHECKOUT, step.before)
        assert [held for held in locks.trace(connection, step.up) if held.blocks_readers_for_long] == []
