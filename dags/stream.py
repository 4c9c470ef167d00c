"""Airflow DAGs `stream_<topic>`, one for each contract of a dataset whose messages come by a Kafka topic.

A new contract in `schemas/` with a server of type kafka is a new DAG; nothing is added here.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, AssetWatcher, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from dags.wiring import manual, verdicts
from dags.wiring.messages import MessagesWait
from dags.wiring.policy import policy
from dags.wiring.schedule import asset_of
from dags.wiring.task import at_work

from tidegate.contracts import Contract, load
from tidegate.contracts.lineage import STREAM
from tidegate.contracts.read import SUFFIX, files
from tidegate.errors import ContractError
from tidegate.settings import get_settings


def stream(contract: Contract) -> None:
    """Make the DAG that takes the contract's topic in."""
    dataset = contract.dataset
    assert contract.topic is not None
    waiting = Asset(
        name=f"messages of {dataset}",
        uri=f"tidegate://topic/{contract.topic.name}",
        group="topic",
        watchers=[AssetWatcher(name=f"messages of {dataset} wait", trigger=MessagesWait(dataset))],
    )

    @dag(
        dag_id=STREAM + dataset,
        description=contract.title,
        schedule=[waiting],
        doc_md=manual.of_stream(contract),
        tags=["stream", contract.schema],
        max_active_runs=1,
        **policy(contract.owner, patience=contract.freshness),
    )
    def flow() -> None:
        batch_id = drain(dataset)
        judged = judge(dataset, batch_id)
        published = asset_of(dataset)
        checked = reconcile.override(inlets=[published])(dataset, batch_id)
        done = publish.override(outlets=[published], inlets=[published])(dataset, batch_id)
        [judged, checked] >> done

    flow()


@task
def drain(dataset: str) -> str:
    """Take in what the topic holds now, micro-batch by micro-batch; each is published by the transaction that writes it."""
    from tidegate.stream import ledger, worker

    with at_work(dataset=dataset) as settings:
        worker.drain(settings, dataset)
        batch_id = ledger.newest_batch(settings, dataset)
    if batch_id is None:
        raise AirflowSkipException(f"nothing was ever taken from the topic of {dataset}")
    return batch_id


@task
def judge(dataset: str, batch_id: str) -> None:
    """Let Great Expectations judge the newest rows; what fails holds the stream. XCom `verdicts` tells what was said."""
    from tidegate.stream.judge import judge

    with at_work(dataset=dataset, batch_id=batch_id) as settings:
        try:
            judge(settings, load(settings, dataset), batch_id)
        finally:
            verdicts.show(settings, batch_id)


@task
def reconcile(dataset: str, batch_id: str) -> dict[str, int]:
    """Hold ledger, rows, topic, the broker's hint and asset events against each other; hint and events are repaired, anything else fails."""
    from dataclasses import asdict

    from tidegate.stream.reconcile import reconcile

    told = _told(dataset)
    with at_work(dataset=dataset, batch_id=batch_id) as settings:
        return asdict(reconcile(settings, load(settings, dataset), told.get("seen")))


@task
def publish(dataset: str, batch_id: str) -> str:
    """Tell whoever is scheduled on the dataset what has changed since they were told last; skipped if nothing has.

    What a killed run has written and not told of is told here: the ledger is asked, not the run.
    """
    from tidegate.stream import ledger

    told = _told(dataset)
    with at_work(dataset=dataset, batch_id=batch_id) as settings:
        news = ledger.since(settings, load(settings, dataset), told.get("seen"))
    if not news.rows:
        raise AirflowSkipException(f"no row was added since micro-batch {told.get('batch_id')}")
    event = get_current_context()["outlet_events"][asset_of(dataset)]
    event.extra = {"batch_id": news.batch_id, "rows": news.rows, "refused": news.refused, "seen": news.seen}
    event.add_partitions(*news.partitions)
    return news.batch_id


def _told(dataset: str) -> dict[str, Any]:
    """Return what the asset's newest event says."""
    events: Any = get_current_context()["inlet_events"][asset_of(dataset)]
    return dict(events[-1].extra) if len(events) else {}


for path in files(get_settings()):
    name = path.name.removesuffix(SUFFIX)
    try:
        found = load(get_settings(), name)
    except ContractError:
        continue  # its ingest DAG says what is wrong with it
    if found.topic is not None:
        stream(found)
