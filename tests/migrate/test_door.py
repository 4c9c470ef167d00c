"""The schema changes through one door: one at a time, giving way to readers, seen before and written down after."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from tests.conftest import CHECKOUT
from tests.contracts.command import run
from tests.shop import MARCH, Shop

from tidegate.errors import BusyError, TerminalError, UsageError
from tidegate.migrate import door, steps
from tidegate.settings import Settings

LAST = steps.read(CHECKOUT)[-1].revision


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout's migrations, to which a test adds one."""
    folder = tmp_path / "project"
    shutil.copytree(CHECKOUT / "migrations", folder / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def add(project: Path, up: str, phase: str = "pre") -> None:
    (project / "migrations" / "versions" / "9999_test.py").write_text(
        f'"""{phase}: a change."""\n\nfrom alembic import op\n\nrevision = "9999"\ndown_revision = "{LAST}"\n'
        f'UP = """{up}"""\nDOWN = """SELECT 1"""\nAGAIN = UP\n\n\ndef upgrade() -> None:\n    op.execute(UP)\n\n\n'
        "def downgrade() -> None:\n    op.execute(DOWN)\n"
    )


def test_a_migration_that_fails_halfway_leaves_the_warehouse_as_it_was(warehouse: str, project: Path) -> None:
    add(project, "CREATE TABLE ops.half (id int); SELECT 1 / 0;")
    with pytest.raises(TerminalError, match=r"9999 failed: division by zero; the database is as it was before it"):
        door.upgrade(warehouse, project)
    with psycopg.connect(warehouse) as connection:
        assert connection.execute("SELECT to_regclass('ops.half')").fetchone() == (None,)
    assert [s.step.revision for s in door.standing(warehouse, project) if not s.applied] == ["9999"]


def test_a_migration_gives_way_to_readers_and_says_who_holds_the_table(
    warehouse: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(door, "_ATTEMPTS", 2)
    add(project, "ALTER TABLE ops.step ADD COLUMN later text;")
    with psycopg.connect(warehouse, application_name="a long report") as reader:
        reader.execute("SELECT count(*) FROM ops.step")
        with pytest.raises(BusyError, match=r"tried 2 times.*nothing was changed.*a long report, idle in transaction"):
            door.upgrade(warehouse, project)
        # Nobody queues behind a migration that waits: another reader is served at once.
        with psycopg.connect(warehouse) as other:
            other.execute("SET lock_timeout = '1s'")
            other.execute("SELECT count(*) FROM ops.step")
    assert [step.revision for step in door.upgrade(warehouse, project)] == ["9999"]


def test_two_at_once_apply_a_migration_once(warehouse: str, project: Path) -> None:
    add(project, "CREATE TABLE ops.once (id int); SELECT pg_sleep(0.3);")
    failed: list[BaseException] = []

    def go() -> None:
        command = [sys.executable, "-c", "import sys; from pathlib import Path; from tidegate.migrate import door; "
                   "door.upgrade(sys.argv[1], Path(sys.argv[2]))", warehouse, str(project)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
        if done.returncode:
            failed.append(AssertionError(done.stderr))

    both = [threading.Thread(target=go) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert failed == []
    with psycopg.connect(warehouse) as connection:
        lines = connection.execute("SELECT count(*) FROM ops.schema_change WHERE name = '9999'").fetchone()
    assert lines == (1,)


def test_what_migrations_and_contracts_change_is_in_one_log(shop: Shop) -> None:
    shop.ingest(MARCH)
    lines = shop.query("SELECT door, name, direction, statements, changed_by FROM ops.schema_change ORDER BY 1 DESC, 2")
    assert [(line["door"], line["name"]) for line in lines if line["door"] == "contract"] == [
        ("contract", "orders 1.0.0")
    ]
    assert {line["name"] for line in lines if line["door"] == "migration"} == {s.revision for s in steps.read(CHECKOUT)}
    (orders,) = [line for line in lines if line["door"] == "contract"]
    assert 'CREATE TABLE IF NOT EXISTS "raw"."orders"' in orders["statements"]
    assert orders["changed_by"] == "tidegate"


def test_no_contract_changes_a_table_while_a_migration_runs(shop: Shop) -> None:
    with psycopg.connect(shop.settings.warehouse_url.get_secret_value()) as migration:  # type: ignore[union-attr]
        migration.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [door.LOCK])
        with psycopg.connect(shop.settings.warehouse_url.get_secret_value()) as other:  # type: ignore[union-attr]
            other.execute("SET lock_timeout = '50ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                door.share(other)


def test_status_plan_up_and_down_at_the_command_line(settings: Settings, warehouse: str) -> None:
    """What is run is shown first; what takes something away asks to be meant."""
    assert "pending" not in run("migrate", "status").output
    assert run("migrate", "plan").output == "-- nothing to do\n"
    planned = run("migrate", "plan", "--to", "0002")
    assert "-- 0003 down (pre): the log of every change" in planned.output
    refused = run("migrate", "down", "--to", "0002")
    assert refused.exit_code == 1
    assert "say --yes-i-mean-it" in refused.output
    assert "pending" not in run("migrate", "status").output
    assert run("migrate", "down", "--to", "0002", "--yes-i-mean-it").exit_code == 0
    assert run("migrate", "status").output.count("pending") == len(steps.read(CHECKOUT)) - 2
    assert run("migrate", "down", "--to", "0003", "--yes-i-mean-it").exit_code == 1
    up = run("migrate", "up", "--yes-i-mean-it")
    assert "ALTER" in up.output or "CREATE" in up.output
    assert "applied: 0003" in up.output
    unknown = run("migrate", "up", "--to", "0000")
    assert unknown.exit_code == 1
    assert "no migration 0000: found 0001" in unknown.output


def test_up_pre_stops_before_what_must_wait_for_new_code(settings: Settings, warehouse: str) -> None:
    door.downgrade(warehouse, CHECKOUT, "base")
    assert "applied: 0001\n" in run("migrate", "up", "--pre").output


def test_a_dump_is_taken_before_something_is_lost_for_good(
    settings: Settings, warehouse: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_PROJECT", str(project))
    add(project, "DROP TABLE ops.step;", "post")
    refused = run("migrate", "up")
    assert refused.exit_code == 1
    assert "-- takes away for good: DROP TABLE ops.step" in refused.output
    assert "nothing was run: say --yes-i-mean-it" in refused.output
    done = run("migrate", "up", "--yes-i-mean-it")
    assert done.exit_code == 0, done.output
    (dump,) = (settings.home / "backups").iterdir()
    assert dump.stat().st_mode & 0o777 == 0o600
    assert dump.read_bytes()[:5] == b"PGDMP"


def test_a_warehouse_newer_than_the_checkout_is_refused(warehouse: str, project: Path) -> None:
    add(project, "CREATE TABLE ops.newer (id int);")
    door.upgrade(warehouse, project)
    with pytest.raises(TerminalError, match=f"stands at migration 9999, and this checkout ends with {LAST}"):
        door.upgrade(warehouse, CHECKOUT)


def test_a_migration_without_a_phase_or_a_way_down_is_refused(warehouse: str, project: Path) -> None:
    add(project, "SELECT 1", phase="soon")
    with pytest.raises(TerminalError, match="expected `pre: …` or `post: …`"):
        door.upgrade(warehouse, project)
    file = project / "migrations" / "versions" / "9999_test.py"
    add(project, "SELECT 1")
    file.write_text(file.read_text().replace("DOWN = ", "NONE = "))
    with pytest.raises(TerminalError, match="no DOWN, expected the SQL as text"):
        door.upgrade(warehouse, project)


def test_up_and_down_name_each_other_when_asked_for_the_wrong_way(warehouse: str) -> None:
    with pytest.raises(UsageError, match="tidegate migrate down --to 0001"):
        door.upgrade(warehouse, CHECKOUT, "0001")
    door.downgrade(warehouse, CHECKOUT, "0001")
    with pytest.raises(UsageError, match="tidegate migrate up --to 0002"):
        door.downgrade(warehouse, CHECKOUT, "0002")
