"""Import every DAG file as the DAG processor would; fail on an error, on no DAG at all, on a heavy import.

It needs no server. Policy (owners, retries, documentation) is held by tests/dags.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What costs every process that reads the file a second or more, or belongs inside a task anyway.
HEAVY = {
    "adbc_driver_postgresql", "altair", "duckdb", "great_expectations", "pandas", "psycopg", "pyarrow", "pysail",
    "pyspark", "dbt.cli.main", "dbt.adapters.postgres", "tidegate.gates", "tidegate.ingest", "tidegate.publish", "tidegate.stores.postgres", "transforms",
}  # fmt: skip


def main() -> int:
    """Return the exit status, having said what is wrong."""
    from airflow.dag_processing.dagbag import DagBag

    before = HEAVY & set(sys.modules)
    bag = DagBag(str(ROOT / "dags"), bundle_path=ROOT / "dags", bundle_name="lint")
    complaints = [f"{file}: {error.strip()}" for file, error in bag.import_errors.items()]
    if not bag.dags and not complaints:
        complaints.append("dags/ defines no DAG: expected at least one. Does each say `airflow` and `dag`?")
    heavy = (HEAVY & set(sys.modules)) - before
    if heavy:
        complaints.append(f"importing dags/ imports {', '.join(sorted(heavy))}: move it inside the task.")
    print("\n".join(complaints) or f"{len(bag.dags)} DAGs in {len(bag.dagbag_stats)} files")
    return bool(complaints)


def _environment(home: str) -> dict[str, str]:
    os.environ["TIDEGATE_HOME"] = home
    from tidegate.settings import load_settings
    from tidegate.stack.airflow_environment import airflow_environment

    return airflow_environment(load_settings()) | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(_environment(home))
        sys.path.insert(0, str(ROOT))
        sys.exit(main())
