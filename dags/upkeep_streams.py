"""Airflow DAG `upkeep_streams`: whether any message waits for longer than its contract allows.

## Freshness of streams
Every five minutes the oldest message of each topic that nobody has taken in yet is held against its contract's `latency`. The
verdicts stand in the ledger and in the report; whoever is told of failures is told once when a stream turns stale.

It notices what a stream's own DAG cannot: that it is paused, that no worker runs, that the stream is held.

### When it fails
- A *transient* trouble (a server away) is tried again, four times, ever more patiently.
- A stream is **stale**: XCom `return_value` of `judge` names it. `tidegate stream status` says whether it is held, and how much
  waits; `tidegate stream run` takes it in by hand.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, dag, get_current_context, task
from dags.wiring import alert
from dags.wiring.policy import policy
from dags.wiring.task import at_work


@dag(
    dag_id="upkeep_streams",
    description="Does any message wait for too long?",
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    doc_md=__doc__,
    tags=["upkeep", "freshness", "stream"],
    max_active_runs=1,
    **policy("analytics", patience=timedelta(minutes=5)),
)
def upkeep_streams() -> None:
    """Judge, record, tell."""
    judge()


@task
def judge() -> dict[str, Any]:
    """Judge every stream that has begun; returns how many are fresh, and a line for each that is not."""
    from tidegate.observe import alerts, freshness

    with at_work(dataset="all") as settings:
        judged = freshness.judge_streams(settings)
        stale = [found for found in judged if found.is_stale]
        if news := {found.dataset: found.verdict for found in stale if found.is_news}:
            alert.tell(alerts.waiting(news), get_current_context())
    return {"fresh": len(judged) - len(stale), "stale": [f"{found.dataset}: {found.verdict.told}" for found in stale]}


upkeep_streams()
