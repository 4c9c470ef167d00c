"""A LocalExecutor whose workers have imported what tasks need before they are forked."""

from __future__ import annotations

from collections import Counter
from typing import Any

from airflow.executors.local_executor import LocalExecutor

from tidegate.stack.warm import warm

_ENDED = ("success", "failed")


class WarmLocalExecutor(LocalExecutor):  # type: ignore[misc]  # Airflow is not typed for mypy --strict
    """LocalExecutor that warms up first, where the process that it starts in has not been forked from a warm one."""

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self._at_work: Counter[Any] = Counter()

    def start(self) -> None:
        """Import, then fork the workers (LocalExecutor freezes the collector's heap around the fork)."""
        warm()
        super().start()

    def _process_workloads(self, workload_list: Any) -> None:
        self._at_work.update(workload.key for workload in workload_list)
        super()._process_workloads(workload_list)

    def change_state(self, key: Any, state: Any, info: Any = None, remove_running: bool = True) -> None:
        """Take in how a workload has ended; of one that is here a second time by now, only its last end counts.

        A task that waits for an answer leaves its worker. Where the answer comes before that is read here, the task is queued
        again under the same key, and the scheduler would take the end of its waiting for its own, and fail it.
        """
        if state in _ENDED:
            self._at_work[key] -= 1
            if self._at_work[key] > 0:
                return
            del self._at_work[key]
        super().change_state(key, state, info, remove_running)
