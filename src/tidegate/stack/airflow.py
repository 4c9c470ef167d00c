"""The embedded Airflow: its four processes, the migration of its database, and when it is ready.

How it is configured stands in `airflow_environment.py`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tidegate.errors import StackError
from tidegate.stack.process import indent, tail

COMPONENTS = {
    "airflow-api-server": ["api-server"],
    # Tasks run on this machine, so the API server reads their logs from the disk: the log servers would only
    # take fixed ports from the checkout next door.
    "airflow-scheduler": ["scheduler", "--skip-serve-logs"],
    "airflow-dag-processor": ["dag-processor"],
    "airflow-triggerer": ["triggerer", "--skip-serve-logs"],
}


#: The log of what happens before the processes begin.
STARTUP = "airflow-startup"


def program() -> str:
    """Return the path of the `airflow` command that belongs to this Python."""
    return str(Path(sys.executable).with_name("airflow"))


def running_version() -> str:
    """Return Airflow's version."""
    return version("apache-airflow")


def fingerprint(environment: Mapping[str, str]) -> str:
    """Return a short hash of a configuration: when it differs, the servers must be started anew."""
    ruling = {
        name: value
        for name, value in environment.items()
        if name.startswith(("AIRFLOW", "AWS", "TIDEGATE", "PYTHONPATH"))
    }
    return hashlib.sha256(json.dumps([running_version(), ruling], sort_keys=True).encode()).hexdigest()[:16]


def revision(database_url: str) -> str | None:
    """Return the revision that Airflow's database is at, None for one that was never migrated."""
    import psycopg

    with psycopg.connect(database_url) as connection:
        if connection.execute("SELECT 1 FROM pg_tables WHERE tablename = 'alembic_version'").fetchone() is None:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row[0] if row else None


@contextmanager
def forked(
    names: Sequence[str], logs: Mapping[str, Path], environment: Mapping[str, str], folder: Path, *, migrate: bool
) -> Iterator[list[int]]:
    """Fork the named components and yield their pids; they begin when the block ends, never if it fails.

    With `migrate`, the database is brought to this version before; `logs[STARTUP]` tells of that.

    Raises StackError when Airflow cannot be imported or its database cannot be migrated.
    """
    components = [{"arguments": COMPONENTS[name], "log": str(logs[name])} for name in names]
    wanted = {"migrate": migrate, "log": str(logs[STARTUP]), "components": components}
    with subprocess.Popen(
        [sys.executable, "-m", "tidegate.stack.airflow_fork"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(environment),
        cwd=folder,
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        parent.stdin.write(json.dumps(wanted) + "\n")
        parent.stdin.flush()
        answer = parent.stdout.readline()
        if not answer:
            raise StackError(f"Airflow cannot be started by {sys.executable}:\n{tail(logs[STARTUP])}")
        yield json.loads(answer)
        parent.stdin.write("go\n")


def migrate(environment: dict[str, str]) -> None:
    """Bring Airflow's database to this version; takes 7 s, so callers remember that it was done."""
    done = subprocess.run(
        [program(), "db", "migrate"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StackError(
            f"`airflow db migrate` ended with status {done.returncode}:\n{indent(done.stdout + done.stderr)}"
        )


def not_ready(url: str, *, since: float, names: Iterable[str]) -> list[str]:
    """Return the components among `names` that have not reported to the API server at `url` since then.

    `since` is in seconds since 1970: a heartbeat that a killed predecessor has left does not count.
    """
    try:
        parts = health(url, patience=30)
        # The side that tasks talk to is made at its first request, which takes 5 s: not on a task's time.
        _ask(f"{url}/execution/health", 30)
    except (urllib.error.URLError, OSError, ValueError):
        return list(names)
    late = []
    for name in names:
        part = name.removeprefix("airflow-").replace("-", "_")
        beat = (parts.get(part) or {}).get(f"latest_{part}_heartbeat")
        if part != "api_server" and (beat is None or datetime.fromisoformat(beat).timestamp() < since):
            late.append(name)
    return late


def health(url: str, *, patience: float) -> dict[str, dict[str, str | None]]:
    """Return what the API server at `url` says of each component: its status, its latest heartbeat.

    Asking costs 0.1 s, where `airflow jobs check` imports Airflow for 6 s at every check. Raises OSError when the
    server does not answer within `patience` seconds.
    """
    return _ask(f"{url}/api/v2/monitor/health", patience)


def _ask(url: str, patience: float) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=patience) as answer:  # noqa: S310 our own server
        found: dict[str, Any] = json.load(answer)
    return found
