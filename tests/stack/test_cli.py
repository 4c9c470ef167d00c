"""The command line: what it prints, where, and with which exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.whole import CHECKOUT, Stack

SERVICES = [
    "postgres",
    "pgbouncer",
    "airflow-api-server",
    "airflow-scheduler",
    "airflow-dag-processor",
    "airflow-triggerer",
    "sail",
]


def tidegate(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("tidegate"), *words],
        env={**os.environ, "TIDEGATE_HOME": str(home), **environment},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_error_is_one_sentence_on_stderr_and_status_1(tmp_path: Path) -> None:
    done = tidegate(tmp_path, "psql")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("tidegate: no warehouse: run `tidegate up`")
    assert "Traceback" not in done.stderr


def test_the_traceback_comes_with_debug_only(tmp_path: Path) -> None:
    assert "Traceback" in tidegate(tmp_path, "--debug", "psql").stderr


@pytest.mark.parametrize(
    "words", [("logs", "nobody"), ("ingest",), ("no-such-command",), ("status", "--no-such-option")]
)
def test_a_command_line_that_cannot_be_read_is_status_2(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = tidegate(tmp_path, *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_setting_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    done = tidegate(tmp_path, "status", TIDEGATE_TYPO="1")
    assert (done.returncode, "TIDEGATE_TYPO" in done.stderr) == (1, True)


def test_status_of_a_stack_that_never_ran_changes_nothing(tmp_path: Path) -> None:
    done = tidegate(tmp_path / "home", "status", "--json")
    found = json.loads(done.stdout)
    assert list(found["services"]) == SERVICES
    assert {service["state"] for service in found["services"].values()} == {"stopped"}
    assert found["warehouse_dsn"] is None
    assert not (tmp_path / "home").exists()


def test_a_running_server_is_shown_and_reached_without_its_password_on_any_command_line(stack: Stack) -> None:
    settings = stack.up()
    assert settings.warehouse_url is not None
    password = settings.warehouse_url.get_secret_value().split(":")[2].split("@")[0]
    elsewhere = {f"TIDEGATE_{name.upper()}": value for name, value in stack.elsewhere.items()}

    found = json.loads((shown := tidegate(stack.home, "status", "--json", **elsewhere)).stdout)
    postgres = found["services"]["postgres"]
    assert list(postgres) == ["state", "address", "pid", "version"]
    assert (postgres["state"], postgres["pid"]) == ("running", stack.postgres_pid)
    assert found["warehouse_dsn"] == f"postgresql://tidegate@{postgres['address']}/warehouse"
    assert password not in shown.stdout

    answer = tidegate(stack.home, "psql", "--", "-At", "-c", "SELECT current_user", **elsewhere)
    assert (answer.stdout, answer.stderr) == ("tidegate\n", "")

    log = tidegate(stack.home, "logs", "postgres", "-n", "50", **elsewhere)
    assert "ready to accept connections" in log.stdout


def test_env_makes_a_shell_belong_to_the_stack(stack: Stack) -> None:
    stack.up()
    elsewhere = {f"TIDEGATE_{name.upper()}": value for name, value in stack.elsewhere.items()}
    exports = tidegate(stack.home, "env", **elsewhere).stdout
    script = f'{exports}\necho "$AIRFLOW_HOME|$PGUSER|$PGDATABASE|$AIRFLOW__API__HOST"'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout == f"{stack.home}/airflow|tidegate|warehouse|127.0.0.1\n"
