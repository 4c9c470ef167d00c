"""A LocalExecutor whose workers have imported what tasks need before they are forked.

Importing Great Expectations alone takes 6 s in a process of its own; a forked task inherits it for nothing.
The platform's own modules are left out on purpose: tasks import them afresh, so an edit takes effect at once.
"""

from __future__ import annotations

import importlib
import warnings

from airflow.executors.local_executor import LocalExecutor

HEAVY = (
    "airflow.sdk.execution_time.task_runner",
    "airflow.sdk.execution_time.supervisor",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.operators.hitl",
    "airflow.dag_processing.bundles.local",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.definitions.connection",
    "airflow.sdk.definitions.asset.metadata",
    "numpy",
    "pandas",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "psycopg",
    "duckdb",
    "adbc_driver_postgresql.dbapi",
    "great_expectations",
    "dbt.cli.main",
    "dbt.adapters.postgres",
    "cosmos",
)


class WarmLocalExecutor(LocalExecutor):  # type: ignore[misc]  # Airflow is not typed for mypy --strict
    """LocalExecutor that imports HEAVY first; one that is not installed is said in the log and left out."""

    def start(self) -> None:
        """Import, then fork the workers (LocalExecutor freezes the collector's heap around the fork)."""
        for module in HEAVY:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    importlib.import_module(module)
            except ImportError as missing:
                self.log.warning("tasks will import %s themselves: %s", module, missing)
        super().start()
