"""Two months of real flights through the whole stack; then a broken delivery, a release, a new dataset, a deadline.

The tests are one story and are told in order: each starts from what the one before has left.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.shop import HEADER, orders, orders_contract
from tests.whole import PROGRAM, Whole, eventually

from tidegate.evidence import indexes, queries
from tidegate.run import demo
from tidegate.stores import topics
from tidegate.stores.postgres import connect

#: A fixture of this story runs everything through Airflow, on a busy machine minutes long.
pytestmark = pytest.mark.timeout(900)
JANUARY, FEBRUARY, MARCH, _, MAY = demo.MONTHS[:5]
LATE = """slaProperties:
  - property: latency
    value: 1
    unit: s
customProperties:
"""


@pytest.fixture(scope="module")
def first(whole: Whole) -> subprocess.CompletedProcess[str]:
    """The first run, with two months in the inbox."""
    demo.deliver(whole.settings, (JANUARY, FEBRUARY))
    return whole.call("run", "--no-demo")


def lines_of(path: Path) -> list[dict[str, str]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(text.decode().splitlines()))


def test_everything_that_was_delivered_is_published(whole: Whole, first: subprocess.CompletedProcess[str]) -> None:
    assert first.returncode == 0, first.stdout + first.stderr
    delivered = {
        dataset: sum(len(lines_of(path)) for path in (whole.inbox / dataset).iterdir()) for dataset in demo.DATASETS
    }
    published = {dataset: whole.rows(f"SELECT count(*) AS n FROM raw.{dataset}")[0]["n"] for dataset in demo.DATASETS}
    # February's weather has one wind of 1048 mph, which the contract refuses.
    assert published == {**delivered, "weather": delivered["weather"] - 1}
    assert whole.rows("SELECT value FROM quarantine.refused_row") == [{"value": "1048.36058"}]


def test_no_important_query_reads_a_large_table_whole(whole: Whole) -> None:
    """But those that its file names; and each index of the marts that guarantees nothing serves one of them."""
    with connect(whole.settings) as connection:
        plans = {query: queries.explain(connection, query) for query in queries.read(whole.project)}
        made = {
            index.name
            for index in indexes.of_warehouse(connection)
            if index.table.startswith("marts_current.") and not index.unique
        }
    unintended = {
        query.name: scans
        for query, plan in plans.items()
        if (scans := [scan for scan in queries.whole_reads(plan) if scan.table not in query.scans])
    }
    assert unintended == {}
    assert made <= set().union(*map(queries.indexes_used, plans.values()))


def test_the_marts_count_every_flight(whole: Whole, first: subprocess.CompletedProcess[str]) -> None:
    assert first.returncode == 0
    flights = sum(len(lines_of(path)) for path in (whole.inbox / "flights").iterdir())
    for mart in ("mart_on_time_by_carrier", "mart_route_reliability", "mart_delay_by_hour", "mart_weather_delay"):
        assert whole.rows(f"SELECT sum(flight_count) AS n FROM marts.{mart}") == [{"n": flights}], mart


def test_without_a_terminal_a_run_tells_its_steps_and_a_summary_in_plain_lines(
    whole: Whole, first: subprocess.CompletedProcess[str]
) -> None:
    told = first.stdout
    assert "\x1b" not in told
    assert re.search(r"^ +\d+\.\d s  flights: 2 of 2$", told, re.MULTILINE)
    assert re.search(r"^rows +[\d,]+ delivered, [\d,]+ published, 1 refused; [\d,]+ derived$", told, re.MULTILINE)
    assert re.search(r"^gate +reconciliation: \d+ PASS$", told, re.MULTILINE)
    assert re.search(r"^seconds .*stage \d", told, re.MULTILINE)
    assert f"airflow   {whole.settings.airflow_url} as admin" in told
    assert "kafka     topic booking_event, flight_event; `tidegate replay flights " in told
    assert {topic.name for topic in topics.listed(whole.settings)} == {"booking_event", "flight_event"}
    report = Path(re.findall(r"^report +(\S+)$", told, re.MULTILINE)[0])
    assert "flights" in report.read_text()
    assert "docs      Data Docs and dbt docs follow in the background" in told


def test_every_model_is_a_task_named_like_it_in_a_group_named_like_its_folder(
    whole: Whole, first: subprocess.CompletedProcess[str]
) -> None:
    run = whole.rows("SELECT run_id FROM dag_run WHERE dag_id = 'warehouse'", of="airflow")
    assert len(run) == 1
    tasks = whole.api("GET", f"dags/warehouse/dagRuns/{run[0]['run_id']}/taskInstances?limit=100")["task_instances"]
    models = {f"dbt.models.{path.parent.name}.{path.stem}" for path in (whole.project / "models").rglob("*.sql")}
    assert len(models) > 10
    states = {task["task_id"]: task["state"] for task in tasks}
    assert {name: states.get(name) for name in models} == dict.fromkeys(models, "success")
    shown = {task["task_id"]: task["task_display_name"] for task in tasks}
    assert {name: shown[name] for name in models} == {name: name.rpartition(".")[2] for name in models}
    assert {"prepare", "judge", "publish", "dbt.dbt_producer_watcher"} <= set(states)


def test_what_tasks_hand_on_is_small_and_can_be_read(whole: Whole, first: subprocess.CompletedProcess[str]) -> None:
    ours = "dag_id NOT LIKE 'upkeep_%' AND task_id NOT LIKE 'dbt.%'"
    handed = whole.rows(f"SELECT dag_id, task_id, key, value #>> '{{}}' AS value FROM xcom WHERE {ours}", of="airflow")
    assert {row["key"] for row in handed} == {"return_value", "verdicts"}
    assert [row for row in handed if row["key"] == "return_value" and not re.fullmatch(r"\w{16}", row["value"])] == []
    verdicts = [row["value"].splitlines() for row in handed if row["key"] == "verdicts"]
    assert [told[0] for told in verdicts if not re.fullmatch(r"\d+ PASS, \d+ WARN, \d+ FAIL", told[0])] == []
    assert {row["dag_id"] for row in handed if row["key"] == "verdicts"} >= {"ingest_weather", "warehouse"}
    (refused,) = [line for told in verdicts for line in told if "refused rows" in line]
    assert refused.startswith("• WARN contract: refused rows: 1 of 2010 rows")
    assert max(len(row["value"]) for row in handed) < 4000


def test_the_assets_name_the_partition_and_the_batch(whole: Whole, first: subprocess.CompletedProcess[str]) -> None:
    events = whole.api("GET", "assets/events?source_dag_id=ingest_flights")["asset_events"]
    batches = {row["partition"]: row for row in whole.rows("SELECT * FROM ops.batch WHERE dataset = 'flights'")}
    assert {event["partition_key"] for event in events} == {JANUARY, FEBRUARY}
    for event in events:
        batch = batches[event["partition_key"]]
        assert event["extra"]["batch_id"] == batch["batch_id"]
        assert event["extra"]["rows"] == batch["accepted_count"]


def test_docs_follow_the_marts_and_the_report_links_to_them(
    whole: Whole, first: subprocess.CompletedProcess[str]
) -> None:
    eventually(
        lambda: whole.rows("SELECT 1 FROM dag_run WHERE dag_id = 'upkeep_docs' AND state = 'success'", of="airflow")
    )
    page = (whole.home / "report/index.html").read_text()
    assert {site: f'href="../docs/{site}/index.html"' in page for site in ("expectations", "dbt")} == {
        "expectations": True, "dbt": True,
    }  # fmt: skip
    assert "flights 2013-02" in (whole.home / "docs/expectations/index.html").read_text()
    catalog = json.loads((whole.home / "dbt/docs/catalog.json").read_text())
    tables = {(node["metadata"]["schema"], node["metadata"]["name"]) for node in catalog["nodes"].values()}
    # Those that readers see, not the candidates that they were.
    assert {(schema, name) for schema, name in tables if name.startswith("mart_")} == {
        ("marts", path.stem) for path in (whole.project / "models/marts").glob("mart_*.sql")
    }


def test_a_second_run_changes_nothing(whole: Whole, first: subprocess.CompletedProcess[str]) -> None:
    before = whole.checksums(), whole.dag_runs()
    assert len(before[0]) > 10
    again = whole.call("run", "--no-demo")
    assert again.returncode == 0, again.stderr
    assert (whole.checksums(), whole.dag_runs()) == before


@contextmanager
def standing_still(whole: Whole) -> Iterator[None]:
    """Let the scheduler stand while the block runs: what it would do in two seconds is not over before one has looked."""
    keeper = whole.status().services["airflow-scheduler"].pid
    assert keeper
    stopped = psutil.Process(keeper).children(recursive=True)
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            process.resume()


@pytest.fixture(scope="module")
def interrupted(whole: Whole, first: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    """A run on a terminal, with a dataset that nobody has seen before, until Ctrl-C: its status and its screen."""
    contract = orders_contract(partitioned=False, server=server("orders/orders.csv"))
    (whole.project / "schemas/orders.odcs.yaml").write_text(contract.replace("customProperties:\n", LATE, 1))
    (whole.inbox / "orders").mkdir()
    (whole.inbox / "orders/orders.csv").write_text("\n".join([HEADER, *orders(1, 40)]) + "\n")
    screen, terminal = pty.openpty()
    environment = {**whole.environment, "TERM": "xterm-256color", "COLUMNS": "100"}
    shown = b""
    # What a shell puts into the background has no ears for Ctrl-C, nor has what that starts: these tests may be such.
    started = ["env", "--default-signal=SIGINT", PROGRAM, "run", "--no-demo"]
    with (
        standing_still(whole),
        subprocess.Popen(started, stdout=terminal, stderr=terminal, env=environment) as running,
    ):
        os.close(terminal)
        try:
            while chunk := os.read(screen, 65536):
                if b"orders " not in shown and b"orders " in shown + chunk:
                    running.send_signal(signal.SIGINT)
                shown += chunk
        except OSError:  # how Linux says that nobody holds the terminal any more
            pass
    os.close(screen)
    return running.returncode, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


@pytest.fixture(scope="module")
def second(whole: Whole, interrupted: tuple[int, str]) -> subprocess.CompletedProcess[str]:
    """March arrives, its flights broken, and May's weather before April's."""
    demo.deliver(whole.settings, (MARCH, MAY))
    (whole.inbox / f"flights/flights-{MAY}.csv.gz").unlink()
    flights = whole.inbox / f"flights/flights-{MARCH}.csv.gz"
    header, line, *others = gzip.decompress(flights.read_bytes()).decode().splitlines(keepends=True)
    flights.write_bytes(gzip.compress("".join([header, re.sub("EWR|JFK|LGA", "XXX", line), *others]).encode(), mtime=0))
    return whole.call("run", "--no-demo")


def server(path: str) -> str:
    return f'\n  - server: inbox\n    type: local\n    path: "{path}"\n    format: csv\n'


def held(whole: Whole) -> str:
    (batch,) = whole.rows("SELECT batch_id FROM ops.batch WHERE dataset = 'flights' AND state = 'held'")
    return str(batch["batch_id"])


def test_on_a_terminal_a_run_shows_bars_and_ctrl_c_says_how_to_go_on(interrupted: tuple[int, str]) -> None:
    status, screen = interrupted
    assert status == 130
    assert re.search("orders .*━.* 0/1 ", screen)
    assert "interrupted. What Airflow has begun goes on; `tidegate run` again watches it to its end" in screen
    assert "Traceback" not in screen


def test_a_held_batch_ends_the_run_with_its_reason_and_what_to_type(
    whole: Whole, second: subprocess.CompletedProcess[str]
) -> None:
    assert second.returncode == 1
    batch = held(whole)
    assert f"ingest_flights {MARCH}: task batch.publish failed: held: refused rows: 1 of 28834 rows" in second.stderr
    assert f"HELD  flights {MARCH} ({batch})" in second.stdout
    assert f"`tidegate batch show {batch}`" in second.stdout
    assert "Traceback" not in second.stderr


def test_airflow_shows_where_a_held_batch_stands(whole: Whole, second: subprocess.CompletedProcess[str]) -> None:
    (run,) = [r for r in whole.api("GET", "dags/ingest_flights/dagRuns")["dag_runs"] if r["partition_key"] == MARCH]
    assert run["state"] == "failed"
    path = f"dags/ingest_flights/dagRuns/{run['dag_run_id']}/taskInstances"
    states = {task["task_id"]: (task["state"], task["try_number"]) for task in whole.api("GET", path)["task_instances"]}
    # A gate would say the same again: it is not asked twice.
    assert states == {
        "land": ("success", 1), "batch.stage": ("success", 1), "batch.judge": ("success", 1),
        "batch.publish": ("failed", 1),
    }  # fmt: skip
    told = whole.api("GET", f"{path}/batch.judge/xcomEntries/verdicts")["value"]
    assert told.splitlines()[1].startswith("• FAIL contract: refused rows: 1 of 28834 rows")


def test_what_depends_on_a_held_batch_works_on_with_the_last_good_one(
    whole: Whole, second: subprocess.CompletedProcess[str]
) -> None:
    months = [row["p"] for row in whole.rows("SELECT DISTINCT _partition AS p FROM raw.flights ORDER BY 1")]
    assert months == [JANUARY, FEBRUARY]
    # March's weather was good: the marts were made anew, of it and of the flights before.
    assert whole.rows("SELECT count(*) AS n FROM raw.weather WHERE _partition = '2013-03'")[0]["n"] > 2000
    builds = whole.rows("SELECT state, inputs FROM ops.marts_build ORDER BY built_at")
    assert [build["state"] for build in builds] == ["superseded", "published"]
    assert f"weather {MARCH}" in builds[-1]["inputs"]
    assert f"flights {MARCH}" not in builds[-1]["inputs"]


def test_a_partition_that_was_not_delivered_is_not_asked_for(
    whole: Whole, second: subprocess.CompletedProcess[str]
) -> None:
    runs = whole.api("GET", "dags/ingest_weather/dagRuns")["dag_runs"]
    assert {run["partition_key"]: run["state"] for run in runs} == dict.fromkeys(
        (JANUARY, FEBRUARY, MARCH, MAY), "success"
    )


def test_slack_hears_which_batch_is_held_why_and_what_to_type(
    whole: Whole, second: subprocess.CompletedProcess[str]
) -> None:
    batch = held(whole)
    (told,) = [text for text in whole.slack.told if text.startswith("HELD: ingest_flights")]
    assert f"flights {MARCH}: batch {batch} is held: refused rows: 1 of 28834 rows" in told
    assert f"flights-{MARCH}.csv.gz:2, column origin: expected origin is one of EWR, JFK, LGA" in told
    assert f"`tidegate batch show {batch}`" in told
    assert "`tidegate batch release`" in told


def test_a_new_contract_is_a_dag_that_takes_its_dataset_in(
    whole: Whole, second: subprocess.CompletedProcess[str]
) -> None:
    assert whole.rows("SELECT count(*) AS n, sum(amount_euro)::text AS euro FROM raw.orders") == [
        {"n": 40, "euro": "840.00"}
    ]
    assert {run["state"] for run in whole.api("GET", "dags/ingest_orders/dagRuns")["dag_runs"]} == {"success"}
    details = whole.api("GET", "dags/ingest_orders/details")
    assert details["owners"] == ["shop"]
    assert "orders.csv" in details["doc_md"]


def test_slack_hears_of_a_missed_deadline(whole: Whole, second: subprocess.CompletedProcess[str]) -> None:
    # The new contract promises its rows within a second, which no run keeps.
    told, *_ = eventually(lambda: [text for text in whole.slack.told if text.startswith("LATE")])
    assert "ingest_orders" in told
    assert "has not published within 1 second" in told
    assert any(run["dag_run_id"] in told for run in whole.api("GET", "dags/ingest_orders/dagRuns")["dag_runs"])


def test_a_released_batch_is_published_by_clearing_its_task_and_the_marts_follow(
    whole: Whole, second: subprocess.CompletedProcess[str]
) -> None:
    batch = held(whole)
    released = whole.call("batch", "release", batch, "--why", "a new airport, and we know it", "--as", "Ada")
    assert released.returncode == 0, released.stderr
    (run,) = [r for r in whole.api("GET", "dags/ingest_flights/dagRuns")["dag_runs"] if r["partition_key"] == MARCH]
    whole.api(
        "POST",
        "dags/ingest_flights/clearTaskInstances",
        {"dag_run_id": run["dag_run_id"], "task_ids": ["batch.publish"], "dry_run": False, "only_failed": True},
    )
    assert whole.ended("ingest_flights", run["dag_run_id"]) == "success"
    assert whole.rows(f"SELECT count(*) AS n FROM raw.flights WHERE _partition = '{MARCH}'") == [{"n": 28833}]
    # Nobody asks for the marts: the asset's event does.
    eventually(lambda: whole.rows("SELECT 1 FROM marts.mart_on_time_by_carrier WHERE month_start = '2013-03-01'"))
    assert whole.rows("SELECT sum(flight_count) AS n FROM marts.mart_route_reliability") == whole.rows(
        "SELECT count(*) AS n FROM raw.flights"
    )
