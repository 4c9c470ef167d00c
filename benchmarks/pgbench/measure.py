"""pgbench on PostgreSQL as `tidegate up` tunes it, and as it comes: ten clients, read-only and read/write.

    .venv/bin/python -m benchmarks.pgbench.measure [--rounds 3] [--seconds 8]

One data directory, restarted for each turn with one configuration or the other; which of them begins a round
alternates. Each turn is warmed up by reading every account, and is preceded by a checkpoint. Every commit is on disk
before it is acknowledged, under both.
Written beside this file: results.json. Compare ratios only, and only within one run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.machine import cost, describe
from tidegate.evidence.performance import read_pgbench
from tidegate.stack import port
from tidegate.stack.postgres import TUNING, PostgresServer
from tidegate.stack.postgres_binaries import client
from tidegate.stores.postgres import libpq_environment_of

HERE = Path(__file__).parent
CLIENTS, SCALE = 10, 30
KINDS = {"read only": ["--select-only"], "read and write": []}


def pgbench(server: PostgresServer, *arguments: str) -> str:
    """Run pgbench on the server's database `postgres`; return what it says."""
    command: list[str | Path] = [client("pgbench"), *arguments]
    environment = libpq_environment_of(server.dsn())
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def defaults(server: PostgresServer) -> dict[str, str]:
    """Return what PostgreSQL has where TUNING has something else."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        query = "SELECT name, boot_val FROM pg_settings WHERE name = ANY (%s) AND boot_val IS NOT NULL"
        return dict(connection.execute(query, [list(TUNING)]).fetchall())


def turn(server: PostgresServer, settings: Mapping[str, str], seconds: int) -> Iterator[dict[str, Any]]:
    """Restart the server with these settings and let pgbench run, once of each kind; yield its figures."""
    server.stop()
    server.settings = settings
    process = server.start()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("SELECT count(abalance) FROM pgbench_accounts")
    for kind, how in KINDS.items():
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        with cost(process.pid) as known:
            said = pgbench(server, f"--client={CLIENTS}", "--jobs=2", f"--time={seconds}", "--no-vacuum", *how)
        told = read_pgbench(said)
        spent = 1000 * known.processor_seconds / told["transactions"]
        yield {"kind": kind, **told, "processor_ms_per_transaction": round(spent, 4)}


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each kind, the medians of both and their ratio, tuned to default."""
    found = []
    for kind in KINDS:
        medians = {
            name: {of: statistics.median(r[name] for r in runs if (r["kind"], r["configuration"]) == (kind, of)) for of in ("default", "tuned")}
            for name in ("tps", "latency_ms", "processor_ms_per_transaction")
        }  # fmt: skip
        ratios = {f"{name}_ratio": round(both["tuned"] / both["default"], 2) for name, both in medians.items()}
        found.append({"kind": kind, **medians, **ratios})
    return found


def main() -> None:
    """Measure, write results.json, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="of each kind in each turn")
    arguments = parser.parse_args()
    described, runs = describe(), []
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-")).resolve()
    folder.chmod(0o711)
    directory = folder / "postgres"
    server = PostgresServer(directory, "bench", folder / "postgres.log", port.choose(22000, directory, set()))
    server.start()
    try:
        pgbench(server, "--initialize", "--quiet", f"--scale={SCALE}")
        configurations: dict[str, Mapping[str, str]] = {"default": defaults(server), "tuned": {}}
        for number in range(arguments.rounds):
            for name in sorted(configurations, reverse=bool(number % 2)):
                for run in turn(server, configurations[name], arguments.seconds):
                    runs.append({"configuration": name, "round": number + 1, **run})
                    print(runs[-1], flush=True)
        kept = configurations["default"]
    finally:
        server.stop()
        shutil.rmtree(folder)
    summary = summarise(runs)
    told = {"clients": CLIENTS, "scale": SCALE, "default_settings": kept, "tuned_settings": dict(TUNING)}
    (HERE / "results.json").write_text(
        json.dumps({"machine": described, "about": told, "summary": summary, "runs": runs}, indent=1) + "\n"
    )
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
