"""Airflow DAG `upkeep_partitions`: partitions are made before they are needed, and kept as Parquet alone when their time is over.

## Retention
Every day, for each dataset that is delivered by year, month or day: a partition goes when its contract's `retention` is
over, counted from the end of its interval, or from the day on which it was first published, where that was later. Its
landed file is read back and held against the published rows, every one of them; only then the table is taken away, in
one transaction. A stream's partition is written to such a file first; a message that comes for it afterwards is refused. The rows are no longer in `raw`, and what is derived from them is made anew without them.

`tidegate partition list` shows until when each is kept, `tidegate partition archive --dry-run --on 2031-01-01` what would
go on a day. `tidegate partition restore flights 2013-03 --why …` brings one back, for 30 days at least.

## Ahead
Every day, for each dataset whose rows come one by one (a topic's): the empty partitions of the present interval and of the
two after it are made where they are missing, so that whoever writes changes no schema on its way. It makes one that nobody
foresaw itself. `tidegate partition list` shows them as `ahead` until their first row, `tidegate partition ahead` makes them now.

## Folding
Every day the micro-batches of each day that ended more than 30 days ago are folded into one row of the ledger, stream by
stream: its counts are their sums, its offsets theirs from the first to the last, and what each of them was is kept as
Parquet in the landing area, under `_ledger`. `tidegate stream fold` does the same.

### When it fails
- `fold_streams` failed: nothing is lost, the ledger only stays longer; its log says which server is away.
- `ahead_<dataset>` failed: nothing is lost, and nobody waits for it; its log says what holds the table, or what the contract
  asks for that cannot be had.
- A *transient* trouble (somebody reads the table for long, a server away) is tried again, four times, ever more
  patiently; where other partitions of the dataset could go, tomorrow.
- `archive_<dataset>` failed with *is not archived*: the landed file does not hold the rows that are published, and they
  stay. Its log names the file and both counts; `tidegate batch show BATCH` has the evidence. Find out who changed what.
- It says that a file *cannot be read back*: bring it back from a copy of the landing area. Nothing was changed.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import CronTriggerTimetable, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from dags.wiring.policy import policy
from dags.wiring.schedule import asset_of
from dags.wiring.task import at_work

from tidegate.contracts import Contract, load, load_all
from tidegate.settings import get_settings


@dag(
    dag_id="upkeep_partitions",
    description="Partitions stand before they are needed, and go when they have outlived their retention",
    schedule=CronTriggerTimetable("30 2 * * *", timezone="UTC"),
    doc_md=__doc__,
    tags=["upkeep", "retention"],
    max_active_runs=1,
    **policy("analytics"),
)
def upkeep_partitions() -> None:
    """One task a dataset: they wait for different readers."""
    for contract in load_all(get_settings()):
        if contract.made_ahead:
            ahead(contract)
        if contract.partitioning is not None and contract.partitioning.grain is not None:
            archive(contract)
    fold_streams()


@task
def fold_streams() -> dict[str, int]:
    """Fold old micro-batches in the ledger; returns how many, into how many days."""
    from dataclasses import asdict

    from tidegate.stream.fold import fold

    with at_work(dataset="all") as settings:
        return asdict(fold(settings, datetime.now(UTC)))


def ahead(contract: Contract) -> None:
    """Add the task that makes a dataset's next partitions."""

    @task(task_id=f"ahead_{contract.dataset}")
    def make_ahead(dataset: str) -> list[str]:
        """Make the partitions of the present interval and of the next ones; returns those that were missing."""
        from tidegate.publish import ahead

        with at_work(dataset=dataset) as settings:
            return ahead.make_ahead(settings, load(settings, dataset), datetime.now(UTC))

    make_ahead(contract.dataset)


def archive(contract: Contract) -> None:
    """Add the task that archives a dataset's partitions; whoever reads the dataset is told that it has changed."""
    asset = asset_of(contract.dataset)

    @task(task_id=f"archive_{contract.dataset}", outlets=[asset])
    def archive_outlived(dataset: str) -> list[str]:
        """Archive what has outlived its retention; returns the partitions, and is skipped where there are none."""
        from tidegate.publish import partitions

        with at_work(dataset=dataset) as settings:
            outcomes = partitions.archive_outlived(settings, load(settings, dataset), datetime.now(UTC))
            archived = [outcome.partition for outcome in outcomes if outcome.trouble is None]
            if not archived:
                partitions.require_no_trouble(outcomes)
                raise AirflowSkipException(f"no partition of {dataset} has outlived its retention")
        event = get_current_context()["outlet_events"][asset]
        event.extra = {"archived": archived}
        event.add_partitions(*archived)
        return archived

    archive_outlived(contract.dataset)


upkeep_partitions()
