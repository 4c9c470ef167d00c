"""Airflow DAG `upkeep_database`: every five minutes, whether the database is in trouble or soon will be.

## Database
`check` looks at the replica's lag, how busy the pool and how full the disk is, how long queries of people and applications
take (running, or on average), how many connections are left, transactions that are left open, the archive of the WAL, and
slots that keep too much of it back. The limits are those of `strategies/database.md` (Alerting, RPO). What is new is told once, with what to do; `tidegate database check` shows all of it at any time. The run is skipped where the warehouse is a
server of your own.

### When it fails
- A *transient* trouble is tried again, four times, ever more patiently.
- `check` has failed: the warehouse does not answer; `tidegate status` shows it, `tidegate up` mends it.
- A trouble was told: the run has not failed, its `return_value` names each with value and limit. Its message says what
  to do first.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, dag, get_current_context, task
from dags.wiring import alert
from dags.wiring.policy import policy
from dags.wiring.task import at_work, embedded_only


@dag(
    dag_id="upkeep_database",
    description="Is the database in trouble, or soon?",
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    doc_md=__doc__,
    tags=["upkeep", "database"],
    max_active_runs=1,
    **policy("analytics", patience=timedelta(hours=1)),
)
def upkeep_database() -> None:
    """Look, judge, tell."""
    check()


@task
def check() -> dict[str, Any]:
    """Look at everything and tell what is new; returns a line for each trouble."""
    from tidegate.observe import alerts, database

    with at_work(dataset="all") as settings:
        embedded_only(settings)
        found = database.check(settings)
        if new := database.news(settings, found):
            alert.tell(alerts.database(new), get_current_context())
    return {
        "troubles": [
            f"{f.name}: {f.value} {f.unit}, limit {f.limit.value:g}, {f.limit.source}" for f in database.troubles(found)
        ]
    }


upkeep_database()
