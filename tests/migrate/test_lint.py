"""What squawk, which knows PostgreSQL's locks, says of every statement of every migration; and schema.sql is current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import CHECKOUT

from tidegate.migrate import steps
from tidegate.settings import Settings
from tidegate.stack import dump

STEPS = steps.read(CHECKOUT)
#: The door sets the time that a statement waits for a lock, and nobody can say how long one may run.
BY_THE_DOOR = {"require-lock-timeout", "require-statement-timeout"}
#: What old programs would miss: a `pre` migration takes nothing from them, a `post` one and a way down do just that.
BREAKS_OLD_PROGRAMS = {
    "ban-drop-column", "ban-drop-constraint", "ban-drop-function", "ban-drop-not-null", "ban-drop-schema",
    "ban-drop-table", "ban-drop-trigger", "ban-set-schema", "renaming-object", "renaming-column", "renaming-table",
}  # fmt: skip


@pytest.mark.parametrize("way", ["up", "down", "again"])
@pytest.mark.parametrize("step", STEPS, ids=[step.revision for step in STEPS])
def test_no_statement_is_one_that_squawk_warns_of(step: steps.Step, way: str, tmp_path: Path) -> None:
    file = tmp_path / f"{step.revision}_{way}.sql"
    file.write_text(getattr(step, way))
    leave_out = BY_THE_DOOR | (set() if way == "up" and step.phase == "pre" else BREAKS_OLD_PROGRAMS)
    rules = [word for rule in sorted(leave_out) for word in ("--exclude", rule)]
    squawk = Path(sys.executable).parent / "squawk"
    command = [squawk, "--assume-in-transaction", "--pg-version", "15", "--reporter", "gcc", *rules, file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "")


def test_squawk_warns_of_a_statement_that_keeps_readers_out(tmp_path: Path) -> None:
    file = tmp_path / "rewrite.sql"
    file.write_text("ALTER TABLE ops.batch ALTER COLUMN delivered_count TYPE numeric;")
    squawk = Path(sys.executable).parent / "squawk"
    done = subprocess.run([squawk, "--reporter", "gcc", file], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "changing-column-type" in done.stdout


def test_schema_sql_is_what_all_migrations_make(settings: Settings) -> None:
    assert dump.schema(settings) == (CHECKOUT / "migrations" / "schema.sql").read_text(), "run `make schema`"
