"""Airflow DAG `warehouse`: build the marts beside the published ones, model by model, judge them, swap them in.

## The marts
Runs whenever a dataset that the models read was published: prepare → models → judge → publish. dbt builds the
models in one process (Cosmos' watcher mode) and each of them shows as a task here. They land in the schema
`marts_next`; what readers see through `marts` changes with the last task, in one transaction. A live mart is built and
judged with the others, and follows its stream by itself in between: messages start no build.

### When nothing has changed
`prepare` names the build after the batches and the code that it is made from. A build that is published
already is skipped, so the events of a whole year, arriving one by one, cost one build, not twenty-four.

### When it fails
- A model or one of its checks failed: its task's log shows dbt's words. Readers still see the marts before.
- `judge` or `publish` failed: the build is **held**; `tidegate marts show` says by which rule. Repair the data
  or the model and trigger this DAG again: the next build replaces the candidate.
- A published build turns out wrong: `tidegate marts undo --why …` swaps the one before back in.
- There is one task `read_models` and no models: dbt's manifest is missing; `tidegate up` writes it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from dags.wiring import verdicts
from dags.wiring.policy import policy
from dags.wiring.schedule import MARTS, asset_of, on_any
from dags.wiring.task import at_work

from tidegate.contracts.model import WHOLE
from tidegate.settings import get_settings
from tidegate.stack.manifest import path as manifest_path


def warehouse(manifest: Path) -> None:
    """Make the DAG from dbt's manifest: which models there are, which datasets they read."""
    read = json.loads(manifest.read_text(encoding="utf-8"))
    # A source that no model reads changes no mart; one that a live mart reads has changed it already.
    wanted = {
        name
        for node in read["nodes"].values()
        if node["resource_type"] == "model" and node["config"]["materialized"] != "live"
        for name in node["depends_on"]["nodes"]
    }
    sources = sorted({source["name"] for key, source in read["sources"].items() if key in wanted})

    @dag(
        dag_id="warehouse",
        description="Marts from everything that is published",
        schedule=on_any(*map(asset_of, sources)),
        doc_md=__doc__,
        tags=["warehouse", "dbt", "marts"],
        max_active_runs=1,
        **policy("analytics"),
    )
    def flow() -> None:
        build_id = prepare()
        judged = judge(build_id)
        build_id >> models(manifest) >> judged
        publish(judged)

    flow()


@task
def prepare() -> str:
    """Name the build and make room for it; skipped when it is the one that readers see."""
    from tidegate.publish import marts

    with at_work(dataset="marts") as settings:
        build_id = marts.prepare(settings)
        if marts.is_published(settings, build_id):
            raise AirflowSkipException(f"build {build_id} is published, and nothing has changed since")
    return build_id


def models(manifest: Path) -> Any:
    """Return the group of all models: one process builds them, each has a task that shows how it went."""
    from cosmos import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
    from cosmos.constants import ExecutionMode, InvocationMode, LoadMode, TestBehavior

    project = get_settings().project
    return DbtTaskGroup(
        group_id="dbt",
        project_config=ProjectConfig(
            dbt_project_path=project, manifest_path=manifest, project_name="tidegate", install_dbt_deps=False
        ),
        profile_config=ProfileConfig(
            profile_name="tidegate", target_name="warehouse", profiles_yml_filepath=project / "profiles.yml"
        ),
        execution_config=ExecutionConfig(
            execution_mode=ExecutionMode.WATCHER,
            invocation_mode=InvocationMode.DBT_RUNNER,
            # The process that builds the models runs each one's checks right after it: a refused model has no
            # descendants. Unit tests judge code, not data: the test suite runs them.
            setup_operator_args={"dbt_cmd_flags": ["--resource-type", "test"]},
        ),
        render_config=RenderConfig(
            load_method=LoadMode.DBT_MANIFEST,
            # No tasks of their own for checks: they would double the number of tasks and say nothing more.
            test_behavior=TestBehavior.NONE,
            exclude=["resource_type:exposure"],
            emit_datasets=False,
            group_nodes_by_folder=True,
            normalize_task_id=name_of,
            normalize_task_display_name=name_of,
        ),
        # A model's task waits without a worker; how often it looks decides how long the marts take.
        operator_args={"pre_execute": hand_over_warehouse, "poke_interval": 2},
    )


def name_of(node: Any) -> str:
    """Name a model's task like the model."""
    return str(node.name)


def hand_over_warehouse(_: Any) -> None:
    """Put the warehouse's address where profiles.yml looks for it: in this task's process, and nowhere else."""
    from tidegate import dbt

    with at_work(dataset="marts") as settings:
        address = dbt.environment(settings)
    os.environ.update({name: value for name, value in address.items() if name.startswith("PG")})
    # Where the models have not changed since `tidegate up` has read them, dbt need not read them again.
    os.environ["DBT_PARTIAL_PARSE_FILE_PATH"] = str(dbt.parsed(settings))


@task
def judge(build_id: str) -> str:
    """Reconcile the candidate's rows with what is published, and let every suite named after a mart judge it.

    XCom `verdicts` counts what the gates said and spells out what is not a PASS.
    """
    from tidegate.publish import marts

    with at_work(dataset="marts", batch_id=build_id) as settings:
        marts.judge(settings, build_id)
        verdicts.show(settings, build_id)
    return build_id


@task(outlets=[MARTS])
def publish(build_id: str) -> str:
    """Swap the candidate in, in one transaction; fails, with the gate's reason, when the build is held."""
    from tidegate.publish import marts

    with at_work(dataset="marts", batch_id=build_id) as settings:
        marts.publish(settings, build_id)
    event = get_current_context()["outlet_events"][MARTS]
    event.extra = {"build_id": build_id}
    # Also of a run that a person has started, which has no partition: who waits for the marts waits for this one.
    event.add_partitions(WHOLE)
    return build_id


def unreadable(manifest: Path) -> None:
    """Make a DAG that says that there is no manifest: the models cannot be known without it."""

    @dag(dag_id="warehouse", schedule=None, doc_md=__doc__, tags=["warehouse", "broken"], **policy("analytics"))
    def flow() -> None:
        read_models(str(manifest))

    flow()


@task
def read_models(manifest: str) -> None:
    """Fail: the models are not known."""
    from tidegate.errors import UsageError

    raise UsageError(f"there is no {manifest}: type `tidegate up`, which writes it from models/")


found = manifest_path(get_settings())
if found.is_file():
    warehouse(found)
else:
    unreadable(found)
