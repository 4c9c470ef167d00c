"""Numbers with unit and comparison, as people write them: `P95: < 50ms`, `>= 99.5%`, `RPO: 1 minute`, `under $5`.

What a number is about is not known here; `find` only tells where in a sentence it stands.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from tidegate.errors import StrategyError

Comparison = Literal["<", "<=", "=", ">=", ">"]

_COMPARE: dict[Comparison, Callable[[Decimal, Decimal], bool]] = {
    "<": operator.lt, "<=": operator.le, "=": operator.eq, ">=": operator.ge, ">": operator.gt,
}  # fmt: skip
_WORDS: dict[str, Comparison] = {
    "≤": "<=", "≥": ">=", "==": "=", "less than": "<", "under": "<", "below": "<", "at most": "<=", "no more than": "<=", "up to": "<=",
    "max": "<=", "maximum": "<=", "more than": ">", "over": ">", "above": ">", "at least": ">=", "no less than": ">=",
    **{sign: sign for sign in _COMPARE},
}  # fmt: skip


class QuantityError(StrategyError):
    """A number that cannot be read: what was found, what is expected instead, and what to do."""

    def __init__(self, found: str, expected: str, advice: str) -> None:
        super().__init__(f"found {found}, expected {expected}; {advice}")
        self.found, self.expected, self.advice = found, expected, advice


class UnknownUnitError(QuantityError):
    """A unit that no figure is measured in."""


@dataclass(frozen=True)
class Unit:
    """A unit; `factor` turns a number of it into the one that its dimension is compared in."""

    symbol: str
    dimension: str
    factor: Decimal


def _units() -> dict[str, Unit]:
    table = {
        "time": {
            "µs": ("0.000001", "us microsecond microseconds"), "ms": ("0.001", "msec millisecond milliseconds"),
            "s": ("1", "sec secs second seconds"), "min": ("60", "mins minute minutes"),
            "h": ("3600", "hr hrs hour hours"), "d": ("86400", "day days"), "w": ("604800", "week weeks"),
        },
        "share": {"%": ("0.01", "percent"), "of 1": ("1", "")},
        "size": {
            "B": ("1", "byte bytes"), "kB": ("1e3", "KB"), "MB": ("1e6", ""), "GB": ("1e9", ""), "TB": ("1e12", ""), "PB": ("1e15", ""),
            "KiB": ("1024", ""), "MiB": ("1048576", ""), "GiB": ("1073741824", ""), "TiB": ("1099511627776", ""),
        },
        "size in time": {"MB/day": ("1e6", "MB/d"), "GB/day": ("1e9", "GB/d"), "TB/day": ("1e12", "TB/d")},
        "rate": {
            "/s": ("1", "/sec records/s records/sec rows/s rows/sec requests/s requests/sec req/s rps tps transactions/s messages/s"),
            "/min": (str(Decimal(1) / 60), "records/min rows/min requests/min"),
        },
        "money": {"$": ("1", "USD dollars"), "€": ("1", "EUR euros")},
        "count": {
            "": ("1", "agents bugs clients connections criticals errors failures features findings issues leaks "
                 "migrations queries records rows sessions tables tests users violations vulnerabilities"),
        },
    }  # fmt: skip
    known: dict[str, Unit] = {}
    for dimension, units in table.items():
        for symbol, (factor, names) in units.items():
            unit = Unit(symbol, dimension if symbol != "€" else "money in euros", Decimal(factor))
            known |= dict.fromkeys([symbol, *names.split()], unit)
    return known


UNITS: dict[str, Unit] = _units()
_COUNT = UNITS[""]


def unit(name: str) -> Unit:
    """Return a unit by its symbol (as it is written) or its name (in letters of any case).

    Raises:
        UnknownUnitError: nobody knows it.
    """
    found = UNITS.get(name) or (UNITS.get(name.lower()) if len(name) > 3 else None)
    if found is None:
        symbols = ", ".join(symbol for symbol in UNITS if symbol and symbol == UNITS[symbol].symbol)
        advice = "write one of them, or its name; a number that is no target stands without a comparison"
        raise UnknownUnitError(f"the unit {name!r}", f"one of {symbols}", advice)
    return found


@dataclass(frozen=True)
class Bound:
    """A number that something is held against: `< 50 ms`."""

    comparison: Comparison
    value: Decimal
    unit: Unit

    def __str__(self) -> str:
        number = f"{self.value:f}"
        if self.unit.dimension.startswith("money"):
            return f"{self.comparison} {self.unit.symbol}{number}"
        return f"{self.comparison} {number}{'' if self.unit.symbol == '%' else ' '}{self.unit.symbol}".rstrip()

    @property
    def base(self) -> Decimal:
        """The number in its dimension's own unit: seconds, bytes, a share of 1."""
        return self.value * self.unit.factor

    @property
    def is_floor(self) -> bool:
        """Whether it is to be reached or passed: of several figures the least is then the farthest off."""
        return self.comparison in (">", ">=")

    def holds(self, measured: float | Decimal, measured_in: str) -> bool:
        """Say whether a measured figure, given in that unit, is as it should be.

        Raises:
            QuantityError: the two cannot be compared: seconds are no bytes.
        """
        other = unit(measured_in)
        if other.dimension != self.unit.dimension:
            found = f"a figure in {measured_in or 'pieces'}"
            raise QuantityError(found, f"{self.unit.dimension} as in {self}", "correct the target's unit")
        return _COMPARE[self.comparison](Decimal(str(measured)) * other.factor, self.base)


@dataclass(frozen=True)
class Found:
    """A bound in a sentence, from `start` to `end`; `implied` where no comparison is written."""

    bound: Bound
    start: int
    end: int
    implied: bool


_SIGNS = r"<=|>=|==|[<>=≤≥]"
_SAID = "|".join(sorted((word.replace(" ", r"\s+") for word in _WORDS if word[0].isalpha()), key=len, reverse=True))
#: `P95` holds no number.
_NUMBER = r"(?P<money>[$€])?\s*(?P<number>(?<![\w.])\d[\d.,]*(?<![.,]))"
_UNIT = r"\s*(?P<unit>%|µs|of\s1\b|/?[A-Za-z][A-Za-z]*(?:/[A-Za-z]+)?)?"
_BOUND = re.compile(rf"(?:(?P<sign>(?<![-=<>\w])(?:{_SIGNS})|\b(?:{_SAID})(?=[\s$€\d]))\s*)?{_NUMBER}{_UNIT}", re.I)
_DANGLING = re.compile(r"(?<![-=<>\w])(?:<=|>=|[<>≤≥])(?=\s*(?:[-+.,;)]|$)|\s+[^\s\d$€])")
_ZERO = re.compile(
    r"\b(?:zero|no)\b(?=\s+(?:\S+\s+){0,3}?(?:errors?|violations?|vulnerabilit\w+|findings?|leaks?|failures?)\b)", re.I
)
#: Where a number may stand by itself and be meant as a target.
_BEGINNING = re.compile(r"(?:^|[,;(:])\s*$")
#: `1 h 30 min`, `10 to 15 s`: which number counts, nobody could tell.
_AGAIN = re.compile(r"\s*(?:(?:to|and|[-\u2013…/])\s*)?(?:<|>|≤|≥)?=?\s*\d")


def read(text: str) -> Bound:
    """Return the one bound that a text is, such as `<50 ms`, `at most 1 hour` or `$5`.

    Raises:
        QuantityError: it is something else, or its unit is not known.
    """
    match = _BOUND.fullmatch(text.strip())
    if match is None:
        raise QuantityError(repr(text), "a number with its unit, such as `< 50 ms`", "write it so")
    return _bound(match, "=", counts=False)


def find(text: str, implied: Comparison, *, strict: bool, counts: bool = False) -> Iterator[Found]:
    """Find the bounds of a sentence; a number that begins it, or follows a comma, has the comparison `implied`.

    A number by itself whose unit is not known is no bound, unless it begins the sentence and `strict` is set. With `counts`, any noun may be counted.

    Raises:
        QuantityError: a number cannot be read, a comparison has none, or a unit is not known.
    """
    dangling = _DANGLING.search(text)
    if dangling:
        found = repr(text[dangling.start() : dangling.start() + 12].strip())
        raise QuantityError(found, "a number after the comparison", "write one that is not negative")
    for match in _BOUND.finditer(text):
        said = match["sign"] is not None
        if not said and not _BEGINNING.search(text[: match.start()]):
            continue
        known = match["money"] or (match["unit"] or "") in UNITS or (strict and match.start() == 0)
        if not said and not known and not counts:
            continue
        if strict and match.end() == len(text) and match.start() == 0 and not match["money"] and not match["unit"]:
            raise QuantityError(f"{text!r} without a unit", "a number with one, such as `50 ms`", "write it")
        if not said and not match["money"] and not match["unit"] and not counts:
            continue
        if _AGAIN.match(text, match.end()):
            found = repr(text[match.start() : match.end() + 10].strip())
            raise QuantityError(
                found, "one number with one unit", "write `90 min` for `1 h 30 min`, and one end of a span"
            )
        bound = _bound(match, implied, counts=counts)
        # A word that is counted is no unit: it stays in the sentence.
        end = match.end("number") if bound.unit.dimension in ("money", "count") else match.end()
        yield Found(bound, match.start(), end, not said)
    for match in _ZERO.finditer(text):
        yield Found(Bound("=", Decimal(0), _COUNT), match.start(), match.end(), implied=False)


def _bound(match: re.Match[str], implied: Comparison, *, counts: bool) -> Bound:
    sign = " ".join((match["sign"] or "").lower().split())
    comparison = _WORDS[sign] if sign else implied
    value = _number(match["number"])
    if match["money"]:
        return Bound(comparison, value, UNITS[match["money"]])
    name = " ".join((match["unit"] or "").split())
    try:
        return Bound(comparison, value, unit(name))
    except UnknownUnitError:
        if counts:
            return Bound(comparison, value, _COUNT)
        raise


def _number(text: str) -> Decimal:
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?|\d+(\.\d+)?", text):
        return Decimal(text.replace(",", ""))
    raise QuantityError(f"the number {text!r}", "one such as 1500, 1,500 or 99.5", "write a point before decimals")
