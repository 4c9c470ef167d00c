"""Airflow DAGs `transform_<output>`, one for each Spark transform that has a contract for what it makes.

A new module in `transforms/` with its contract in `schemas/` is a new DAG; nothing is added here.
"""

from __future__ import annotations

from airflow.sdk import dag, get_parsing_context, task
from airflow.sdk.exceptions import AirflowSkipException
from dags.wiring import manual, schedule
from dags.wiring.batch import wave
from dags.wiring.policy import policy
from dags.wiring.task import at_work

from tidegate.contracts import load
from tidegate.contracts.lineage import TRANSFORM
from tidegate.settings import get_settings
from tidegate.transforms import catalog


def transform(name: str) -> None:
    """Make the DAG that keeps the output of one transform up to date."""
    contract, found = load(get_settings(), name), catalog.load(get_settings(), name)

    @dag(
        dag_id=TRANSFORM + name,
        description=contract.title,
        schedule=schedule.on_any(*map(schedule.asset_of, found.inputs)),
        doc_md=manual.of_transform(contract, found.inputs, found.doc),
        tags=["transform", contract.schema, "spark"],
        # The second run of two finds everything made and ends at once.
        max_active_runs=1,
        **policy(contract.owner, patience=contract.freshness),
    )
    def flow() -> None:
        wave(name, derive.override(task_id="transform")(name))

    flow()


@task
def derive(name: str) -> str:
    """Compute the output on Spark and land it; skipped when it is made of the same batches already."""
    from tidegate.transforms.derive import derive

    with at_work(dataset=name) as settings:
        batch = derive(settings, name)
    if batch is None:
        raise AirflowSkipException(f"{name} is made of the batches that are published now")
    return batch.batch_id


# Before a task, only the DAG that it belongs to is wanted.
wanted = get_parsing_context().dag_id
for output in catalog.names(get_settings()):
    if wanted in (None, TRANSFORM + output):
        transform(output)
