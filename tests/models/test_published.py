"""Probes of what is published, each on a warehouse in which something is wrong: contracts, dbt's checks, freshness."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import CHECKOUT
from tests.whole import PROJECT

from tidegate.evidence import agreement, models, pipelines
from tidegate.evidence.probe import CannotRunError, Ground
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect


@pytest.fixture
def published(scratch: Settings) -> Iterator[tuple[Settings, Connection]]:
    """The models of two months, where readers find them."""
    with connect(scratch, autocommit=True) as connection:
        connection.execute("ALTER SCHEMA marts_next RENAME TO marts")
        yield scratch, connection


def test_a_table_that_its_contract_cannot_have_made_is_found(published: tuple[Settings, Connection]) -> None:
    settings, connection = published
    (well,) = agreement.contracts(Ground(settings))
    assert (well.figures["findings"], well.exit_status) == (0, 0)
    connection.execute("DROP VIEW staging.stg_airports CASCADE")
    connection.execute("ALTER TABLE raw.airports ALTER COLUMN lat TYPE text")
    (found,) = agreement.contracts(Ground(settings))
    assert (found.figures["findings"], found.exit_status) == (1, 1)
    assert found.figures["contracts"] == well.figures["contracts"] > 5
    assert found.text.startswith("schemas/airports.odcs.yaml:")
    assert "lat" in found.text


def test_a_check_that_does_not_hold_and_a_model_without_one_are_found(
    published: tuple[Settings, Connection], tmp_path: Path
) -> None:
    settings, connection = published
    for name in PROJECT:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path)
    (tmp_path / "models/marts/unwatched.sql").write_text("select 1 as one\n")
    connection.execute("UPDATE marts.dim_carrier SET carrier = 'AA' WHERE carrier = 'UA'")
    (found,) = models.dbt_results(Ground(settings.model_copy(update={"project": tmp_path})))
    bad = [line for line in found.text.splitlines() if line.startswith("fail ")]
    assert 0 < found.figures["failed"] == len(bad) < found.figures["tests"] / 2
    assert any("dim_carrier" in line for line in bad)
    assert found.figures["models_untested"] == 1
    assert "no test: unwatched" in found.text
    assert 80 < found.figures["tested_percent"] < 100
    assert found.exit_status == 1


def test_data_that_are_older_than_promised_are_found(published: tuple[Settings, Connection]) -> None:
    settings, connection = published
    (well,) = pipelines.freshness(Ground(settings))
    assert (well.figures["stale"], well.exit_status) == (0, 0)
    assert well.figures["datasets"] > 1
    connection.execute("UPDATE ops.batch SET published_at = now() - interval '500 days' WHERE dataset = 'flights'")
    (found,) = pipelines.freshness(Ground(settings))
    assert (found.figures["stale"], found.exit_status) == (1, 1)
    assert found.figures["oldest_seconds"] == pytest.approx(500 * 86400, rel=0.01)
    assert next(line for line in found.text.splitlines() if not line.startswith("PASS ")).split()[1] == "flights:"
    connection.execute("UPDATE ops.batch SET state = 'undone'")
    with pytest.raises(CannotRunError, match="no dataset that promises freshness was ever published"):
        list(pipelines.freshness(Ground(settings)))
