"""Backups of the demo warehouse and of ten times it: taken, verified and restored, in megabytes a second.

    .venv/bin/python -m benchmarks.backup.measure [--rounds 2]

The tools take turns on one server (at ten times the size once), by the functions behind `tidegate backup`:

- pg_basebackup, full: files as they are, a checksum for each.
- pgbackrest, full: packed with zstd.
- pgbackrest, incremental: after an update of a month of flights (one in twelve of their rows; at ten times the size
  one in a hundred and twenty).

Megabytes (10^6 bytes) are always those of the databases, whatever a tool stores of them. `restore` ends when the
restored server takes writes. Processor seconds are those of the tool and of the server's sessions.
Written beside this file: results.json. Compare ratios only, and only within one run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import warehouse as demo
from benchmarks.machine import cost, describe
from tidegate.backup import pgbackrest, shelf, tools
from tidegate.backup.moment import Moment
from tidegate.backup.restore import restore
from tidegate.backup.shelf import Backup, Kind
from tidegate.backup.take import take, verify
from tidegate.settings import Settings
from tidegate.stack import warehouse

HERE = Path(__file__).parent
TOOLS = ("pg_basebackup", *(["pgbackrest"] if pgbackrest.is_installed() else []))
CHANGE = "UPDATE raw.flights SET minute = minute WHERE _partition = '2013-03'"


def of_one(settings: Settings, times: int) -> Iterator[dict[str, Any]]:
    """Take a full backup, verify it, take an incremental one where the tool does, restore; yield each one's figures."""
    server = warehouse.reach(settings)
    process = server.running()
    assert process is not None
    megabytes = round(demo.size(settings) / 1e6)
    kinds: list[Kind] = ["full", "incremental"] if settings.backup_tool == pgbackrest.NAME else ["full"]
    kept: list[Backup] = []
    for kind in kinds:
        if kind == "incremental":
            with demo.superuser(settings) as connection:
                connection.execute(CHANGE)
        with cost(process.pid) as taking:
            kept.append(take(settings, kind))
        with cost() as verifying:
            verify(settings, kept[-1])
        with cost() as restoring:
            restored = restore(settings, Moment())
        restored.remove()
        figures = {
            "take_seconds": taking.seconds,
            "take_processor_seconds": taking.processor_seconds,
            "verify_seconds": verifying.seconds,
            "restore_seconds": restoring.seconds,
        }
        yield {
            "times": times,
            "tool": settings.backup_tool,
            "kind": kind,
            "megabytes": megabytes,
            "stored_megabytes": round(kept[-1].size / 1e6, 1),
            **{name: round(value, 2) for name, value in figures.items()},
            "take_mb_per_second": round(megabytes / taking.seconds),
            "restore_mb_per_second": round(megabytes / restoring.seconds),
        }
    for backup in reversed(kept):
        folder = shelf.folder_of(settings, backup.backup_id)
        tools.named(backup.tool).remove(server, folder)
        shutil.rmtree(folder)


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the median of each figure, for each tool, kind and size."""
    keys = ("times", "tool", "kind")
    groups = dict.fromkeys(tuple(run[key] for key in keys) for run in runs)
    return [
        dict(zip(keys, group, strict=True))
        | {
            name: round(statistics.median(run[name] for run in runs if tuple(run[key] for key in keys) == group), 2)
            for name in runs[0]
            if name not in keys
        }
        for group in groups
    ]


def main() -> None:
    """Measure, write results.json, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="of each tool; at ten times the size, always one")
    rounds = parser.parse_args().rounds
    described, runs = describe(), []
    with demo.of_the_year() as settings:
        for times in (1, 10):
            if times > 1:
                demo.grow(settings, times)
            for _ in range(rounds if times == 1 else 1):
                for tool in TOOLS:
                    for run in of_one(settings.model_copy(update={"backup_tool": tool}), times):
                        runs.append(run)
                        print(run, flush=True)
    summary = summarise(runs)
    (HERE / "results.json").write_text(
        json.dumps({"machine": described, "summary": summary, "runs": runs}, indent=1) + "\n"
    )
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
