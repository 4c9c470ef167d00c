"""Airflow DAG `upkeep_backup`: a backup of the warehouse every night, known to be whole before an older one goes.

## Backups
Every night `take` copies the warehouse while it works: all of it once a week, and what has changed since in between
(with pgBackRest; without it all of it each night). `verify` reads the copy again, file by file, and
looks whether a segment of WAL is missing between it and now; `prune` then lets go of what is older than the last
`TIDEGATE_BACKUPS_KEPT` verified backups, and of the WAL that only those needed. Between two backups the server hands
its WAL over by itself, after half a minute at the latest. `tidegate backup list` shows them all, and so does
`ops.backup`. Nothing is done, and the run is skipped, where the warehouse is a server of your own.

### When it fails
- A *transient* trouble (the disk is full, another backup is being taken) is tried again, four times, ever more
  patiently. Nothing is left of a backup that did not end.
- `verify` failed: its log says which file is damaged, or which segment of WAL is missing. The backup counts as
  unverified and replaces none; look after the disk, and trigger this DAG for a new one.
- `verify` says *cannot archive its WAL*: `tidegate logs postgres` has the reason (`wal_keep` speaks there). Mend it
  soon: PostgreSQL keeps what waits, until its disk is full.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, task
from dags.wiring.policy import policy
from dags.wiring.task import at_work, embedded_only


@dag(
    dag_id="upkeep_backup",
    description="A backup every night, verified before an older one goes",
    schedule=CronTriggerTimetable("30 1 * * *", timezone="UTC", run_immediately=timedelta(0)),
    doc_md=__doc__,
    tags=["upkeep", "backup"],
    max_active_runs=1,
    **policy("analytics", patience=timedelta(hours=6)),
)
def upkeep_backup() -> None:
    """Take, verify, prune."""
    prune(verify(take()))


@task
def take() -> str:
    """Take a backup; returns its id."""
    from tidegate.backup import take

    with at_work(dataset="all") as settings:
        embedded_only(settings)
        return take.take(settings).backup_id


@task
def verify(backup_id: str) -> str:
    """Read all of it again, and look for gaps in the WAL since; returns its id."""
    from tidegate.backup import shelf, take

    with at_work(dataset="all") as settings:
        return take.verify(settings, shelf.find(settings, backup_id)).backup_id


@task
def prune(backup_id: str) -> list[str]:
    """Let go of what newer verified backups make superfluous; returns the ids of those that went."""
    from tidegate.backup import retention

    with at_work(dataset="all") as settings:
        return [gone.backup_id for gone in retention.prune(settings) if gone.backup_id != backup_id]


upkeep_backup()
