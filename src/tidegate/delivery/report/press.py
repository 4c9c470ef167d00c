"""A report's files: which number comes next, all of them or none, and whether the next one is due."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from tidegate.delivery import ledger
from tidegate.delivery.report import html, pdf, pptx
from tidegate.delivery.report.content import report
from tidegate.delivery.report.facts import read
from tidegate.delivery.report.model import Report, changed
from tidegate.delivery.work import folder
from tidegate.observe.logs import HIDDEN, secrets
from tidegate.settings import Settings
from tidegate.stores.postgres import connect

log = structlog.get_logger(__name__)

_PARTIAL = ".report-"
_SOURCE = "reports/ledger_{:03}.json"
_NUMBERED = re.compile(r"(?:status|activity|report|ledger)_(\d{3,})\.\w+")
_PRINTED: dict[str, Callable[[Report], bytes]] = {
    "status_{:03}.pptx": pptx.printed,
    "activity_{:03}.pdf": pdf.printed,
    "report_{:03}.html": html.printed,
}


@dataclass(frozen=True)
class Written:
    """The files of one report with their hashes, by path from `.team/` on."""

    number: int
    files: dict[str, str]


def write(settings: Settings, delivery_id: str) -> Written:
    """Write the next report of a delivery: slides, paper, page, and the ledger's rows that they were made from.

    Nothing appears before all of it is made.

    Raises:
        UsageError: there is no delivery of that id.
        UnavailableError: the warehouse does not answer.
    """
    place = folder(settings) / "reports"
    place.mkdir(parents=True, exist_ok=True)
    hidden = sorted(secrets(settings), key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, HIDDEN)
        return text

    with _alone(place), tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=place) as name:
        number, partial = _next(place), Path(name)
        facts = read(settings, delivery_id, _SOURCE.format(number))
        made: Report = changed(report(facts, number), clean)
        snapshot = clean(json.dumps(facts.snapshot(), indent=1, ensure_ascii=False)) + "\n"
        (partial / Path(facts.source).name).write_text(snapshot, encoding="utf-8")
        for pattern, printed in _PRINTED.items():
            (partial / pattern.format(number)).write_bytes(printed(made))
        files = {}
        # What the others link to is there before them.
        for file in sorted(partial.iterdir()):
            files[f"reports/{file.name}"] = hashlib.sha256(file.read_bytes()).hexdigest()
        for path in sorted(files, key=lambda one: not one.endswith(".json")):
            (partial / Path(path).name).replace(folder(settings) / path)
    log.info("report written", delivery=delivery_id, number=number, state=made.state)
    return Written(number, files)


def due(settings: Settings, delivery_id: str, every: timedelta = timedelta(hours=6)) -> bool:
    """Say whether a delivery that goes on has had no report for as long as `every`: since the last one, or since it began."""
    with connect(settings) as connection:
        delivery = ledger.get(connection, delivery_id)
    if delivery.finished_at is not None:
        return False
    stamps = [file.stat().st_mtime for file in (folder(settings) / "reports").glob("ledger_*.json")]
    last = datetime.fromtimestamp(max(stamps, default=0), UTC)
    return datetime.now(UTC) - max(last, delivery.started_at) >= every


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Let one report at a time be written, so that a number is given once; clear away what a killed one has left."""
    with (place / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for left in place.glob(f"{_PARTIAL}*"):
            shutil.rmtree(left)
        yield


def _next(place: Path) -> int:
    """Return the first number that no file has yet, and none before it had."""
    found = [int(match[1]) for file in place.iterdir() if (match := _NUMBERED.fullmatch(file.name))]
    return max(found, default=0) + 1
