"""The report page: one file that tells what ran, what the gates said and what the marts say.

Everything on it is read from the ledger and from the published marts, at one moment; it needs no network.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tidegate.contracts import Contract, derived
from tidegate.contracts.read import files, load_file
from tidegate.errors import ContractError
from tidegate.gates import ledger
from tidegate.observe import data_docs, dbt_docs, insight, tables
from tidegate.observe.summary import Summary, read, snapshot
from tidegate.settings import Settings


def path(settings: Settings) -> Path:
    """Return where the page stands."""
    return settings.home / "report" / "index.html"


def build(settings: Settings) -> Path:
    """Write the page anew and return its path; readers see the old page or the new one.

    Raises:
        UnavailableError: the warehouse does not answer.
    """
    page = path(settings)
    text = render(settings)
    page.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: the command and the DAG may write at the same time.
    partial = page.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(page)
    return page


def render(settings: Settings) -> str:
    """Return the page's HTML.

    Raises:
        UnavailableError: the warehouse does not answer.
    """
    contracts = _contracts(settings)
    with snapshot(settings) as connection:
        told = read(connection)
        values: dict[str, Any] = {
            "told": told,
            "rules": tables.rules(connection),
            "batches": tables.batches(connection),
            "datasets": tables.datasets(connection),
            "steps": tables.steps(connection),
            "quarantine": tables.quarantine(connection, contracts),
            "evidence": tables.evidence(connection),
            "insights": insight.read(connection),
        }
    values |= {
        "status": _status(told),
        "places": _places(settings),
        "described": {contract.dataset: contract.description for contract in contracts},
        "made_at": datetime.now(UTC),
        "limits": tables,
        "coloured_from": insight.COLOURED_FROM,
    }
    page: str = _environment(settings).get_template("report.html.j2").render(values)
    return page


def _status(told: Summary) -> tuple[str, str]:
    """Return the verdict on the whole, and the sentence that says it."""
    warnings = sum(counted["WARN"] for counted in told.verdicts.values())
    if not told.batches:
        return "NONE", "No batch has arrived yet"
    if told.held:
        counted = _count(len(told.held), "delivery is held", "deliveries are held")
        return "FAIL", f"{counted} at a gate"
    waiting = sum(told.batches.get(state, 0) for state in ledger.UNDER_WAY)
    if waiting:
        return "WARN", f"{_count(waiting, 'batch is', 'batches are')} on the way"
    if warnings:
        return "WARN", f"All is published, with {_count(warnings, 'warning', 'warnings')} to read"
    return "PASS", "All is published, every gate passed"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _contracts(settings: Settings) -> list[Contract]:
    """Read the contracts that can be read: one that is broken must not hide what the others did."""
    found = []
    for file in files(settings):
        try:
            found.append(load_file(file, settings.home / "contracts"))
        except ContractError:
            continue
    return found


def _places(settings: Settings) -> list[dict[str, str | None]]:
    """Return where to read on: name, what is there, link if it is there, and how to get it if not."""
    made = "the DAG `upkeep_docs` builds it after the marts, and `tidegate docs` at once"
    places = [
        (
            "Data Docs",
            "Great Expectations, rule by rule; its pages load their style from the network",
            data_docs.folder(settings) / "index.html",
            made,
        ),
        ("dbt docs", "models, columns, lineage", dbt_docs.folder(settings) / "index.html", made),
        (
            "Catalog",
            "contracts and data dictionary",
            settings.project / derived.REFERENCE / "index.md",
            "`tidegate contract docs` writes it",
        ),
    ]
    told: list[dict[str, str | None]] = [
        {"name": name, "what": what, "link": _link(settings, file), "absent": absent}
        for name, what, file, absent in places
    ]
    airflow = settings.airflow_url if (settings.airflow_url or "").startswith(("http://", "https://")) else None
    told.append({"name": "Airflow", "what": "DAGs, runs, logs", "link": airflow, "absent": "`tidegate up` starts it"})
    return told


def _link(settings: Settings, file: Path) -> str | None:
    """Return the relative link from the page to a file; None if there is no such file."""
    return quote(os.path.relpath(file, path(settings).parent)) if file.is_file() else None


def _environment(settings: Settings) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tidegate.observe"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"n": _number, "when": _when, "day": _day, "seconds": _seconds}
    environment.globals |= {
        "evidence_link": lambda name: _link(settings, Path(name)),
        # `schemas/flights.odcs.yaml:67`
        "source_link": lambda source: _link(settings, settings.project / str(source).rpartition(":")[0]),
    }
    return environment


def _number(number: float) -> str:
    return f"{number:,.0f}"


def _seconds(seconds: float) -> str:
    if seconds >= 120:
        return str(timedelta(seconds=round(seconds)))
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2f} s"


def _day(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%d %b}".lstrip("0")


def _when(instant: datetime | None) -> str:
    return "never" if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
