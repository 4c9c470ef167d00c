"""Killed with -9 anywhere and run again, a wave ends in what an undisturbed run ends in, and leaves nothing over."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.conftest import OWNER, PASSWORD
from tests.journeys import dying
from tests.postgres_servers import own_warehouse, postmaster
from tests.shop import Shop, orders

from tidegate.publish import marts
from tidegate.settings import load_settings
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database
from tidegate.wave import ingest

MARCH, CORRECTED = orders(1, 40), [*orders(1, 39), *orders(50, 60)]


@dataclass
class Cellar:
    """Takes a picture of everything published, and looks for what should not be there."""

    shop: Shop

    def picture(self) -> dict[str, Any]:
        """What readers and the ledger show, without times."""
        return {
            "rows": self.shop.checksum(),
            "batches": self.shop.query("SELECT batch_id, state, previous_batch_id FROM ops.batch ORDER BY 1"),
            "refused": self.shop.query("SELECT batch_id, line, rule, state FROM quarantine.refused_row ORDER BY 1, 2"),
        }

    def leftovers(self) -> list[str]:
        """Tables in staging, files in the spool, partial files in landing."""
        home = self.shop.settings.home
        files = [*(home / "spool").glob("*"), *(home / "landing").rglob("*.partial")]
        return self.shop.staging() + [str(file) for file in files]


@pytest.fixture(scope="module", autouse=True)
def _judge_is_warm() -> None:
    """Import what a child would import, once: a fork inherits it."""
    import duckdb
    import great_expectations  # noqa: F401
    import pgpq

    assert pgpq
    assert duckdb


def _wave(shop: Shop, rows: list[str]) -> Callable[[], Any]:
    file = shop.file(rows)
    return lambda: ingest(shop.settings, "orders", "2024-03", file)


@pytest.fixture
def copies(postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Shop, int], Shop]:
    """Copies of a shop as it stands, each with a database and a home of its own."""

    def copy(shop: Shop, number: int) -> Shop:
        url = shop.settings.warehouse_url
        assert url is not None
        template = url.get_secret_value().rpartition("/")[2]
        name = f"{template}_{number}"
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            ensure_database(connection, name, "tidegate", template)
        home = tmp_path / name
        subprocess.run(["cp", "-a", shop.settings.home, home], check=True)
        monkeypatch.setenv("TIDEGATE_HOME", str(home))
        monkeypatch.setenv("TIDEGATE_WAREHOUSE_URL", postgres.dsn(name, OWNER, PASSWORD))
        return Shop(load_settings(), shop.root)

    # Dropped with the server: dropping each would cost more than making it did.
    return copy


Copy = Callable[[Shop, int], Shop]


@pytest.mark.timeout(900)
def test_a_correction_killed_before_any_effect_ends_as_if_undisturbed(shop: Shop, copies: Copy) -> None:
    """A batch supersedes another: the longest way that a batch can go."""
    ended, _ = dying.run(_wave(shop, MARCH))
    assert ended == dying.SURVIVED
    undisturbed = copies(shop, 0)
    ended, effects = dying.run(_wave(undisturbed, CORRECTED))
    assert ended == dying.SURVIVED
    assert effects > 20
    expected = Cellar(undisturbed).picture()

    for number in range(1, effects + 1):
        victim = copies(shop, number)
        before = victim.checksum()
        ended, _ = dying.run(_wave(victim, CORRECTED), die_before=number)
        assert ended == signal.SIGKILL, f"effect {number} of {effects}"
        assert victim.checksum() in (before, expected["rows"]), f"half published after a kill before effect {number}"
        ended, _ = dying.run(_wave(victim, CORRECTED))
        assert ended == dying.SURVIVED, f"no recovery from a kill before effect {number}"
        cellar = Cellar(victim)
        assert cellar.picture() == expected, f"killed before effect {number}"
        assert cellar.leftovers() == [], f"killed before effect {number}"


def _candidate(shop: Shop, build: str) -> None:
    """Make the tables that dbt would make, small."""
    shop.query("CREATE SCHEMA IF NOT EXISTS marts_next")
    shop.query("DROP TABLE IF EXISTS marts_next.fct_flight")
    shop.query(f"CREATE TABLE marts_next.fct_flight AS SELECT '{build}'::text AS build FROM raw.flights")


def _publish_marts(shop: Shop, build: str) -> None:
    build_id = marts.prepare(shop.settings)
    if not marts.is_published(shop.settings, build_id):
        _candidate(shop, build)
        marts.judge(shop.settings, build_id)
        marts.publish(shop.settings, build_id)


def _marts(shop: Shop) -> dict[str, Any]:
    schemas = shop.query(
        "SELECT nspname, obj_description(oid, 'pg_namespace') AS build FROM pg_namespace WHERE nspname LIKE 'marts%' ORDER BY 1"
    )
    builds = shop.query("SELECT build_id, state FROM ops.marts_build ORDER BY 1")
    rows = {
        s["nspname"]: shop.query(f"SELECT * FROM {s['nspname']}.fct_flight") for s in schemas if s["nspname"] == "marts"
    }
    return {"schemas": schemas, "builds": builds, "rows": rows}


@pytest.mark.timeout(900)
def test_marts_killed_before_any_effect_are_the_old_or_the_new(shop: Shop, copies: Copy) -> None:
    shop.query("CREATE TABLE raw.flights AS SELECT 1 AS n")
    dying.run(_wave(shop, MARCH))
    dying.run(lambda: _publish_marts(shop, "first"))
    dying.run(_wave(shop, CORRECTED))
    undisturbed = copies(shop, 0)
    old = _marts(undisturbed)["rows"]
    ended, effects = dying.run(lambda: _publish_marts(undisturbed, "second"))
    assert ended == dying.SURVIVED
    expected = _marts(undisturbed)
    assert expected["rows"] != old

    for number in range(1, effects + 1):
        victim = copies(shop, number)
        ended, _ = dying.run(lambda shop=victim: _publish_marts(shop, "second"), die_before=number)
        assert ended == signal.SIGKILL, f"effect {number} of {effects}"
        assert _marts(victim)["rows"] in (old, expected["rows"])
        ended, _ = dying.run(lambda shop=victim: _publish_marts(shop, "second"))
        assert ended == dying.SURVIVED, f"no recovery from a kill before effect {number}"
        assert _marts(victim) == expected, f"killed before effect {number}"


def test_a_warehouse_killed_while_rows_are_copied_loses_nothing(
    shop: Shop, reachable_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server itself dies by -9 in the middle of the copy, comes back through crash recovery, and the wave goes on."""
    with own_warehouse(reachable_folder / "doomed", monkeypatch) as server:
        victim = Shop(load_settings(), shop.root)
        first = postmaster(server).pid

        def dies_while_copying() -> None:
            write = psycopg.Copy.write

            def cut(copy: Any, piece: Any) -> None:
                write(copy, piece)
                os.kill(first, signal.SIGKILL)

            psycopg.Copy.write = cut  # type: ignore[method-assign]
            _wave(victim, MARCH)()

        ended, _ = dying.run(dies_while_copying)
        assert ended == dying.FAILED
        server.start()
        ended, _ = dying.run(_wave(victim, MARCH))
        assert ended == dying.SURVIVED
        assert victim.numbers() == list(range(1, 41))
        assert Cellar(victim).leftovers() == []
