"""Measures a chain of ten tasks in a real Airflow, started by `tidegate up` in a home of its own.

    python benchmarks/airflow_chain/run.py [--repeat 3]

Prints the seconds from a run's start to its end as Airflow has recorded them. The first run of each chain is
shown but not counted: Airflow and PostgreSQL have not yet seen the DAG.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import httpx

FOLDER = Path(__file__).resolve().parent
CHAINS = {"chain_of_nothing": 5.0, "chain_of_great_expectations": 6.0}
"""Each chain and the seconds that issue 3 aims at."""


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a stack of its own whose only DAGs are those beside this file."""
    bundle = {
        "name": "benchmark",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(FOLDER / "dags")},
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "AIRFLOW_"))}
    return {
        **inherited,
        "TIDEGATE_HOME": str(home),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
    }


def seconds_of_one_run(client: httpx.Client, dag: str) -> float:
    """Trigger a DAG, wait for its end, return its duration; stops the benchmark when it fails."""
    answer = client.post(f"/api/v2/dags/{dag}/dagRuns", json={"logical_date": None}).raise_for_status()
    address = f"/api/v2/dags/{dag}/dagRuns/{answer.json()['dag_run_id']}"
    while (run := client.get(address).raise_for_status().json())["state"] not in ("success", "failed"):
        time.sleep(0.2)
    if run["state"] == "failed":
        sys.exit(f"{dag} failed: the logs of its tasks say why")
    start, end = (datetime.fromisoformat(run[edge]) for edge in ("start_date", "end_date"))
    return (end - start).total_seconds()


def measure(home: Path, repeat: int) -> None:
    """Run each chain and print one line for it."""
    from dotenv import dotenv_values

    known = dotenv_values(home / "env")
    with httpx.Client(base_url=known["TIDEGATE_AIRFLOW_URL"] or "", timeout=30) as client:
        login = {"username": "admin", "password": known["TIDEGATE_AIRFLOW_PASSWORD"]}
        token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        while client.get("/api/v2/dags").raise_for_status().json()["total_entries"] < len(CHAINS):
            time.sleep(0.5)
        for dag, target in CHAINS.items():
            first, *counted = [seconds_of_one_run(client, dag) for _ in range(repeat + 1)]
            shown = " ".join(f"{seconds:.2f}" for seconds in counted)
            print(
                f"{dag:30} median {statistics.median(counted):5.2f} s  (runs {shown}; first {first:.2f}; "
                f"aim < {target:.0f} s)",
                flush=True,
            )


def main() -> None:
    """Start, measure, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    tidegate = Path(sys.executable).with_name("tidegate")
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        Path(folder).chmod(0o711)
        home = Path(folder).resolve() / "home"
        try:
            subprocess.run([tidegate, "up"], env=environment(home), check=True)
            measure(home, repeat)
        finally:
            subprocess.run([tidegate, "down"], env=environment(home), check=True)


if __name__ == "__main__":
    main()
