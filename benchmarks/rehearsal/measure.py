"""Seconds from `tidegate rehearsal up` to a clone with its replica: by the size of the warehouse, and by how it is made.

    .venv/bin/python -m benchmarks.rehearsal.measure [--rounds 2]

- files: of a server of ours, by pg_basebackup.
- rows: of a server whose files are somebody else's, by dump and restore, every index built anew.
- personal data: the year's 24,000 bookings (240,000 at ten times the size), masked before anybody is let in, rows and
  files; without, the tables are empty.

At ten times the size each is made once. Megabytes (10^6 bytes) are those of the databases. Processor
seconds are those of this process, of the programs that it runs, and of the original's sessions.
Written beside this file: results.json. Compare ratios only, and only within one run.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from psycopg import sql
from pydantic import SecretStr

from benchmarks import warehouse as demo
from benchmarks.machine import cost, describe
from tidegate.rehearsal import rehearsal
from tidegate.settings import Settings
from tidegate.stack import warehouse
from tidegate.stack.secret import Secrets

HERE = Path(__file__).parent
_PEOPLE = """
SELECT nspname, relname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE relkind = 'r' AND relname LIKE 'bookings\\_%' AND nspname IN ('raw', 'bulk')
"""


def as_somebody_elses(settings: Settings) -> Settings:
    """Return the settings of a checkout that knows the warehouse by an address only."""
    password = Secrets.load(settings.home).logins["backup"]
    address = warehouse.reach(settings).dsn("warehouse", "backup", password)
    return settings.model_copy(update={"warehouse_url": SecretStr(address)})


def forget_people(settings: Settings) -> None:
    """Empty every table with personal data."""
    with demo.superuser(settings) as connection:
        for table in connection.execute(_PEOPLE).fetchall():
            connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(*table)))


def shrink(settings: Settings) -> None:
    """Leave the one year."""
    with demo.superuser(settings) as connection:
        connection.execute("DROP SCHEMA bulk CASCADE")


#: Size, with personal data or without, and what makes it so from the stage before.
STAGES: list[tuple[int, bool, Callable[[Settings], None]]] = [
    (1, True, lambda _: None),
    (10, True, lambda settings: demo.grow(settings, 10)),
    (10, False, forget_people),
    (1, False, shrink),
]


def of_one(settings: Settings, source: str, times: int, *, personal: bool) -> dict[str, Any]:
    """Make a rehearsal and take it away; return its figures."""
    process = warehouse.reach(settings).running()
    assert process is not None
    megabytes = round(demo.size(settings) / 1e6)
    chosen = settings if source == "files" else as_somebody_elses(settings)
    with cost(process.pid) as known:
        made = rehearsal.up(chosen, lambda _: None)
    rehearsal.down(chosen, lambda _: None)
    assert made.source == source
    return {
        "times": times,
        "source": source,
        "personal_data": personal,
        "megabytes": megabytes,
        "masked_tables": len(made.masked),
        "seconds": round(known.seconds, 2),
        "processor_seconds_of_programs": round(known.processor_seconds, 2),
    }


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the medians by size, source and personal data."""
    keys = ("times", "source", "personal_data")
    groups = dict.fromkeys(tuple(run[key] for key in keys) for run in runs)
    found = []
    for group in groups:
        mine = [run for run in runs if tuple(run[key] for key in keys) == group]
        medians = {
            name: round(statistics.median(run[name] for run in mine), 2)
            for name in ("seconds", "processor_seconds_of_programs")
        }
        about = {"megabytes": mine[0]["megabytes"], "runs": len(mine)}
        found.append(dict(zip(keys, group, strict=True)) | about | medians)
    return found


def main() -> None:
    """Measure, write results.json, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="over the one year; over ten times it, always one")
    rounds = parser.parse_args().rounds
    described, runs = describe(), []
    with demo.of_the_year() as settings:
        for times, personal, change in STAGES:
            change(settings)
            for _ in range(rounds if times == 1 else 1):
                for source in ("files", "rows"):
                    runs.append(of_one(settings, source, times, personal=personal))
                    print(runs[-1], flush=True)
    summary = summarise(runs)
    (HERE / "results.json").write_text(
        json.dumps({"machine": described, "summary": summary, "runs": runs}, indent=1) + "\n"
    )
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
