"""The steps of one batch as Airflow tasks: stage → judge → publish, after a task that has landed it.

Tasks hand each other the batch's id and nothing else; the rows stay where the library keeps them.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, task, task_group


def wave(dataset: str, asset: Asset, landed: Any) -> Any:
    """Add the group that takes the batch `landed` (a task's result) to its published table."""

    @task
    def stage(batch_id: str) -> str:
        """Copy the landed batch into a table of its own, typed by its contract."""
        from tidegate.contracts import load
        from tidegate.ingest.stage import stage as step
        from tidegate.settings import get_settings

        settings = get_settings()
        return step(settings, load(settings, dataset), batch_id).batch_id

    @task
    def judge(batch_id: str) -> str:
        """Let the gate decide: the batch is judged fit, or held."""
        from tidegate.contracts import load
        from tidegate.gates.judge import judge as step
        from tidegate.settings import get_settings

        settings = get_settings()
        return step(settings, load(settings, dataset), batch_id).batch_id

    @task(outlets=[asset])
    def publish(batch_id: str) -> str:
        """Make the batch visible in one transaction; a held batch ends the run here, and the asset stays as it was."""
        from tidegate.contracts import load
        from tidegate.publish.batches import publish as step
        from tidegate.settings import get_settings

        settings = get_settings()
        return step(settings, load(settings, dataset), batch_id).batch_id

    @task_group
    def batch(batch_id: Any) -> Any:
        return publish(judge(stage(batch_id)))

    return batch(landed)
