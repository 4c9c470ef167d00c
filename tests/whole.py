"""The whole stack on a project of its own, started once for all tests that want it, and what they ask of it.

The project is a copy of this one, so that tests may add contracts and write a `.env`: in it stand a Slack
connection whose address is a server in this process, and the address of a source whose password is a canary.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import structlog
from psycopg.rows import dict_row
from typer.testing import CliRunner, Result

from tidegate import cli
from tidegate.run.airflow import Airflow, session
from tidegate.settings import Settings, get_settings, load_settings
from tidegate.stack import lifecycle, warehouse
from tidegate.stack.secret import Secrets
from tidegate.stack.status import Status, look

CHECKOUT = Path(__file__).resolve().parents[1]
PROGRAM = CHECKOUT / ".venv/bin/tidegate"
#: What a project is made of, as far as the stack reads it.
PROJECT = (
    "dags", "expectations", "macros", "migrations", "models", "queries", "schemas", "strategies", "transforms", "dbt_project.yml", "profiles.yml"
)  # fmt: skip
#: Neither Airflow nor a Spark server: the warehouse, and what stands around it.
WAREHOUSE_ALONE = {"airflow_url": "http://127.0.0.1:9", "spark_master": "local[1]"}
SLACK_TOKEN = "T0TIDE/B0GATE/canary-slack-b8f2a6"
SOURCE_PASSWORD = "canary-source-51d09c"


@dataclass
class Stack:
    """One home; `said` holds what the last `up` or `down` has said."""

    home: Path
    elsewhere: dict[str, str]
    project: Path = CHECKOUT
    said: str = field(default="")

    @property
    def settings(self) -> Settings:
        return load_settings(project=self.project, home=self.home, **self.elsewhere)

    def up(self) -> Settings:
        lines: list[str] = []
        try:
            return lifecycle.up(self.settings, lines.append)
        finally:
            self.said = "\n".join(lines)

    def down(self) -> None:
        lines: list[str] = []
        lifecycle.down(self.settings, lines.append)
        self.said = "\n".join(lines)

    def status(self) -> Status:
        return look(self.settings)

    @property
    def postgres_pid(self) -> int:
        pid = self.status().services["postgres"].pid
        assert pid is not None
        return pid


class Typed(Stack):
    """A stack, what one types at it in this process, and what its superuser sees."""

    def run(self, *words: str) -> Result:
        get_settings.cache_clear()
        try:
            return CliRunner().invoke(cli.build(), list(words))
        finally:
            # The command's log went to a stream that is closed by now.
            structlog.reset_defaults()

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)

    def ask(self, query: str, dsn: str | None = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(dsn or self.superuser, autocommit=True) as connection:
            cursor = connection.execute(query)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    @property
    def superuser(self) -> str:
        return warehouse.reach(self.settings).dsn("warehouse")

    def speak_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have commands in this process speak to this stack."""
        told = {"project": CHECKOUT, "home": self.home, "backup_tool": "pg_basebackup", **WAREHOUSE_ALONE}
        for name, value in told.items():
            monkeypatch.setenv(f"TIDEGATE_{name.upper()}", str(value))


class Slack:
    """A server that Slack's provider may take for Slack; `told` holds the text of every message."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.paths: list[str] = []
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                slack.paths.append(self.path)
                slack.told.append(json.loads(body)["text"])
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def connection(self) -> str:
        """The connection's text, as one writes it into `.env`."""
        address = f"http://127.0.0.1:{self._server.server_port}/services"
        return json.dumps({"conn_type": "slackwebhook", "host": address, "password": SLACK_TOKEN})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Whole(Stack):
    """The stack with everything in it, and a look into it."""

    slack: Slack = field(default_factory=Slack)

    def call(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Type `tidegate …` in a shell that knows this stack."""
        return subprocess.run(
            [PROGRAM, *words], capture_output=True, text=True, check=False, env=self.environment, input=stdin
        )

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "TIDEGATE_PROJECT": str(self.project), "TIDEGATE_HOME": str(self.home)}

    @property
    def inbox(self) -> Path:
        return self.settings.inbox_path

    def rows(self, query: str, *, of: str = "warehouse") -> list[dict[str, Any]]:
        """Ask the warehouse, or Airflow's own database."""
        settings = self.settings
        address = settings.warehouse_url if of == "warehouse" else settings.airflow_database_url
        assert address is not None
        with psycopg.connect(address.get_secret_value(), row_factory=dict_row) as connection:
            return connection.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]

    def checksums(self) -> dict[str, str]:
        """Of every row that readers see, by table."""
        tables = self.rows(
            "SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE nspname IN ('raw', 'core', 'marts') AND NOT relispartition AND relkind IN ('r', 'p', 'v')"
        )
        return {
            table["name"]: self.rows(
                f"SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) AS sum FROM {table['name']} t"
            )[0]["sum"]
            for table in tables
        }

    def dag_runs(self) -> list[str]:
        """Every run that somebody or something asked for; upkeep comes by the clock."""
        query = "SELECT dag_id || ' ' || run_id AS run_id FROM dag_run WHERE dag_id NOT LIKE 'upkeep%' ORDER BY id"
        return [run["run_id"] for run in self.rows(query, of="airflow")]

    def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask Airflow as its UI does."""
        settings = self.settings
        assert settings.airflow_password
        login = {"username": settings.airflow_username, "password": settings.airflow_password.get_secret_value()}
        with httpx.Client(base_url=str(settings.airflow_url), timeout=60, trust_env=False) as client:
            token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
            answer = client.request(method, f"/api/v2/{path}", json=body, headers={"Authorization": f"Bearer {token}"})
            return answer.raise_for_status().json()

    def start(self, dag_id: str, **conf: str) -> str:
        """Start a DAG as soon as Airflow has read it, and return the run's id."""
        with session(self.settings) as airflow:
            airflow.wait_for([dag_id])
            airflow.wake(dag_id)
            before = {run.run_id for run in airflow.runs([dag_id])}
            airflow.start(dag_id, conf=conf)
            return next(run.run_id for run in airflow.runs([dag_id]) if run.run_id not in before)

    def ended(self, dag_id: str, run_id: str) -> str:
        """Wait for a run's end, and return its state."""
        with session(self.settings) as airflow:
            return eventually(lambda: _end_of(airflow, dag_id, run_id))


def _end_of(airflow: Airflow, dag_id: str, run_id: str) -> str | None:
    states = [run.state for run in airflow.runs([dag_id]) if run.run_id == run_id]
    return states[0] if states[0] in ("success", "failed") else None


def secrets_of(home: Path) -> dict[str, str]:
    """Every secret that a stack has made for itself, by its name."""
    kept = dict(vars(Secrets.load(home)))
    return {**kept.pop("logins"), **kept}


def eventually[Found](look: Callable[[], Found | None], patience: float = 120) -> Found:
    """Return what `look` finds as soon as it finds anything."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.3)
    return found


@pytest.fixture(scope="session")
def whole(reachable_folder: Path) -> Iterator[Whole]:
    project = reachable_folder / "project"
    project.mkdir()
    for name in PROJECT:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, project)
    stack = Whole(reachable_folder / "whole", {}, project)
    address = f"postgresql://reader:{SOURCE_PASSWORD}@127.0.0.1:1/elsewhere"
    (project / ".env").write_text(
        f"AIRFLOW_CONN_SLACK_DEFAULT={stack.slack.connection}\nTIDEGATE_SOURCE_ARCHIVE_URL={address}\n"
    )
    stack.up()
    yield stack
    stack.down()
    stack.slack.close()
