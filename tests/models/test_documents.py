"""What the probes say of the published tables: whether the documents tell of them as they are, and what their rows show."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import CHECKOUT
from tests.whole import PROJECT

from tidegate.contracts import derived
from tidegate.evidence import documents, normalization, reference
from tidegate.evidence.probe import Ground
from tidegate.observe.catalog import Column, Table
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect


@pytest.fixture
def published(scratch: Settings) -> Iterator[tuple[Settings, Connection]]:
    """The models of two months, as published."""
    with connect(scratch, autocommit=True) as connection:
        connection.execute("ALTER SCHEMA marts_next RENAME TO marts_current")
        yield scratch, connection


def test_documents_that_tell_of_another_table_are_counted(
    published: tuple[Settings, Connection], tmp_path: Path
) -> None:
    settings, connection = published
    for name in (*PROJECT, "docs"):
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path)
    ground = Ground(settings.model_copy(update={"project": tmp_path}))
    reference.write(ground.settings, connection, measured=False)
    derived.write(ground.settings)
    (well,) = documents.current(ground)
    assert (well.figures["differing"], well.exit_status) == (0, 0)
    assert well.figures["pages"] == well.text.count("looked at ") > 10
    connection.execute("ALTER TABLE ops.step ADD COLUMN worker text")
    (tmp_path / "docs/reference/flights.md").write_text("# by hand\n")
    (found,) = documents.current(ground)
    assert (found.figures["differing"], found.exit_status) == (2, 1)
    assert found.text.startswith("docs/reference/ledger.md:")
    assert "\ndocs/reference/flights.md:1" in found.text


def test_the_rows_show_keys_and_what_follows_from_what(published: tuple[Settings, Connection]) -> None:
    (found,) = normalization.normal_forms(Ground(published[0]))
    assert (found.figures["keys_broken"], found.exit_status) == (0, 0)
    assert "| `raw.flights` | 51,955 | `time_hour`, `carrier`, `flight` | 0 | 1NF |" in found.text
    assert "- `time_hour` → `month`, `day`, `hour` (a part of the key)" in found.text
    assert "- `sched_dep_time` → `hour`, `minute`" in found.text
    assert "| `raw.planes` | 3,322 | `tailnum` | 0 | 2NF |" in found.text
    assert "| `marts.dim_carrier` | 16 | `carrier` | 0 | BCNF |" in found.text
    assert found.figures["dependencies"] == sum(
        line.partition("→")[2].count("`") // 2 for line in found.text.splitlines() if line.startswith("- ")
    )


def test_a_key_that_two_rows_have_is_broken_and_an_empty_text_is_another_value_than_none(
    published: tuple[Settings, Connection],
) -> None:
    settings, connection = published
    connection.execute("UPDATE marts_current.dim_carrier SET carrier = 'AA' WHERE carrier = 'UA'")
    connection.execute("CREATE TABLE raw.flags (n integer, of_n text, secret text)")
    connection.execute(
        "INSERT INTO raw.flags SELECT i % 2, CASE i % 4 WHEN 0 THEN '' WHEN 2 THEN NULL ELSE 'b' END, 'x' FROM generate_series(1, 400) i"
    )
    (found,) = normalization.normal_forms(Ground(settings))
    assert (found.figures["keys_broken"], found.exit_status) == (1, 1)
    assert "| `marts.dim_carrier` | 16 | `carrier` | 1 | none: no key |" in found.text
    columns = tuple(Column(name, "text", True, "") for name in ("n", "of_n", "secret"))
    flags = normalization.analyse(connection, Table("raw", "flags", "", columns, ()), {"secret"})
    assert (flags.follows, flags.constant, flags.form) == ({"of_n": ("n",)}, ("secret",), "none: no key")
