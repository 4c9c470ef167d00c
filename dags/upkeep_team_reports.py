"""Airflow DAG `upkeep_team_reports`: hourly, a report of every delivery that goes on and has had none for six hours.

## Reports of long deliveries
A delivery reports after each of its waves. One that waits for a person, or is long at work, is told of every six hours:
slides, a PDF and a page in `.team/reports/`.

### When it fails
- `write` has failed: its log says which delivery; `team report` writes the same.
- It was skipped: no delivery goes on, or each has a report that is newer.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, task
from airflow.sdk.exceptions import AirflowSkipException
from dags.wiring.policy import policy
from dags.wiring.task import at_work

#: The team document's interval.
EVERY = timedelta(hours=6)


@dag(
    dag_id="upkeep_team_reports",
    description="Deliveries that go on are told of every six hours",
    schedule=CronTriggerTimetable("20 * * * *", timezone="UTC"),
    doc_md=__doc__,
    tags=["upkeep", "team"],
    max_active_runs=1,
    **policy("platform", patience=timedelta(hours=1)),
)
def upkeep_team_reports() -> None:
    """Look, write."""
    write()


@task
def write() -> list[str]:
    """Write the reports that are due; returns their files."""
    from tidegate.delivery import ledger, team
    from tidegate.delivery.report import press
    from tidegate.stores.postgres import connect

    with at_work(dataset="delivery") as settings:
        with connect(settings) as connection:
            going = [ledger.unfinished(connection, name) for name in team.names(settings.project)]
        late = [one.delivery_id for one in going if one and press.due(settings, one.delivery_id, EVERY)]
        if not late:
            raise AirflowSkipException("no delivery goes on without a report for so long")
        return [path for delivery_id in late for path in press.write(settings, delivery_id).files]


upkeep_team_reports()
