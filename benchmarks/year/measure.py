"""The whole year from files to marts: through Airflow, and by the same commands without it.

    .venv/bin/python -m benchmarks.year.measure

- first_run: `tidegate run` where nothing is yet, the stack's start included.
- through_airflow: of that, from the first delivery to the published marts.
- second_run: `tidegate run` again; it finds nothing to do.
- by_commands: `tidegate ingest`, `transform` and `marts build` in a shell, one after the other, a process each, on
  a stack that is up.
- in_one_process: the same steps as functions, called one after the other.

Written beside this file: results.json. Compare ratios only, and only within one run.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.stack import environment

HERE = Path(__file__).parent
TIDEGATE = str(Path(sys.executable).with_name("tidegate"))
MONTHS = [f"2013-{month:02}" for month in range(1, 13)]
COMMANDS = [
    *(["ingest", dataset] for dataset in ("airlines", "airports", "planes")),
    *(["ingest", dataset, "--partition", month] for month in MONTHS for dataset in ("flights", "weather")),
    *(["transform", name] for name in ("aircraft_leg", "flight_weather")),
    ["marts", "build"],
]
IN_ONE_PROCESS = """
from tidegate import wave
from tidegate.publish import marts
from tidegate.settings import get_settings
for command in {commands}:
    if command[0] == "ingest":
        wave.ingest(get_settings(), command[1], *command[3:])
    elif command[0] == "transform":
        wave.transform(get_settings(), command[1])
from tidegate.commands.marts import build
build(full_refresh=False)
"""


def seconds(command: list[str], where: dict[str, str]) -> tuple[float, str]:
    """Run a command; return how long it took, and what it said."""
    began = time.perf_counter()
    done = subprocess.run(command, env=where, check=True, stdout=subprocess.PIPE, text=True)
    return round(time.perf_counter() - began, 1), done.stdout


def through_airflow(home: Path) -> dict[str, float]:
    """Run the year, and run it again."""
    where = environment(home)
    try:
        first, told = seconds([TIDEGATE, "run"], where)
        counts = [float(found) for found in re.findall(r"^ *([\d.]+) s  \w+: \d+ of \d+$", told, re.MULTILINE)]
        second, _ = seconds([TIDEGATE, "run"], where)
    finally:
        subprocess.run([TIDEGATE, "down"], env=where, check=True)
    return {"first_run": first, "through_airflow": round(counts[-1] - counts[0], 1), "second_run": second}


def without_airflow(home: Path, inbox: Path, commands: list[list[str]]) -> float:
    """Run commands on a stack that is up."""
    where = environment(home, TIDEGATE_INBOX=str(inbox))
    try:
        subprocess.run([TIDEGATE, "up"], env=where, check=True)
        return round(sum(seconds(command, where)[0] for command in commands), 1)
    finally:
        subprocess.run([TIDEGATE, "down"], env=where, check=True)


def main() -> None:
    """Measure, write results.json, print it."""
    described = describe()
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as scratch:
        folder = Path(scratch).resolve()
        folder.chmod(0o711)
        found = through_airflow(folder / "airflow")
        inbox = folder / "airflow" / "inbox"
        one = [sys.executable, "-c", IN_ONE_PROCESS.format(commands=COMMANDS)]
        found["in_one_process"] = without_airflow(folder / "library", inbox, [one])
        found["by_commands"] = without_airflow(folder / "commands", inbox, [[TIDEGATE, *c] for c in COMMANDS])
    base = found["in_one_process"]
    ratios = {name: round(value / base, 2) for name, value in found.items()}
    (HERE / "results.json").write_text(
        json.dumps({"machine": described, "seconds": found, "ratio_to_one_process": ratios}, indent=1) + "\n"
    )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
