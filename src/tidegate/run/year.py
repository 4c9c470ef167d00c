"""The order of a run: deliveries → datasets → transforms → marts, each step a DAG that Airflow runs.

What is due is decided from the ledger and the content of the inbox, so a second run finds nothing to do.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tidegate.contracts.lineage import INGEST, TRANSFORM
from tidegate.contracts.model import WHOLE, Partitioning
from tidegate.gates import ledger
from tidegate.publish import marts
from tidegate.run.airflow import ENDED, Airflow, DagRun
from tidegate.run.due import Due
from tidegate.run.progress import Progress
from tidegate.settings import Settings
from tidegate.stores.postgres import connect
from tidegate.transforms import catalog
from tidegate.transforms.derive import inputs_of, is_made

WAREHOUSE = "warehouse"
#: Follows the marts, in the background.
DOCS = "upkeep_docs"
#: Watch from now on, each on its own schedule.
WATCH = (
    "upkeep_freshness", "upkeep_database", "upkeep_backup", "upkeep_restore_drill", "upkeep_partitions", "upkeep_team_reports",
)  # fmt: skip
#: Partitions of one dataset at once; the DAG's own limit is not lower.
AT_ONCE = 2
_PULSE = 0.8


@dataclass(frozen=True)
class Trouble:
    """A run that failed: which one, at which task, and why."""

    dag_id: str
    partition: str | None
    task_id: str
    reason: str

    def __str__(self) -> str:
        run = self.dag_id if self.partition in (None, WHOLE) else f"{self.dag_id} {self.partition}"
        return f"{run}: task {self.task_id} failed: {self.reason}"


@dataclass
class Year:
    """One run of everything that is due; `troubles` collects what failed on the way."""

    settings: Settings
    airflow: Airflow
    progress: Progress
    troubles: list[Trouble] = field(default_factory=list)

    def ingest(self, waiting: Sequence[Due]) -> None:
        """Take all datasets in, each after those that its rows refer to; what fails stops no other."""
        left = {item.contract.dataset: item for item in waiting}
        watched: dict[str, _Watch] = {}
        while left or watched:
            for dataset, item in list(left.items()):
                if not item.refers_to & (left.keys() | watched.keys()):
                    watched[dataset] = self._start(item)
                    del left[dataset]
            self._look(watched)

    def transform(self) -> None:
        """Make the outputs of transforms that are not made of what is published now."""
        watched = {}
        for name in self._stale_transforms():
            watched[name] = self._trigger(TRANSFORM + name, name)
        while watched:
            self._look(watched)

    def build_marts(self) -> None:
        """Build, judge and publish the marts, if what they are made of has changed."""
        self.airflow.wake(WAREHOUSE)
        # Before there is an event: one that finds a DAG asleep does not wait for it.
        self.airflow.wake(DOCS)
        build_id = marts.prepare(self.settings)
        if marts.is_published(self.settings, build_id):
            return
        watched = {"marts": self._trigger(WAREHOUSE, "marts")}
        while watched:
            self._look(watched)

    def _start(self, item: Due) -> _Watch:
        dataset, partitioning = item.contract.dataset, item.contract.partitioning
        dag_id = INGEST + dataset
        self.airflow.wake(dag_id)
        before = self._known(dag_id)
        if partitioning is None or partitioning.grain is None:
            for partition in item.partitions:
                self.airflow.start(dag_id, conf={} if partition == WHOLE else {"partition": partition})
        elif _has_gaps(partitioning, item.partitions):
            # A backfill would ask for what was never delivered, too.
            for partition in item.partitions:
                self.airflow.start(dag_id, partition)
        else:
            first, last = (partitioning.start_of(p) for p in (item.partitions[0], item.partitions[-1]))
            self.airflow.backfill(dag_id, first.isoformat(), last.isoformat(), AT_ONCE)
        return _Watch(dag_id, dataset, len(item.partitions), before)

    def _trigger(self, dag_id: str, what: str) -> _Watch:
        before = self._known(dag_id)
        self.airflow.start(dag_id)
        return _Watch(dag_id, what, 1, before)

    def _known(self, dag_id: str) -> frozenset[str]:
        return frozenset(run.run_id for run in self.airflow.runs([dag_id]) if run.state in ENDED)

    def _look(self, watched: dict[str, _Watch]) -> None:
        """Look once how the watched DAGs go, and drop those that have come to rest."""
        time.sleep(_PULSE)
        runs = self.airflow.runs([watch.dag_id for watch in watched.values()])
        for name, watch in list(watched.items()):
            mine = [run for run in runs if run.dag_id == watch.dag_id and run.run_id not in watch.before]
            ended = [run for run in mine if run.state in ENDED]
            failed = [run for run in ended if run.state == "failed"]
            self.progress.count(watch.what, len(ended), max(watch.expected, len(mine)), len(failed))
            if mine and len(ended) == len(mine):
                self.troubles += [self._trouble(watch.what, run) for run in failed]
                del watched[name]

    def _trouble(self, dataset: str, run: DagRun) -> Trouble:
        task_id, reason = self.airflow.why(run)
        with connect(self.settings) as connection:
            held = [
                batch.held_reason
                for batch in ledger.batches(connection, dataset=dataset, state="held")
                if run.partition in (None, batch.partition)
            ]
        return Trouble(run.dag_id, run.partition, task_id, f"held: {held[-1]}" if held else reason)

    def _stale_transforms(self) -> Iterable[str]:
        for name in catalog.names(self.settings):
            self.airflow.wake(TRANSFORM + name)
            with connect(self.settings) as connection:
                inputs = inputs_of(self.settings, connection, name)
                if all(inputs.files.values()) and not is_made(connection, name, inputs.digest):
                    yield name


def _has_gaps(partitioning: Partitioning, partitions: Sequence[str]) -> bool:
    """Return whether some partition of the calendar is missing between the first and the last of `partitions`."""
    return any(partitioning.following(a) != b for a, b in pairwise(partitions))


@dataclass(frozen=True)
class _Watch:
    """A DAG that is waited for: how many runs it should make, and the runs that it had made before."""

    dag_id: str
    what: str
    expected: int
    before: frozenset[str]
