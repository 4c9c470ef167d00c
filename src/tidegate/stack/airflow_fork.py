"""Starts Airflow's processes as forks of one that has imported it: imports are paid once, not four times.

Run as `python -m tidegate.stack.airflow_fork`. It reads one line of JSON from its standard input, a list of
`{"arguments": […], "log": path}`; writes the list of pids; and once a second line has come, lets them go and
ends. When the caller dies before that line, nobody would remember them, so they end without having started.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import NoReturn

SHARED = (
    "airflow.__main__",
    "airflow.api_fastapi.app",
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "airflow.jobs.dag_processor_job_runner",
    "airflow.dag_processing.manager",
)


def main() -> None:
    """Import, fork, report, let go."""
    wanted = json.loads(sys.stdin.readline())
    for module in SHARED:
        importlib.import_module(module)
    gate, opener = os.pipe()
    pids = []
    for component in wanted:
        pid = os.fork()
        if pid == 0:
            os.close(opener)
            _become(component["arguments"], component["log"], gate)
        pids.append(pid)
    print(json.dumps(pids), flush=True)
    if sys.stdin.readline():
        os.write(opener, b"." * len(pids))


def _become(arguments: list[str], log: str, gate: int) -> NoReturn:
    """Turn this fork into a component: its own session, its own log, its own name."""
    from setproctitle import setproctitle

    os.setsid()
    nothing, output = (
        os.open(os.devnull, os.O_RDONLY),
        os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
    )
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    if not os.read(gate, 1):
        os._exit(1)
    os.close(gate)
    setproctitle(f"airflow {' '.join(arguments)}")
    sys.argv = ["airflow", *arguments]
    from airflow.__main__ import main as airflow

    airflow()
    sys.exit(0)


if __name__ == "__main__":
    main()
