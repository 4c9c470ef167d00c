"""What a shell or a client program needs to reach the stack: environment variables, never arguments."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tidegate.errors import StackError
from tidegate.settings import Settings
from tidegate.stack import postgres_binaries
from tidegate.stack.airflow_environment import airflow_environment
from tidegate.stores.postgres import libpq_environment


def shell_environment(settings: Settings) -> dict[str, str]:
    """Return every variable that `airflow …`, `psql`, `dbt` and PySpark need in a shell."""
    found = airflow_environment(settings)
    if settings.warehouse_url is not None:
        found |= libpq_environment(settings)
    if settings.spark_remote is not None:
        found["SPARK_REMOTE"] = settings.spark_remote
    return found


def psql(settings: Settings, arguments: list[str]) -> None:
    """Become psql, connected to the warehouse; does not return."""
    environment = {**os.environ, **libpq_environment(settings)}
    beside = [found.folder / "psql" for found in postgres_binaries.all_of(settings.postgres_bin)]
    candidates = [*beside, shutil.which("psql")]
    for program in candidates:
        if program and os.access(program, os.X_OK):
            os.execve(program, [str(Path(program)), *arguments], environment)  # noqa: S606 no shell is meant
    raise StackError("no `psql` on this machine: install PostgreSQL's client programs.")
