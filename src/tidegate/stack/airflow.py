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
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from tidegate.errors import StackError

COMPONENTS = {
    "airflow-api-server": ["api-server"],
    # Tasks run on this machine, so the API server reads their logs from the disk: the log servers would only
    # take fixed ports from the checkout next door.
    "airflow-scheduler": ["scheduler", "--skip-serve-logs"],
    "airflow-dag-processor": ["dag-processor"],
    "airflow-triggerer": ["triggerer", "--skip-serve-logs"],
}


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
        if name.startswith(("AIRFLOW", "TIDEGATE", "PYTHONPATH"))
    }
    return hashlib.sha256(json.dumps([running_version(), ruling], sort_keys=True).encode()).hexdigest()[:16]


def revision(database_url: str) -> str | None:
    """Return the revision that Airflow's database is at, None for one that was never migrated."""
    import psycopg

    with psycopg.connect(database_url) as connection:
        if not connection.execute("SELECT to_regclass('alembic_version')").fetchone()[0]:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row[0] if row else None


def migrate(environment: dict[str, str]) -> None:
    """Bring Airflow's database to this version; takes 7 s, so callers remember that it was done."""
    done = subprocess.run(
        [program(), "db", "migrate"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        end = "\n".join(f"    {line}" for line in (done.stdout + done.stderr).splitlines()[-12:])
        raise StackError(f"`airflow db migrate` ended with status {done.returncode}:\n{end}")


def not_ready(url: str, *, since: float, names: Iterable[str]) -> list[str]:
    """Return the components among `names` that have not reported to the API server at `url` since then.

    `since` is in seconds since 1970: a heartbeat that a killed predecessor has left does not count.
    """
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310 our own server
            parts = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return list(names)
    late = []
    for name in names:
        part = name.removeprefix("airflow-").replace("-", "_")
        beat = (parts.get(part) or {}).get(f"latest_{part}_heartbeat")
        if part != "api_server" and (beat is None or datetime.fromisoformat(beat).timestamp() < since):
            late.append(name)
    return late
