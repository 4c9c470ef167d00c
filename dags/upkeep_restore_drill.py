"""Airflow DAG `upkeep_restore_drill`: whether the warehouse could be brought back, how fast, and with what loss.

## Restore drill
Every week the newest backup is restored, with the WAL after it, into a server of its own beside the warehouse. Every
table of raw, core, the marts and the ledger is compared with its source as of one moment, rows and checksums. How
long it took (RTO) and how much would have been lost (RPO) are measured, and held against `strategies/database.md`. The
verdicts stand in the ledger, with a file of evidence under `.tidegate/evidence/restore_drill`; the server is removed.
The drill waits up to half a minute for the WAL, and stops writers for an instant only. It is skipped where the
warehouse is a server of your own.

### When it fails
- A *transient* trouble (a batch is being written at that moment, the disk is full) is tried again, four times, ever
  more patiently.
- `drill` says *there is no backup yet*: trigger `upkeep_backup`.
- `drill` failed at a verdict: its message has the measured value and the target; tables that differ are named in the
  evidence. Take a new backup, and do not remove an older one before a drill has passed.
- A recovery failed: the log of its server is under `.tidegate/restored`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, dag, task
from dags.wiring.policy import policy
from dags.wiring.task import at_work, embedded_only


@dag(
    dag_id="upkeep_restore_drill",
    description="Could the warehouse be brought back, how fast, with what loss?",
    schedule=CronTriggerTimetable("30 3 * * 0", timezone="UTC", run_immediately=timedelta(0)),
    doc_md=__doc__,
    tags=["upkeep", "backup"],
    max_active_runs=1,
    **policy("analytics", patience=timedelta(hours=6)),
)
def upkeep_restore_drill() -> None:
    """Restore, compare, measure, clear away."""
    drill()


@task
def drill() -> dict[str, Any]:
    """Restore the newest backup and judge; returns the figures, and fails when a target is missed."""
    from tidegate.backup import drill

    with at_work(dataset="all") as settings:
        embedded_only(settings)
        found = drill.drill(settings)
        drill.insist(found)
        return found.evidence.figures


upkeep_restore_drill()
