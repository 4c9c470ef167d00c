"""Airflow DAG `upkeep_freshness`: whether what readers see is as new as the contracts promise.

## Freshness
Every hour dbt compares when each dataset was last published with what its contract promises (`latency` after
each `frequency`). The verdicts stand in the ledger beside those of the other gates, and in the report.

A run that is under way has a deadline of its own; this DAG notices the delivery that never came. It tells of a
dataset once when it turns stale, not every hour; what is published stays as it is.

### When it fails
- A *transient* trouble (a server away) is tried again, four times, ever more patiently.
- `judge` failed: its log shows dbt's words. `dbt source freshness` says the same at the command line.
- A dataset is **stale**: XCom `return_value` of `judge` names it. Ask its owner (the contract names one) for
  the delivery, put it where the source looks, and trigger `ingest_<dataset>`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, dag, get_current_context, task
from dags.wiring import alert
from dags.wiring.policy import policy
from dags.wiring.task import at_work


@dag(
    dag_id="upkeep_freshness",
    description="Is what readers see as new as promised?",
    schedule=CronTriggerTimetable("@hourly", timezone="UTC"),
    doc_md=__doc__,
    tags=["upkeep", "freshness"],
    max_active_runs=1,
    **policy("analytics", patience=timedelta(hours=1)),
)
def upkeep_freshness() -> None:
    """Judge, record, tell."""
    judge()


@task
def judge() -> dict[str, Any]:
    """Judge every dataset's freshness; returns how many are fresh, and a line for each that is not."""
    from tidegate.observe import alerts, freshness

    with at_work(dataset="all") as settings:
        judged = freshness.judge(settings)
        stale = [found for found in judged if found.is_stale]
        if news := {found.dataset: found.verdict for found in stale if found.is_news}:
            alert.tell(alerts.stale(news), get_current_context())
    return {
        "fresh": len(judged) - len(stale),
        "stale": [f"{found.dataset}: {found.verdict.value}, expected {found.verdict.target}" for found in stale],
    }


upkeep_freshness()
