"""Airflow DAG `upkeep_docs`: the sites to read beside the report, as new as the marts.

## Docs
Runs after the marts were published, when nobody waits any more: `data_docs` shows Great Expectations' results,
rule by rule, of what counts now; `dbt_docs` the models, their columns and their lineage; then `report` writes
`.tidegate/report/index.html` anew, which links to both. `tidegate docs` does the same at the command line.

### When it fails
- A *transient* trouble (a server away) is tried again, four times, ever more patiently.
- `data_docs` logs *evidence is left out*: a file under `.tidegate/evidence` is gone, or is no longer what the ledger
  has the hash of. The verdict still stands in the ledger; find out who changed the file.
- `dbt_docs` failed: its log shows dbt's words. `dbt docs generate` says the same at the command line.
- Readers see the site before until the next one is whole. Any task can be cleared and run again at any time.
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import dag, task
from dags.wiring.policy import policy
from dags.wiring.schedule import MARTS, on_any
from dags.wiring.task import at_work

#: How far this work steps back behind that of people and of other DAGs, as `nice` counts.
MANNERS = 10


@dag(
    dag_id="upkeep_docs",
    description="Data Docs, dbt docs and the report, after the marts",
    schedule=on_any(MARTS),
    doc_md=__doc__,
    tags=["upkeep", "docs"],
    max_active_runs=1,
    **policy("analytics", patience=timedelta(hours=1)),
)
def upkeep_docs() -> None:
    """Build both sites, then the page that links to them."""
    [data_docs(), dbt_docs()] >> report()


@task
def data_docs() -> str:
    """Build Great Expectations' Data Docs from the evidence; returns where they stand, and how much they show."""
    from tidegate.observe import data_docs, logs

    os.nice(MANNERS)
    with at_work(dataset="all") as settings:
        site = data_docs.build(settings)
        for path in site.left_out:
            logs.get(__name__).warning("evidence is left out: gone, or not what the ledger has the hash of", path=path)
    return f"{site.index}: {site.validations} validations"


@task
def dbt_docs() -> str:
    """Build dbt's documentation of the published models; returns where it stands."""
    from tidegate.observe import dbt_docs

    os.nice(MANNERS)
    with at_work(dataset="marts") as settings:
        return str(dbt_docs.build(settings))


@task
def report() -> str:
    """Write the report anew, now that there is something to link to; returns where it stands."""
    from tidegate.observe import report

    os.nice(MANNERS)
    with at_work(dataset="all") as settings:
        return str(report.build(settings))


upkeep_docs()
