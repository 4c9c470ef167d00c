"""Two chains of ten tasks that measure what Airflow itself costs: tasks that do nothing, tasks that use GX.

Started by `run.py` beside it, never by the platform: this folder is no part of `dags/`.
"""

from __future__ import annotations

from collections.abc import Callable

from airflow.sdk import chain, dag, task

LENGTH = 10


def nothing() -> None:
    """Do nothing: what is measured is scheduling, forking, reporting."""


def judge() -> bool:
    """Judge three rows by one expectation, as a gate would do."""
    import great_expectations as gx
    import pandas as pd

    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(
        {"dataframe": pd.DataFrame({"value": [1, 2, 3]})}
    )
    return bool(batch.validate(gx.expectations.ExpectColumnValuesToNotBeNull(column="value")).success)


def build(name: str, work: Callable[[], object]) -> None:
    """Declare one chain."""

    @dag(dag_id=name, schedule=None, tags=["benchmark"], is_paused_upon_creation=False)
    def built() -> None:
        chain(*[task(task_id=f"step_{number:02}")(work)() for number in range(1, LENGTH + 1)])

    built()


build("chain_of_nothing", nothing)
build("chain_of_great_expectations", judge)
