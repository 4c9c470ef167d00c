"""Whether Airflow can read every DAG: imports without an error, in how many seconds, and no task that waits for itself."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tidegate.evidence.probe import CannotRunError, Finding, Ground, run
from tidegate.stack.airflow_environment import airflow_environment

#: Read in a process of its own, as Airflow's processor does: no server, and no configuration but ours.
_READ = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
folder = sys.argv[1]
bag = DagBag(folder, bundle_path=folder, bundle_name="probe")
print("FOUND", json.dumps({
    "files": {stat.file.lstrip("/"): [stat.duration.total_seconds(), stat.dag_num, stat.task_num] for stat in bag.dagbag_stats},
    "errors": {file: error.strip() for file, error in bag.import_errors.items()},
    "dags": sorted(bag.dags),
}))
"""


def validation(ground: Ground) -> Iterator[Finding]:
    """Import every DAG file as Airflow does; count what it cannot import, and tasks that wait for themselves."""
    project = ground.settings.project
    if not any((project / "dags").glob("*.py")):
        raise CannotRunError("there is no DAG file in dags/: a checkout of this project has some")
    with tempfile.TemporaryDirectory() as home:
        settings = ground.settings.model_copy(update={"home": Path(home), "airflow_database_url": None})
        environment = {**airflow_environment(settings), "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
        ran = run([sys.executable, "-c", _READ, project / "dags"], environment, folder=project)
    _, mark, said = ran.said.rpartition("FOUND ")
    if ran.exit_status or not mark:
        raise CannotRunError(f"Airflow could not read the DAGs: {ran.said.strip()[-400:]}")
    found = json.loads(said)
    if not found["dags"] and not found["errors"]:
        raise CannotRunError("Airflow finds no DAG in dags/: does each file say `airflow` and `dag`?")
    cycles = [file for file, error in found["errors"].items() if "Cycle" in error]
    figures = {
        "dags": len(found["dags"]), "files": len(found["files"]), "errors": len(found["errors"]), "cycles": len(cycles),
        "tasks": sum(tasks for *_, tasks in found["files"].values()),
        "slowest_seconds": round(max((seconds for seconds, *_ in found["files"].values()), default=0.0), 3),
    }  # fmt: skip
    lines = [
        f"{seconds:6.3f} s {file}: {dags} DAGs, {tasks} tasks"
        for file, (seconds, dags, tasks) in sorted(found["files"].items())
    ]
    lines += [f"FAIL {file}: {error}" for file, error in found["errors"].items()]
    yield Finding(
        "tests/static/dag_validation.log", "\n".join(lines), figures, "DagBag('dags')", int(bool(found["errors"]))
    )
