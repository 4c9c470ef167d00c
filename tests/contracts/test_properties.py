"""What holds for every contract and every change of a table, tried on made-up ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.rows import dict_row
from tests.shop import orders_contract

from tidegate.contracts.compare import compare
from tidegate.contracts.evolution import Layout, Shape, plan
from tidegate.contracts.types import COMPATIBLE, widens
from tidegate.publish.evolve import layout_of
from tidegate.settings import load_settings
from tidegate.stack.postgres import PostgresServer

TYPES = sorted({*set().union(*COMPATIBLE.values()) - {"numeric"}, "numeric(9,2)", "numeric(20,4)"})
NAMES = ("a", "b", "c", "order", 'quo"te')

shapes = st.builds(Shape, st.sampled_from(TYPES), st.booleans())
columns = st.dictionaries(st.sampled_from(NAMES), shapes, min_size=1, max_size=4)


@st.composite
def changed(draw: st.DrawFn) -> tuple[Layout, Layout]:
    """A table, and what becomes of it: some columns stay, some widen, relax, come, go or change altogether."""
    before: dict[str, Shape] = draw(columns)
    after = {}
    for name, shape in before.items():
        wider = [kind for kind in TYPES if widens(shape.type, kind)]
        after[name] = draw(
            st.sampled_from([shape, shape, Shape(shape.type, False), *(Shape(kind, shape.required) for kind in wider)])
            | shapes
        )
    for name in draw(st.sets(st.sampled_from(NAMES), max_size=2)):
        if name in after and draw(st.booleans()):
            del after[name]
        after.setdefault(name, Shape(draw(st.sampled_from(TYPES)), draw(st.booleans())))
    return Layout(before, ()), Layout(after, ())


@pytest.fixture(scope="module")
def scratch(postgres: PostgresServer) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(postgres.dsn(), row_factory=dict_row) as connection:
        yield connection


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layouts=changed())
def test_a_plan_leads_to_the_layout_that_was_asked_for_or_says_what_forbids_it(
    scratch: psycopg.Connection[dict[str, Any]], layouts: tuple[Layout, Layout]
) -> None:
    before, after = layouts
    steps, breaches = plan(before, after)
    gone = before.columns.keys() - after.columns.keys()
    assert gone <= {name for breach in breaches for name in breach.columns}
    if before == after:
        assert (steps, breaches) == ([], [])
    with scratch.transaction(force_rollback=True):
        made = sql.SQL(", ").join(
            sql.SQL("{} " + shape.type + (" NOT NULL" if shape.required else "")).format(sql.Identifier(name))
            for name, shape in before.columns.items()
        )
        scratch.execute(sql.SQL("CREATE TABLE public.changing ({})").format(made))
        for step in steps:
            scratch.execute(step.ddl(sql.Identifier("public", "changing")))
        reached = layout_of(scratch, "public", "changing")
    assert reached is not None
    if breaches:
        assert reached.columns != after.columns
    else:
        assert reached.columns == after.columns
        assert plan(Layout(reached.columns, ()), after) == ([], []), "a plan leaves nothing to do"


@settings(max_examples=15, deadline=None)
@given(
    share=st.floats(0, 1),
    partitioned=st.booleans(),
    version=st.tuples(*[st.integers(0, 20)] * 3),
    extra=st.dictionaries(st.sampled_from(["x", "y_z"]), st.sampled_from(["string", "date", "boolean"])),
)
def test_a_contract_compared_with_itself_has_no_changes(
    share: float, partitioned: bool, version: tuple[int, int, int], extra: dict[str, str]
) -> None:
    text = orders_contract(share=share, partitioned=partitioned, version=".".join(map(str, version)))
    document = yaml.safe_load(text)
    document["schema"][0]["properties"] += [
        {"name": name, "logicalType": kind, "description": "Words."} for name, kind in extra.items()
    ]
    same = yaml.safe_dump(document, sort_keys=False)
    # Another spelling of the same document is no change either.
    compared = compare(Path("old.yaml"), same, Path("new.yaml"), yaml.safe_dump(document, sort_keys=True))
    assert (compared.changes, compared.breaking) == ((), False)


@pytest.mark.parametrize(
    "path", sorted((load_settings().project / "schemas").glob("*.yaml")), ids=lambda path: path.stem
)
def test_each_contract_of_this_repository_compared_with_itself_has_no_changes(path: Path) -> None:
    assert compare(path, path.read_text(), path, path.read_text()).changes == ()
