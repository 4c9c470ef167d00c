"""Airflow DAGs `ingest_<dataset>`, one for each contract of a dataset that is delivered.

A new contract in `schemas/` is a new DAG; nothing is added here. Each one's manual is made from its contract.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, get_current_context, get_parsing_context, task
from dags.wiring import manual, schedule
from dags.wiring.batch import wave
from dags.wiring.policy import policy
from dags.wiring.task import at_work

from tidegate.contracts import Contract, load
from tidegate.contracts.lineage import INGEST
from tidegate.contracts.read import SUFFIX, files
from tidegate.errors import ContractError
from tidegate.settings import get_settings

#: Partitions of one dataset that are taken in at once; each has one task running, and a laptop has two cores.
AT_ONCE = 2


def ingest(contract: Contract) -> None:
    """Make the DAG that takes the contract's dataset in."""
    params = {"file": Param(None, type=["null", "string"], description="Take this file in instead of the source's.")}
    if contract.partitioning:
        params["partition"] = Param(None, type=["null", "string"], description="The run's partition key when empty.")

    @dag(
        dag_id=INGEST + contract.dataset,
        description=contract.title,
        schedule=schedule.by_contract(contract),
        end_date=schedule.end_of(contract),
        doc_md=manual.of_ingest(contract),
        tags=["ingest", contract.schema],
        params=params,
        max_active_runs=AT_ONCE if contract.partitioning else 1,
        **policy(contract.owner, patience=contract.freshness),
    )
    def flow() -> None:
        wave(contract.dataset, land.override(task_id="land")(contract.dataset))

    flow()


@task
def land(dataset: str) -> str:
    """Fetch the delivery, check every row by the contract, keep it as Parquet; refused rows go to quarantine."""
    from tidegate.ingest.land import land

    context = get_current_context()
    params: dict[str, Any] = dict(context["params"])
    partition = params.get("partition") or context["dag_run"].partition_key
    file = Path(params["file"]) if params["file"] else None
    with at_work(dataset=dataset) as settings:
        return land(settings, load(settings, dataset), partition, file).batch_id


def broken(dataset: str, error: ContractError) -> None:
    """Make a DAG that says what is wrong with a contract: an import error would stop all other datasets."""

    @dag(
        dag_id=INGEST + dataset,
        doc_md=f"## Broken contract\n{error}",
        tags=["ingest", "broken"],
        **policy(""),
    )
    def flow() -> None:
        read_contract(dataset)

    flow()


@task
def read_contract(dataset: str) -> None:
    """Read the contract, and fail with the sentence that says what is wrong with it."""
    load(get_settings(), dataset)


# Before a task, only the DAG that it belongs to is wanted.
wanted = get_parsing_context().dag_id
for path in files(get_settings()):
    name = path.name.removesuffix(SUFFIX)
    if wanted in (None, INGEST + name):
        try:
            found = load(get_settings(), name)
        except ContractError as error:
            broken(name, error)
        else:
            if found.schema == "raw" and found.topic is None:
                ingest(found)
