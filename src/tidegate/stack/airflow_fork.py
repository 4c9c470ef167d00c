"""Starts Airflow's processes as forks of one that has imported what they need: imports are paid once, not five times.

Run as `python -m tidegate.stack.airflow_fork`. It reads one line of JSON from its standard input,
`{"migrate": bool, "log": path, "components": [{"arguments": […], "log": path}]}`; brings Airflow's database to
this version if it is told to; writes the list of pids; and once a second line has come, lets them go and ends.
When the caller dies before that line, nobody would remember them, so they end without having started.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from tidegate.stack.process import tail
from tidegate.stack.warm import warm

SHARED = (
    "airflow.__main__",
    "airflow.cli.commands.db_command",
    "airflow.api_fastapi.app",
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "airflow.jobs.dag_processor_job_runner",
    "airflow.dag_processing.manager",
)


def main() -> None:
    """Import, migrate, fork, report, let go."""
    wanted = json.loads(sys.stdin.readline())
    for module in SHARED:
        importlib.import_module(module)
    migration = _migration(wanted["log"]) if wanted["migrate"] else None
    # While the database works. Tasks are forks of the scheduler, readings of DAGs are forks of their processor.
    warm()
    if migration and os.waitpid(migration, 0)[1]:
        sys.exit(f"`airflow db migrate` failed:\n{tail(Path(wanted['log']))}")
    # Collecting would write into, and so copy, every page that the forks share.
    gc.freeze()
    gate, opener = os.pipe()
    pids = []
    for component in wanted["components"]:
        pid = os.fork()
        if pid == 0:
            os.close(opener)
            _become(component["arguments"], component["log"], gate)
        pids.append(pid)
    print(json.dumps(pids), flush=True)
    if sys.stdin.readline():
        os.write(opener, b"." * len(pids))


def _migration(log: str) -> int:
    pid = os.fork()
    if pid == 0:
        _run(["db", "migrate"], log)
    return pid


def _become(arguments: list[str], log: str, gate: int) -> NoReturn:
    """Turn this fork into a component, once it is let go: its own session, its own log, its own name."""
    from setproctitle import setproctitle

    os.setsid()
    if not os.read(gate, 1):
        os._exit(1)
    os.close(gate)
    setproctitle(f"airflow {' '.join(arguments)}")
    _run(arguments, log)


def _run(arguments: list[str], log: str) -> NoReturn:
    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.argv = ["airflow", *arguments]
    from airflow.__main__ import main as airflow

    airflow()
    sys.exit(0)


if __name__ == "__main__":
    main()
