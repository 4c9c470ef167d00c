"""Every line is a JSON object that names dataset and batch, and no secret is in any of what the platform writes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from tests.shop import orders_contract
from tests.whole import SLACK_TOKEN, SOURCE_PASSWORD, Whole, eventually, secrets_of

from tidegate.observe import logs
from tidegate.run import demo
from tidegate.settings import Settings, load_settings

#: The stack's start is a part of the first test that wants it.
pytestmark = pytest.mark.timeout(600)
#: A database that does not answer, at an address with a password in it.
SERVER = """
  - server: archive
    type: postgres
    host: archive.example
    port: 5432
    database: elsewhere
    schema: public
    customProperties:
      - property: table
        value: orders
"""
#: Files that are there to hold secrets.
HOLDERS = {"kafka/server.properties", "env", "secrets.json", "airflow/passwords.json", "airflow/airflow.cfg"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def secretive(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("TIDEGATE_WAREHOUSE_URL", "postgresql://tidegate:canary-w@127.0.0.1:9/warehouse")
    monkeypatch.setenv("TIDEGATE_SOURCE_ARCHIVE_URL", "postgresql://reader:canary-s@127.0.0.1:9/archive")
    monkeypatch.setenv("TIDEGATE_AIRFLOW_PASSWORD", "canary-a")
    return load_settings()


@pytest.mark.usefixtures("restored")
def test_where_there_is_no_terminal_a_line_is_one_json_object(secretive: Settings) -> None:
    out = io.StringIO()
    logs.configure(secretive, out)
    with logs.about(dataset="flights", batch_id="b1"):
        logs.get("here").info("batch\nstaged", rows=3)
        logs.get("here").error("broken", exc_info=ValueError("no"))
    staged, broken = map(json.loads, out.getvalue().splitlines())
    assert {"event": "batch\nstaged", "rows": 3, "level": "info", "dataset": "flights", "batch_id": "b1"}.items() <= (
        staged.items()
    )
    assert "ValueError: no" in broken["exception"]
    assert broken["batch_id"] == "b1"


@pytest.mark.usefixtures("restored")
def test_on_a_terminal_a_line_is_made_for_reading(secretive: Settings) -> None:
    out = Terminal()
    logs.configure(secretive, out)
    logs.get("here").info("batch staged", rows=3)
    assert "batch staged" in out.getvalue()
    assert "{" not in out.getvalue()


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("secret", ["canary-w", "canary-s", "canary-a"])
def test_a_secret_is_hidden_wherever_it_stands_in_a_line(secretive: Settings, secret: str) -> None:
    out = io.StringIO()
    logs.configure(secretive, out)
    address = f"postgresql://x:{secret}@h/d"
    logs.get("here").info(f"tried {address}", address=address, nested={"list": [address]}, error=ValueError(address))
    logs.get("here").error("failed", exc_info=ValueError(address))
    assert secret not in out.getvalue()
    assert logs.HIDDEN in out.getvalue()


@dataclass
class Waves:
    """The runs of two waves, one that is published and one whose source does not answer."""

    good: str
    bad: str


@pytest.fixture(scope="module")
def waves(whole: Whole) -> Waves:
    demo.deliver(whole.settings, ())
    contract = orders_contract(partitioned=False, server=SERVER).replace("raw.orders", "raw.archived_orders")
    (whole.project / "schemas/archived_orders.odcs.yaml").write_text(
        contract.replace("name: orders", "name: archived_orders")
    )
    waves = Waves(whole.start("ingest_airlines"), whole.start("ingest_archived_orders"))
    assert whole.ended("ingest_airlines", waves.good) == "success"
    # Its source may be back in a moment, so the task is tried again: its first attempt's log is what we want.
    eventually(lambda: "does not answer" in text_of(whole, "ingest_archived_orders", waves.bad))
    return waves


def text_of(whole: Whole, dag_id: str, run_id: str) -> str:
    folder = whole.home / f"airflow/logs/dag_id={dag_id}/run_id={run_id}"
    return "".join(path.read_text() for path in sorted(folder.rglob("*.log")))


def test_every_line_of_a_wave_is_one_json_object_with_dataset_and_batch(whole: Whole, waves: Waves) -> None:
    lines = [json.loads(line) for line in text_of(whole, "ingest_airlines", waves.good).splitlines()]
    ours = [line for line in lines if line.get("logger", "").startswith("tidegate")]
    batch = whole.rows("SELECT batch_id FROM ops.batch WHERE dataset = 'airlines' AND state = 'published'")[0][
        "batch_id"
    ]
    assert ours
    assert {(line.get("dataset"), line.get("batch_id")) for line in ours} == {("airlines", batch)}


def test_a_failed_wave_says_what_to_do_in_its_log(whole: Whole, waves: Waves) -> None:
    lines = [json.loads(line) for line in text_of(whole, "ingest_archived_orders", waves.bad).splitlines()]
    errors = [detail for line in lines for detail in line.get("error_detail") or ()]
    assert errors[0]["exc_type"] == "UnavailableError"
    assert "archive at postgresql://reader@127.0.0.1:1/elsewhere does not answer" in errors[0]["exc_value"]


def test_no_secret_is_in_anything_that_the_platform_writes(whole: Whole, waves: Waves) -> None:
    secrets = {**secrets_of(whole.home), "slack token": SLACK_TOKEN, "source password": SOURCE_PASSWORD}
    commands = (("status", "--json"), ("batch", "list"), ("report",), ("ingest", "archived_orders"), ("docs",))
    told = {" ".join(words): whole.call(*words) for words in commands}
    assert "archive" in told["ingest archived_orders"].stderr
    texts = {f"`tidegate {words}`": done.stdout + done.stderr for words, done in told.items()}
    texts |= eventually(lambda: read(whole.home))
    texts |= {
        table: dump(whole, table)
        for table in ("xcom", "rendered_task_instance_fields", "serialized_dag", "log", "dag_run")
    }
    assert {"report/index.html", "dbt/target/manifest.json"} <= set(texts)
    assert "archived_orders" in texts["serialized_dag"]
    assert sum("airflow/logs/dag_id=" in name for name in texts) >= 5
    assert [(name, kind) for name, text in texts.items() for kind, secret in secrets.items() if secret in text] == []


def read(home: Path) -> dict[str, str] | None:
    """Return each written file's text by name; none if a file went meanwhile, as those of a site that is built anew."""
    try:
        return {str(path.relative_to(home)): path.read_text(errors="replace") for path in written(home)}
    except FileNotFoundError:
        return None


def written(home: Path) -> list[Path]:
    """Every file below home but the servers' own data, and those that hold secrets: readable by their owner alone."""
    files = [
        path for path in home.rglob("*")
        if path.is_file() and path.relative_to(home).parts[0] != "postgres"
    ]  # fmt: skip
    holders = {path for path in files if path.relative_to(home).as_posix() in HOLDERS}
    assert {path.stat().st_mode & 0o777 for path in holders} == {0o600}
    return [path for path in files if path not in holders]


def dump(whole: Whole, table: str) -> str:
    rows = whole.rows(f"SELECT t::text AS row FROM {table} t", of="airflow")
    assert rows, table
    return "\n".join(row["row"] for row in rows)
