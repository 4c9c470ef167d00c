"""The numbers that the platform holds itself to while it runs: each is written once, in the strategy of its database."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tidegate.errors import StrategyError
from tidegate.strategy.judges import ALERTS, MEASURES, measure
from tidegate.strategy.model import Purpose, Strategy
from tidegate.strategy.quantity import Bound
from tidegate.strategy.read import read

#: The strategy of the warehouse, from the project's folder.
DATABASE = "strategies/database.md"


@dataclass(frozen=True)
class Stated:
    """A number of a strategy, and the file and line in which it stands: `strategies/database.md:122`."""

    bound: Bound
    source: str

    @property
    def base(self) -> float:
        """The number in its dimension's own unit: seconds, bytes, a share of 1."""
        return float(self.bound.base)


def target(project: Path, name: str, document: str = DATABASE) -> Stated:
    """Return the target that a strategy of the project states under the name of a measure (`MEASURES`), the first of several.

    Raises:
        StrategyError: there is no such document, it cannot be read, or it states none.
    """
    assert name in {known.name for known in MEASURES}, name
    return _stated(project, name, document, "target")


def alert(project: Path, name: str, document: str = DATABASE) -> Stated:
    """Return the number from which on somebody is to be told of what has that name (`ALERTS`); raises as `target` does."""
    assert name in {known.name for known in ALERTS}, name
    return _stated(project, name, document, "alert")


def _stated(project: Path, name: str, document: str, purpose: Purpose) -> Stated:
    for statement in _document(project, document).requirements:
        for number in statement.targets:
            known = measure(number, statement.entry.text) if number.purpose == purpose else None
            if known is not None and known.name == name:
                return Stated(number.bound, f"{document}:{number.line}")
    raise StrategyError(
        f"{document} states no {purpose} for {name}; expected one among its non-functional requirements: write it there, "
        f"`team strategy show {document}` tells how it is understood"
    )


def _document(project: Path, document: str) -> Strategy:
    path = project / document
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise StrategyError(
            f"{path}: there is no such strategy ({error.strerror}), and the platform takes its limits from it; "
            "`team strategy new` begins one"
        ) from error
    return _read(path, changed)


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> Strategy:
    return read(path)
