"""Numbers with unit and comparison, however people space and spell them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import TidegateError
from tidegate.strategy import quantity
from tidegate.strategy.quantity import UNITS, Bound, QuantityError, UnknownUnitError

_NUMBERS = st.decimals(min_value=0, max_value=10**9, allow_nan=False, allow_infinity=False, places=3)
_SPACES = st.text(alphabet=" \t", max_size=3)
_SIGNS = {
    "<": "<",
    "<=": "<=",
    "≤": "<=",
    ">": ">",
    ">=": ">=",
    "≥": ">=",
    "=": "=",
    "at most ": "<=",
    "Under ": "<",
    "at  least ": ">=",
}


@given(
    st.sampled_from(sorted(_SIGNS)), _NUMBERS, st.sampled_from(sorted(name for name in UNITS if name)), _SPACES, _SPACES
)
def test_any_number_unit_comparison_and_spacing_reads_as_what_it_is(
    sign: str, number: Decimal, unit: str, before: str, after: str
) -> None:
    money = unit in "$€"
    shown = f"{number:f}"
    text = f"{sign}{before}{unit}{shown}" if money else f"{sign}{before}{shown}{after}{unit}"
    bound = quantity.read(text)
    assert (bound.comparison, bound.value, bound.unit) == (_SIGNS[sign], number, UNITS[unit])
    assert quantity.read(str(bound)) == bound


@given(st.sampled_from(sorted(_SIGNS)), _NUMBERS, st.sampled_from(["ms", "s", "min", "hours", "%", "GB"]), _SPACES)
def test_a_bound_is_found_where_it_stands_in_a_sentence(sign: str, number: Decimal, unit: str, space: str) -> None:
    text = f"Answers come {sign}{space}{number:f}{unit} (most of PostgreSQL 15, on TLS 1.3)"
    (found,) = quantity.find(text, "<=", strict=False)
    assert (found.bound.value, found.bound.unit, found.implied) == (number, UNITS[unit], False)
    assert text[found.start : found.end].endswith(unit)


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("15 minutes (failover to a replica)", ["<= 15 min"]),
        ("Alert on lag > 5s, pool > 90%, disk > 80%", ["> 5 s", "> 90%", "> 80%"]),
        (">= 80% (tooling), 100% (rollback)", [">= 80%", "<= 100%"]),
        ("any payment over $50, whatever recurs", ["> $50"]),
        ("P95 at most 2 s", ["<= 2 s"]),
        ("P95 under 2 s, P99 2 minutes", ["< 2 s"]),
        ("1,500 ms", ["<= 1500 ms"]),
        ("Zero CRITICAL/HIGH vulnerabilities", ["= 0"]),
        ("PostgreSQL 16 / Redis 7, Python 3.12+, AES-256, `src/<package>/`, a -> b, x => y", []),
        ("ask the lead → then a person", []),
    ],
)
def test_a_number_counts_where_it_is_meant_as_one(text: str, bounds: list[str]) -> None:
    assert [str(found.bound) for found in quantity.find(text, "<=", strict=False)] == bounds


@pytest.mark.parametrize("text", ["P95 < 50 parsecs", "< 5 m", "RTO at most 3 fortnights", "< 50MS"])
def test_a_unit_that_nobody_knows_is_refused_by_name(text: str) -> None:
    with pytest.raises(
        UnknownUnitError, match=r"found the unit '\w+', expected one of µs, ms, s, min, h, .*; write one of them"
    ):
        list(quantity.find(text, "<=", strict=False))


@pytest.mark.parametrize("text", ["< 99,5 %", "< 1.2.3 s", "lag < -5 s", "lag <", "lag < fast", "uptime >= ."])
def test_a_comparison_without_a_number_that_can_be_read_is_refused(text: str) -> None:
    with pytest.raises(QuantityError, match=r"found .*, expected .*; write"):
        list(quantity.find(text, "<=", strict=False))


@pytest.mark.parametrize(
    "text",
    [
        "1h 30min",
        "between 10 ms and 20 ms, at most 1 s to 2 s",
        "< 10-15 s",
        "< 15min/<1h",
        "5 min to 10 min",
        "> 3e3 ms",
    ],
)
def test_two_numbers_for_one_thing_are_refused(text: str) -> None:
    with pytest.raises(QuantityError, match="expected one number with one unit"):
        list(quantity.find(text, "<=", strict=True))


@pytest.mark.parametrize("text", ["50", "0"])
def test_a_value_that_is_a_number_alone_is_asked_for_its_unit(text: str) -> None:
    with pytest.raises(QuantityError, match=f"found '{text}' without a unit"):
        list(quantity.find(text, "<=", strict=True))


def test_a_value_that_begins_with_a_number_must_have_a_unit_that_is_known() -> None:
    assert list(quantity.find("3 attempts, then a person", "<=", strict=False)) == []
    with pytest.raises(UnknownUnitError, match="'minuts'"):
        list(quantity.find("15 minuts (failover)", "<=", strict=True))


def test_anything_is_counted_where_counting_is_meant() -> None:
    (found,) = quantity.find("QA finds >= 5 blocking bugs", "<=", strict=False, counts=True)
    assert (str(found.bound), found.bound.unit.dimension) == (">= 5", "count")


@pytest.mark.parametrize("text", ["", "fast", "< 5 s, or so", "five seconds"])
def test_only_a_bound_reads_as_a_bound(text: str) -> None:
    with pytest.raises(QuantityError, match="expected a number with its unit"):
        quantity.read(text)


@pytest.mark.parametrize(
    ("target", "measured", "unit", "holds"),
    [
        ("< 15 min", 899.9, "s", True), ("< 15 min", 900, "s", False), ("<= 1 minute", 60, "s", True), ("< 80%", 0.8, "of 1", False),
        ("< 80%", 0.79, "of 1", True), ("< 50ms", 49.999, "ms", True), (">= 99.5%", 99.5, "%", True), ("= 0", 0, "", True), ("= 0", 1, "", False),
        ("< 1 GiB", 2**30 - 1, "B", True), (">= 100 tps", 101.5, "/s", True),
    ],
)  # fmt: skip
def test_a_figure_is_held_against_a_target_in_another_unit(
    target: str, measured: float, unit: str, holds: bool
) -> None:
    assert quantity.read(target).holds(measured, unit) is holds


@pytest.mark.parametrize(("target", "unit"), [("< 5 s", "%"), ("< 5 GB", "s"), ("< $5", "€"), ("= 0", "ms")])
def test_figures_of_another_kind_cannot_be_compared(target: str, unit: str) -> None:
    with pytest.raises(TidegateError, match="found a figure in"):
        quantity.read(target).holds(1, unit)


def test_every_unit_says_itself() -> None:
    for symbol in {unit.symbol for unit in UNITS.values()}:
        bound = Bound("<", Decimal("2.5"), UNITS[symbol])
        assert quantity.read(str(bound)) == bound
