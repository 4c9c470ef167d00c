"""The steps of one batch as Airflow tasks: stage → judge → publish, after the task that has landed it.

Tasks hand on the batch's id and nothing else; rows stay where the library keeps them. A batch that the gate
holds ends the run at publish: its asset is not updated, and its readers work on with the last good batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.sdk import get_current_context, task, task_group
from dags.wiring import verdicts
from dags.wiring.schedule import asset_of
from dags.wiring.task import at_work

from tidegate.contracts import Contract, load
from tidegate.settings import Settings, get_settings

Step = Callable[[Settings, Contract, str], Any]


def wave(dataset: str, landed: Any) -> Any:
    """Add the tasks that take the batch whose id `landed` will give to its published table."""

    @task
    def stage(batch_id: str) -> str:
        """Copy the landed rows into a table of their own in PostgreSQL, typed by the contract."""
        from tidegate.ingest.stage import stage

        return take(stage, dataset, batch_id)

    @task
    def judge(batch_id: str) -> str:
        """Let the gate decide. XCom `verdicts` counts them and spells out what is not a PASS."""
        from tidegate.gates.judge import judge

        done = take(judge, dataset, batch_id)
        verdicts.show(get_settings(), batch_id)
        return done

    @task(outlets=[asset_of(dataset)])
    def publish(batch_id: str) -> str:
        """Make the batch visible in one transaction; fails, with the gate's reason, when it is held."""
        from tidegate.publish.batches import publish

        done = take(publish, dataset, batch_id)
        announce(dataset, batch_id)
        return done

    @task_group(tooltip="One delivery on its way to its published table")
    def batch(batch_id: Any) -> Any:
        return publish(judge(stage(batch_id)))

    return batch(landed)


def take(step: Step, dataset: str, batch_id: str) -> str:
    """Take one step with the batch, with its name in every line of the log."""
    with at_work(dataset=dataset, batch_id=batch_id) as settings:
        step(settings, load(settings, dataset), batch_id)
    return batch_id


def announce(dataset: str, batch_id: str) -> None:
    """Tell whoever is scheduled on the dataset which partition changed, and by which batch."""
    from tidegate.gates import ledger
    from tidegate.stores.postgres import connect

    with connect(get_settings()) as connection:
        batch = ledger.get_batch(connection, batch_id)
    event = get_current_context()["outlet_events"][asset_of(dataset)]
    event.extra = {"batch_id": batch_id, "rows": batch.accepted_count, "refused": batch.refused_count}
    event.add_partitions(batch.partition)
