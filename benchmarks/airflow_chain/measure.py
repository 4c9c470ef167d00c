"""What Airflow costs a task: chains of ten tasks in a real Airflow, started by `tidegate up` in a home of its own.

    .venv/bin/python -m benchmarks.airflow_chain.measure [--rounds 3]

Seconds from a run's start to its end as Airflow has recorded them, written beside this file: results.json. The
first run of each chain is not counted: Airflow and PostgreSQL have not yet seen the DAG.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import httpx

from benchmarks.machine import describe
from benchmarks.stack import environment

FOLDER = Path(__file__).resolve().parent
#: Each chain, and the seconds that it may take on two cores.
CHAINS = {"chain_of_nothing": 5.0, "chain_of_great_expectations": 6.0}


def with_chains(home: Path) -> dict[str, str]:
    """Return the environment of a stack of its own whose only DAGs are those beside this file."""
    bundle = {
        "name": "benchmark",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(FOLDER / "dags")},
    }
    return environment(home, AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST=json.dumps([bundle]))


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


def measure(home: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Run each chain and return its figures."""
    from dotenv import dotenv_values

    known = dotenv_values(home / "env")
    with httpx.Client(base_url=known["TIDEGATE_AIRFLOW_URL"] or "", timeout=30) as client:
        login = {"username": "admin", "password": known["TIDEGATE_AIRFLOW_PASSWORD"]}
        token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        while client.get("/api/v2/dags").raise_for_status().json()["total_entries"] < len(CHAINS):
            time.sleep(0.5)
        found = {}
        for dag, aim in CHAINS.items():
            _, *counted = [seconds_of_one_run(client, dag) for _ in range(rounds + 1)]
            median = statistics.median(counted)
            found[dag] = {"seconds": round(median, 2), "seconds_a_task": round(median / 10, 2), "aim_seconds": aim}
        return found


def main() -> None:
    """Start, measure, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    tidegate, described = Path(sys.executable).with_name("tidegate"), describe()
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        Path(folder).chmod(0o711)
        home = Path(folder).resolve() / "home"
        try:
            subprocess.run([tidegate, "up"], env=with_chains(home), check=True)
            found = {"machine": described, "chains": measure(home, rounds)}
        finally:
            subprocess.run([tidegate, "down"], env=with_chains(home), check=True)
    (FOLDER / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["chains"], indent=1))


if __name__ == "__main__":
    main()
