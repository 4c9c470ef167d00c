"""What tasks need imported, so that a process can be forked into tasks that have it already.

Importing Great Expectations alone takes 5 s; a fork inherits it for nothing. The platform's own modules are left
out on purpose: tasks import them afresh, so an edit takes effect at once.
"""

from __future__ import annotations

import importlib
import logging
import warnings

HEAVY = (
    "airflow.dag_processing.bundles.local",
    "airflow.providers.common.io.assets.file",
    "airflow.providers.postgres.assets.postgres",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.operators.empty",
    "airflow.providers.standard.operators.hitl",
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.definitions.connection",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.definitions.partition_mappers.fixed_key",
    "airflow.sdk.definitions.retry_policy",
    "airflow.sdk.definitions.timetables.trigger",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.sdk.io",
    "adbc_driver_postgresql.dbapi",
    "cosmos.airflow.task_group",
    "cosmos.operators.watcher",
    "croniter",
    "dbt.adapters.postgres",
    "dbt.cli.main",
    "dotenv",
    "duckdb",
    "great_expectations",
    "numpy",
    "pandas",
    "pgpq",
    "psycopg",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pydantic_settings",
    "upath.implementations.local",
)


def warm() -> None:
    """Import them; one that is not installed is said in the log, and tasks that need it will say more."""
    # What they warn of when they are imported is nothing that a task has done; what tasks do, tasks are warned of.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in HEAVY:
            try:
                importlib.import_module(module)
            except ImportError as missing:
                logging.getLogger(__name__).warning("tasks will import %s themselves: %s", module, missing)
    from airflow.sdk import plugins_manager

    # Read once and kept: a reading of a DAG that looks at a file asks for them.
    plugins_manager.get_hook_lineage_readers_plugins()
