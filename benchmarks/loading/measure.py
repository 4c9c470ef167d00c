"""Flights x10 (3.4 million rows), from file to published, against loaders that promise less.

    .venv/bin/python -m benchmarks.loading.measure [--rounds 3]

The contenders take turns on one PostgreSQL, tuned as `tidegate up` tunes it:

- psql: `\\copy` of the same file into a bare table: no check, no key, nothing recorded. The limit to aim for.
- tidegate: land (every rule of the contract, Parquet kept), stage (copy, primary key), judge (Great
  Expectations), publish. Imports are not counted: Airflow's workers have them before a task starts.
- dlt: its PostgreSQL destination, from the CSV through Arrow, into a fresh dataset; no contract, no key.
- pandas: `to_sql(method="multi")`, on a fiftieth of the rows; its seconds are shown for all.

Written beside this file: results.json. Compare ratios only, and only within one run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import psycopg
from tests.transforms.demo_year import land as land_year

from benchmarks.machine import describe, peak_memory
from benchmarks.stack import environment
from tidegate.migrate import door
from tidegate.stack import port
from tidegate.stack.postgres import PostgresServer

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
DATASET = "flights_x10"
PANDAS_SHARE = 50


def prepare(folder: Path) -> None:
    """Write the year ten times over, each copy a year later, as one CSV; and its contract, without partitions."""
    (folder / "year").mkdir()
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        land_year(database, folder / "year")
        database.execute(
            f"""
            COPY (
                SELECT * EXCLUDE (_partition, _batch_id, y) REPLACE (
                    year + y AS year,
                    strftime(time_hour + to_years(y::INTEGER), '%Y-%m-%dT%H:%M:%SZ') AS time_hour
                )
                FROM read_parquet('{folder}/year/flights-*.parquet'), range(10) copies (y)
            ) TO '{folder}/flights.csv' (HEADER, NULLSTR '')
            """
        )
    text = (CHECKOUT / "schemas" / "flights.odcs.yaml").read_text()
    kept = [line for line in text.splitlines() if "partitioned:" not in line and "partitionKeyPosition" not in line]
    (folder / "schemas").mkdir()
    (folder / "schemas" / f"{DATASET}.odcs.yaml").write_text("\n".join(kept).replace("flights", DATASET))


def with_psql(url: str, folder: Path) -> dict[str, Any]:
    """Copy into a bare table of the same columns."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS public.bare")
        columns = "year int, month int, day int, dep_time int, sched_dep_time int, dep_delay int, arr_time int, " \
            "sched_arr_time int, arr_delay int, carrier text, flight int, tailnum text, origin text, dest text, " \
            "air_time int, distance int, hour int, minute int, time_hour timestamptz"  # fmt: skip
        connection.execute(f"CREATE TABLE public.bare ({columns})")
    began = time.perf_counter()
    copy = rf"\copy public.bare FROM '{folder}/flights.csv' CSV HEADER"
    subprocess.run(["psql", "--quiet", "--no-psqlrc", url, "-c", copy], check=True)
    return {"seconds": time.perf_counter() - began}


def with_tidegate(_url: str, folder: Path) -> dict[str, Any]:
    """Run the four steps; where the warehouse is and the project come through the settings."""
    import great_expectations  # noqa: F401
    import pgpq  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    from tidegate.contracts import load
    from tidegate.gates.judge import judge
    from tidegate.ingest.land import land
    from tidegate.ingest.stage import stage
    from tidegate.publish.batches import publish
    from tidegate.settings import load_settings

    settings = load_settings()
    contract = load(settings, DATASET)
    found: dict[str, Any] = {}
    whole = time.perf_counter()
    batch_id = ""
    steps: dict[str, Callable[[], Any]] = {
        "land": lambda: land(settings, contract, None, folder / "flights.csv"),
        "stage": lambda: stage(settings, contract, batch_id),
        "judge": lambda: judge(settings, contract, batch_id),
        "publish": lambda: publish(settings, contract, batch_id),
    }
    for name, step in steps.items():
        began = time.perf_counter()
        batch = step()
        batch_id = batch.batch_id
        found[f"{name}_seconds"] = time.perf_counter() - began
    assert batch.state == "published", batch.held_reason
    found["rows"] = batch.accepted_count
    return found | {"seconds": time.perf_counter() - whole}


def with_dlt(url: str, folder: Path) -> dict[str, Any]:
    """Load Arrow tables read from the CSV by dlt's own recommended path."""
    import dlt
    import pyarrow.csv as arrow_csv

    @dlt.resource(name="flights")
    def flights() -> Any:
        yield from (batch for batch in arrow_csv.open_csv(folder / "flights.csv"))

    began = time.perf_counter()
    pipeline = dlt.pipeline(
        "bench",
        destination=dlt.destinations.postgres(url),
        dataset_name="dlt",
        pipelines_dir=str(folder / "dlt"),
        full_refresh=True,
    )
    pipeline.run(flights(), loader_file_format="csv")
    return {"seconds": time.perf_counter() - began}


def with_pandas(url: str, folder: Path) -> dict[str, Any]:
    """Insert a fiftieth of the rows."""
    import pandas as pd
    from sqlalchemy import create_engine

    began = time.perf_counter()
    rows = pd.read_csv(folder / "flights.csv", nrows=3_367_760 // PANDAS_SHARE, parse_dates=["time_hour"])
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    rows.to_sql("by_pandas", engine, index=False, if_exists="replace", chunksize=2_000, method="multi")
    engine.dispose()
    return {"seconds": (time.perf_counter() - began) * PANDAS_SHARE}


CONTENDERS: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "psql": with_psql,
    "tidegate": with_tidegate,
    "dlt": with_dlt,
    "pandas": with_pandas,
}


def one(contender: str, url: str, folder: Path) -> None:
    """Run one contender in this process and print its figures."""
    with peak_memory() as peak:
        found = CONTENDERS[contender](url, folder)
    print(
        json.dumps(
            {k: round(v, 2) if isinstance(v, float) else v for k, v in found.items()} | {"peak_mib": round(peak[0])}
        )
    )


def main() -> None:
    """Measure everything, write results.json, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of psql and tidegate; dlt and pandas run once")
    parser.add_argument("--one", nargs=2, metavar=("CONTENDER", "FOLDER"))
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one[0], os.environ["BENCH_URL"], Path(arguments.one[1]))
        return
    described, runs = describe(), []
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-")).resolve()
    folder.chmod(0o711)
    directory = folder / "postgres"
    server = PostgresServer(directory, "bench", folder / "postgres.log", port.choose(22000, directory, set()))
    server.start()
    try:
        prepare(folder)
        order = ["psql", "tidegate"] * arguments.rounds + ["dlt", "pandas"]
        for number, contender in enumerate(order):
            name = f"bench_{number}"
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
                connection.execute("CHECKPOINT")
            url = server.dsn(name)
            door.upgrade(url, CHECKOUT)
            where = environment(
                folder / f"home{number}",
                BENCH_URL=url,
                TIDEGATE_PROJECT=str(folder),
                TIDEGATE_WAREHOUSE_URL=url,
                PYTHONPATH=str(CHECKOUT),
            )
            command = [sys.executable, "-m", "benchmarks.loading.measure", "--one", contender, str(folder)]
            done = subprocess.run(command, env=where, check=True, stdout=subprocess.PIPE, text=True)
            runs.append({"contender": contender, **json.loads(done.stdout.splitlines()[-1])})
            print(runs[-1], flush=True)
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        server.stop()
        shutil.rmtree(folder)
    summary = summarise(runs)
    (HERE / "results.json").write_text(
        json.dumps({"machine": described, "summary": summary, "runs": runs}, indent=1) + "\n"
    )
    print(json.dumps(summary, indent=1))


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians and ratios: of whole loads to psql, and of the gate to the whole."""
    median = {
        name: statistics.median(run["seconds"] for run in runs if run["contender"] == name) for name in CONTENDERS
    }
    ours = [run for run in runs if run["contender"] == "tidegate"]
    return {
        "seconds": {name: round(value, 2) for name, value in median.items()},
        "ratio_to_psql": {name: round(value / median["psql"], 2) for name, value in median.items()},
        "gate_share": round(statistics.median(run["judge_seconds"] / run["seconds"] for run in ours), 3),
        "peak_mib": max(run["peak_mib"] for run in ours),
    }


if __name__ == "__main__":
    main()
