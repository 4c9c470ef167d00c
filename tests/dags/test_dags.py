"""What every DAG keeps, as Airflow reads it: each file in a process of its own, without a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bin.check_dags import HEAVY
from tests.shop import topic_contract
from tests.whole import CHECKOUT

from tidegate.contracts import Contract, load_all
from tidegate.settings import load_settings
from tidegate.stack.airflow_environment import airflow_environment
from tidegate.transforms import catalog

FILES = sorted(path.name for path in (CHECKOUT / "dags").glob("*.py"))
SECRET = "canary-warehouse-77c1"
READ = """
import json, os, sys, time
from airflow.sdk import DAG
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
def several(found):
    # A mapped task keeps what it was given.
    return found if isinstance(found, (list, tuple)) else [found]

def look(file):
    began = time.perf_counter()
    bag = DagBag(file)
    seconds, imported = time.perf_counter() - began, sorted(set(sys.modules))
    dags = {
        dag.dag_id: {
            "serialized": DagSerialization.to_dict(dag)["dag"],
            "dependents": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
            "callbacks": {task.task_id: [f.__qualname__ for f in several(task.on_failure_callback)] for task in dag.tasks},
            "outlets": {task.task_id: [o.uri for o in task.outlets] for task in dag.tasks if task.outlets},
            "owners": sorted({task.owner for task in dag.tasks}),
            "retries": {task.task_id: [task.retries, bool(task.retry_exponential_backoff)] for task in dag.tasks},
            "timetable": type(dag.timetable).__name__,
            "paused": dag.is_paused_upon_creation,
            "doc": dag.doc_md, "tags": sorted(dag.tags), "catchup": dag.catchup,
            "end": dag.end_date and dag.end_date.isoformat(),
        }
        for dag in bag.dags.values()
    }
    return {"errors": bag.import_errors, "seconds": seconds, "imported": imported, "dags": dags}

for file in sys.argv[1:]:
    # A fork has imported what stands above, three seconds of CPU, and nothing that another file asks for.
    if (child := os.fork()) == 0:
        print(json.dumps(look(file), default=str), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, file
"""


def read(file: str, project: Path, home: Path) -> dict[str, Any]:
    """Return what Airflow finds in a DAG file of this checkout, for the contracts of `project`."""
    return read_each([file], project, home)[file]


def read_each(files: list[str], project: Path, home: Path) -> dict[str, dict[str, Any]]:
    settings = load_settings(project=project, home=home)
    environment = {
        **os.environ,
        **airflow_environment(settings),
        "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{project}",
        "TIDEGATE_WAREHOUSE_URL": f"postgresql://tidegate:{SECRET}@127.0.0.1:9/warehouse",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ, *(str(CHECKOUT / "dags" / file) for file in files)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"errors": ')]
    return dict(zip(files, found, strict=True))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every DAG file, read with a manifest in its place."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEGATE_HOME", str(home))
        patch.setenv("TIDEGATE_WAREHOUSE_URL", "postgresql://127.0.0.1:9/warehouse")
        program = [sys.executable, "-W", "ignore", "-m", "tidegate.dbt"]
        subprocess.run(program, check=True, env={**os.environ, "TIDEGATE_PROJECT": str(CHECKOUT)})
        return read_each(FILES, CHECKOUT, home)


@pytest.fixture(scope="module")
def dags(files: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {dag_id: dag for found in files.values() for dag_id, dag in found["dags"].items()}


def contracts() -> dict[str, Contract]:
    return {contract.dataset: contract for contract in load_all(load_settings(project=CHECKOUT))}


def batched() -> dict[str, Contract]:
    """Contracts of what comes in batches."""
    return {name: contract for name, contract in contracts().items() if contract.topic is None}


def maker(name: str, contract: Contract) -> str:
    """The DAG that makes a dataset."""
    return ("stream_" if contract.topic else "ingest_" if contract.schema == "raw" else "transform_") + name


def test_every_contract_and_every_transform_is_a_dag(dags: dict[str, dict[str, Any]]) -> None:
    ingested = {f"ingest_{c.dataset}" for c in contracts().values() if c.schema == "raw" and c.topic is None}
    streamed = {f"stream_{c.dataset}" for c in contracts().values() if c.topic is not None}
    derived = {f"transform_{name}" for name in catalog.names(load_settings(project=CHECKOUT))}
    assert len(ingested) >= 5
    assert len(derived) >= 2
    teams = {f"team_{path.stem}" for path in (CHECKOUT / "teams").glob("*.yaml")}
    assert len(teams) >= 3
    assert streamed
    assert set(dags) == ingested | streamed | derived | teams | {
        "warehouse",
        "upkeep_freshness",
        "upkeep_docs",
        "upkeep_backup",
        "upkeep_database",
        "upkeep_restore_drill",
        "upkeep_partitions",
        "upkeep_streams",
        "upkeep_team_reports",
    }


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_read_without_an_error(files: dict[str, dict[str, Any]], file: str) -> None:
    assert files[file]["errors"] == {}
    assert files[file]["dags"]


@pytest.mark.parametrize("file", FILES)
def test_reading_a_file_imports_nothing_heavy(files: dict[str, dict[str, Any]], file: str) -> None:
    assert "tidegate.contracts" in files[file]["imported"]
    assert sorted(set(files[file]["imported"]) & HEAVY) == []


def test_where_no_connection_to_a_model_is_named_nobody_thinks_with_one(files: dict[str, dict[str, Any]]) -> None:
    imported = files["team.py"]["imported"]
    assert [name for name in imported if name.startswith("pydantic_ai") or name == "dags.wiring.mind"] == []
    for name, dag in files["team.py"]["dags"].items():
        assert [task for task in dag["dependents"] if ".thinks." in task] == [], name
        assert dag["dependents"], name


def test_every_dag_has_a_manual_that_says_what_to_do_when_it_fails(dags: dict[str, dict[str, Any]]) -> None:
    assert [name for name, dag in dags.items() if "### When it fails" not in (dag["doc"] or "")] == []
    assert [name for name, dag in dags.items() if "None" in dag["doc"] or "0:00:00" in dag["doc"]] == []


def test_every_task_has_an_owner_is_tried_again_and_tells_when_it_fails(dags: dict[str, dict[str, Any]]) -> None:
    for name, dag in dags.items():
        assert dag["tags"], name
        assert dag["owners"], name
        assert "airflow" not in dag["owners"], name
        # Cosmos sets the retries of the process that builds the models itself.
        patient = {task: retries for task, retries in dag["retries"].items() if not task.endswith("producer_watcher")}
        assert set(map(tuple, patient.values())) == {(4, True)}, name
        silent = [task for task, told in dag["callbacks"].items() if "task_failed" not in told]
        assert silent == [], name


def test_every_dag_has_a_deadline_and_waits_to_be_woken(dags: dict[str, dict[str, Any]]) -> None:
    for name, dag in dags.items():
        (deadline,) = dag["serialized"]["deadline"]
        assert "deadline_missed" in json.dumps(deadline), name
        # A team is started by a person, who would wait in vain for one that sleeps.
        assert dag["paused"] is not name.startswith("team_"), name
        assert dag["catchup"] is False, name


def test_the_deadline_is_the_contracts_freshness(dags: dict[str, dict[str, Any]]) -> None:
    for name, contract in contracts().items():
        dag = dags[maker(name, contract)]
        assert contract.freshness
        # A plain number: Airflow 3.3.2 cannot move a deadline of another kind when a task is cleared.
        (deadline,) = dag["serialized"]["deadline"]
        assert deadline["interval"] == contract.freshness.total_seconds(), name


def test_a_dataset_is_asked_for_when_a_partition_ends_and_no_longer_than_its_record_lasts(
    dags: dict[str, dict[str, Any]],
) -> None:
    assert {n: dags[f"ingest_{n}"]["timetable"] for n in ("flights", "weather")} == dict.fromkeys(
        ("flights", "weather"), "CronPartitionTimetable"
    )
    assert dags["ingest_flights"]["end"] == "2014-01-01T00:00:00+00:00"
    assert dags["ingest_airlines"]["timetable"] == "CronTriggerTimetable"


def test_what_is_derived_waits_for_the_assets_that_it_reads(dags: dict[str, dict[str, Any]]) -> None:
    def awaited(dag_id: str) -> set[str]:
        text = json.dumps(dags[dag_id]["serialized"]["timetable"])
        return {name for name in contracts() if f"tidegate://warehouse/{name}/" in text or f'/{name}"' in text}

    assert awaited("transform_aircraft_leg") == {"flights"}
    assert awaited("transform_flight_weather") == {"flights", "weather"}
    assert awaited("warehouse") == set(batched()) - {"bookings"}, "what no model reads changes no mart"
    assert "tidegate://warehouse/marts" in json.dumps(dags["upkeep_docs"]["serialized"]["timetable"])


def test_publishing_alone_updates_the_asset_of_its_dataset(dags: dict[str, dict[str, Any]]) -> None:
    for name, contract in contracts().items():
        dag = dags[maker(name, contract)]
        assert dag["outlets"] == {"publish" if contract.topic else "batch.publish": [f"tidegate://warehouse/{name}"]}
    assert dags["warehouse"]["outlets"] == {"publish": ["tidegate://warehouse/marts"]}


def test_a_batch_goes_through_its_steps_in_order(dags: dict[str, dict[str, Any]]) -> None:
    for name, contract in batched().items():
        first = "land" if contract.schema == "raw" else "transform"
        assert dags[maker(name, contract)]["dependents"] == {
            first: ["batch.stage"],
            "batch.stage": ["batch.judge"],
            "batch.judge": ["batch.publish"],
            "batch.publish": [],
        }


def test_a_stream_is_told_of_when_its_rows_were_judged_and_reconciled(dags: dict[str, dict[str, Any]]) -> None:
    assert dags["stream_flight_event"]["dependents"] == {
        "drain": ["judge", "publish", "reconcile"],
        "judge": ["publish"],
        "reconcile": ["publish"],
        "publish": [],
    }
    assert "MessagesWait" in json.dumps(dags["stream_flight_event"]["serialized"]["timetable"])


def test_each_model_is_a_task_before_the_marts_are_judged(dags: dict[str, dict[str, Any]]) -> None:
    models = {f"dbt.models.{path.parent.name}.{path.stem}" for path in (CHECKOUT / "models").rglob("*.sql")}
    dependents = dags["warehouse"]["dependents"]
    assert models <= set(dependents)
    assert "publish" in dependents["judge"]
    assert [name for name in models if not dependents[name]] == []


def test_the_report_is_written_when_there_is_something_to_link_to(dags: dict[str, dict[str, Any]]) -> None:
    assert dags["upkeep_docs"]["dependents"] == {"data_docs": ["report"], "dbt_docs": ["report"], "report": []}


def test_no_secret_is_in_what_airflow_keeps_of_a_dag(files: dict[str, dict[str, Any]]) -> None:
    assert SECRET not in json.dumps(files)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What is found for a project that has a broken contract and a broken team beside a good one, and no manifest."""
    project = tmp_path_factory.mktemp("elsewhere")
    for good in ("schemas/planes.odcs.yaml", "teams/database.yaml"):
        (project / good).parent.mkdir()
        (project / good).write_text((CHECKOUT / good).read_text())
    (project / "schemas/boats.odcs.yaml").write_text("kind: DataContract\n")
    (project / "teams/boats.yaml").write_text("team: boats\n")
    return read_each(["ingest.py", "team.py", "warehouse.py"], project, tmp_path_factory.mktemp("home"))


def test_a_broken_contract_is_a_dag_that_says_so_and_stops_no_other(elsewhere: dict[str, dict[str, Any]]) -> None:
    found = elsewhere["ingest.py"]
    assert found["errors"] == {}
    assert set(found["dags"]) == {"ingest_planes", "ingest_boats"}
    assert "schemas/boats.odcs.yaml" in found["dags"]["ingest_boats"]["doc"]
    assert "broken" in found["dags"]["ingest_boats"]["tags"]


def test_a_broken_team_is_a_dag_that_says_so_and_stops_no_other(elsewhere: dict[str, dict[str, Any]]) -> None:
    found = elsewhere["team.py"]
    assert found["errors"] == {}
    assert set(found["dags"]) == {"team_database", "team_boats"}
    assert "expected a team, with roles, waves and gates" in found["dags"]["team_boats"]["doc"]
    assert "broken" in found["dags"]["team_boats"]["tags"]


def test_partitions_are_made_ahead_of_rows_that_come_one_by_one(tmp_path: Path) -> None:
    schemas = tmp_path / "project/schemas"
    schemas.mkdir(parents=True)
    (schemas / "planes.odcs.yaml").write_text((CHECKOUT / "schemas/planes.odcs.yaml").read_text())
    (schemas / "orders.odcs.yaml").write_text(topic_contract())
    found = read("upkeep_partitions.py", schemas.parent, tmp_path / "home")["dags"]["upkeep_partitions"]
    assert found["dependents"] == {"ahead_orders": [], "archive_orders": [], "fold_streams": []}


def test_a_team_runs_in_its_waves_and_every_attempt_of_the_loop_is_drawn(dags: dict[str, dict[str, Any]]) -> None:
    after = dags["team_database"]["dependents"]
    assert after["begin"] == ["wave_1_planning.PM"]
    assert after["wave_1_planning.PM"] == ["wave_1_planning.gate_planning_complete"]
    assert {"wave_1_5_research.MKT", "wave_2_engineering.DBA"} <= set(after["wave_1_planning.report"])
    loop = "wave_3_quality_assurance"
    assert {f"{loop}.attempt_{n}.gate_qa_pass" for n in (1, 2, 3)} <= set(after)
    assert after[f"{loop}.attempt_1.gate_qa_pass"] != []
    assert after["wave_4_release.release"] == ["wave_4_release.approve_merge"]
    assert after["close"] == []


def test_without_a_manifest_the_warehouse_is_a_dag_that_says_so(elsewhere: dict[str, dict[str, Any]]) -> None:
    found = elsewhere["warehouse.py"]
    assert list(found["dags"]["warehouse"]["dependents"]) == ["read_models"]
    assert "broken" in found["dags"]["warehouse"]["tags"]
