"""A LocalExecutor whose workers have imported what tasks need before they are forked."""

from __future__ import annotations

from airflow.executors.local_executor import LocalExecutor

from tidegate.stack.warm import warm


class WarmLocalExecutor(LocalExecutor):  # type: ignore[misc]  # Airflow is not typed for mypy --strict
    """LocalExecutor that warms up first, where the process that it starts in has not been forked from a warm one."""

    def start(self) -> None:
        """Import, then fork the workers (LocalExecutor freezes the collector's heap around the fork)."""
        warm()
        super().start()
