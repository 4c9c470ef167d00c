"""Sail against JVM Spark on both transforms, over the demo year and ten times as much, in one run.

    .venv/bin/python -m benchmarks.transforms.measure

Each measurement is a fresh engine and a fresh process; engines take turns, and the median counts. Written
beside this file: results.json. Compare ratios only, and only within one run. Processor time (of the engine's
start, both transforms and its end) stands beside the clock's, because other work on the machine hardly
stretches it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
from tests.transforms.demo_year import land
from tests.transforms.servers import sail_server, standalone_cluster

from benchmarks.machine import describe, peak_memory
from tidegate import transforms
from tidegate.settings import load_settings
from tidegate.transforms.engine import spark_session

HERE = Path(__file__).parent
ENGINES = {1: ("sail", "local[2]", "standalone"), 10: ("sail", "local[2]")}


def measure(engine: str, landed: Path, scale: int) -> dict[str, Any]:
    """Run both transforms on a fresh engine: seconds for a bare session, then for each transform."""
    inputs = {name: sorted((landed / f"x{scale}").glob(f"{name}-*.parquet")) for name in ("flights", "weather")}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack, peak_memory() as peak:
        folder = Path(scratch)
        address: dict[str, Any] = {"spark_master": engine}
        if engine == "sail":
            address = {"spark_remote": stack.enter_context(sail_server(folder))[0], "spark_master": None}
        elif engine == "standalone":
            address = {"spark_master": stack.enter_context(standalone_cluster(folder))}
        settings = load_settings(home=folder / "home", **address)
        found: dict[str, Any] = {"engine": engine, "scale": scale}
        began = time.perf_counter()
        with spark_session(settings) as spark:
            spark.range(1).count()
        found["session_seconds"] = round(time.perf_counter() - began, 2)
        for name in transforms.names(settings):
            began = time.perf_counter()
            needed = {dataset: inputs[dataset] for dataset in transforms.load(settings, name).inputs}
            output = transforms.run(settings, name, needed, folder / "out")
            found[f"{name}_seconds"] = round(time.perf_counter() - began, 2)
            found[f"{name}_rows"] = output.rows
            found[f"{name}_sha256"] = sha256(Path(urlsplit(output.path).path).read_bytes()).hexdigest()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(usage.ru_utime + usage.ru_stime for usage in used)
    return found | {"processor_seconds": round(processor, 1), "peak_mib": round(peak[0])}


def prepare(folder: Path) -> None:
    """Land the year under x1/, and under x10/ with ten times the flights and aircraft."""
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        for scale in ENGINES:
            (folder / f"x{scale}").mkdir()
        land(database, folder / "x1")
        for month in range(1, 13):
            flights, weather = f"flights-{month:02}.parquet", f"weather-{month:02}.parquet"
            (folder / "x10" / weather).hardlink_to(folder / "x1" / weather)
            database.execute(
                "COPY (SELECT * REPLACE (flight + 10000 * copy AS flight, tailnum || '-' || copy AS tailnum) "
                f"FROM '{folder}/x1/{flights}', (SELECT range::INTEGER AS copy FROM range(10))) "
                f"TO '{folder}/x10/{flights}'"
            )


def main() -> None:
    """Measure everything, hold all engines to the same bytes, write results.json, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("ENGINE", "LANDED", "SCALE"))
    parser.add_argument("--rounds", type=int, default=3, help="over the one year; over ten times it, always one")
    arguments = parser.parse_args()
    one = arguments.one
    if one:
        print(json.dumps(measure(one[0], Path(one[1]), int(one[2]))))
        return
    described, runs = describe(), []
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch))
        for scale, engines in ENGINES.items():
            for engine in engines * (arguments.rounds if scale == 1 else 1):
                command = [sys.executable, "-m", "benchmarks.transforms.measure", "--one", engine, scratch]
                output = subprocess.run([*command, str(scale)], check=True, stdout=subprocess.PIPE).stdout
                runs.append(json.loads(output))
                print(runs[-1], flush=True)
    summary = []
    for scale, engines in ENGINES.items():
        for name in ("aircraft_leg", "flight_weather"):
            assert len({run[f"{name}_sha256"] for run in runs if run["scale"] == scale}) == 1, "engines disagree"
        sail: dict[str, float] = {}
        for engine in engines:
            same = [run for run in runs if (run["engine"], run["scale"]) == (engine, scale)]
            figures = (
                "session_seconds",
                "aircraft_leg_seconds",
                "flight_weather_seconds",
                "processor_seconds",
                "peak_mib",
            )
            median = {figure: statistics.median(run[figure] for run in same) for figure in figures}
            sail = sail or median
            ratio = {f"{figure}_to_sail": round(median[figure] / sail[figure], 1) for figure in figures}
            summary.append({"engine": engine, "scale": scale, **median, **ratio})
    (HERE / "results.json").write_text(
        json.dumps({"machine": described, "summary": summary, "runs": runs}, indent=1) + "\n"
    )
    for row in summary:
        print(row)


if __name__ == "__main__":
    main()
