"""Starts Airflow's processes as forks of one that has imported what they need: imports are paid once, not five times.

Run as `python -m tidegate.stack.airflow_fork`. It reads one line of JSON from its standard input,
`{"migrate": bool, "log": path, "components": [{"arguments": […], "log": path}]}`; brings Airflow's database to
this version if it is told to; writes the list of pids, each that of a component's keeper; and once a second line has come,
lets them go and ends.
When the caller dies before that line, nobody would remember them, so they end without having started.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from typing import NoReturn

from tidegate.stack.keeper import keep
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
    # Nothing that is imported is ever garbage.
    gc.disable()
    # Airflow and Great Expectations print while they are imported: only the answer may go to the caller.
    answer = os.fdopen(os.dup(1), "w")
    _write_to(wanted["log"])
    for module in SHARED:
        importlib.import_module(module)
    migration = _migration() if wanted["migrate"] else None
    # While the database works. Tasks are forks of the scheduler, readings of DAGs are forks of their processor.
    warm()
    if migration and os.waitpid(migration, 0)[1]:
        sys.exit("`airflow db migrate` failed, as said above")
    # Collecting would write into, and so copy, every page that the forks share.
    gc.freeze()
    gc.enable()
    # What is left to collect is little and short-lived: to look after every 700 objects costs a tenth of all work.
    gc.set_threshold(20_000, 20, 20)
    gate, opener = os.pipe()
    pids = []
    for component in wanted["components"]:
        pid = os.fork()
        if pid == 0:
            os.close(opener)
            _become(component["arguments"], component["log"], gate)
        pids.append(pid)
    print(json.dumps(pids), file=answer, flush=True)
    if sys.stdin.readline():
        os.write(opener, b"." * len(pids))


def _migration() -> int:
    pid = os.fork()
    if pid == 0:
        _run(["db", "migrate"])
    return pid


def _become(arguments: list[str], log: str, gate: int) -> NoReturn:
    """Turn this fork into the keeper of a component, once it is let go: its own session, its own log, its own name."""
    from setproctitle import setproctitle

    os.setsid()
    if not os.read(gate, 1):
        os._exit(1)
    os.close(gate)
    name = f"airflow {' '.join(arguments)}"
    setproctitle(f"{name} (keeper)")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _write_to(log)

    def serve() -> NoReturn:
        setproctitle(name)
        _run(arguments)

    keep(serve, lambda told: print(f"{name} {told}", flush=True))


def _write_to(log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(output, standard)


def _run(arguments: list[str]) -> NoReturn:
    sys.argv = ["airflow", *arguments]
    from airflow.__main__ import main as airflow

    airflow()
    sys.exit(0)


if __name__ == "__main__":
    main()
