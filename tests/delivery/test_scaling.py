"""Hands are added where a rule of the strategy calls for it; how many never changes what is measured."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as some
from tests.delivery.originals import ROOT

from tidegate.delivery.ledger import Done
from tidegate.delivery.scaling import MOST, Trigger, parts, triggers
from tidegate.strategy import Strategy, read
from tidegate.strategy.document import Entry

STRATEGY = read(ROOT / "strategies" / "database.md")
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def large(strategy: Strategy) -> Strategy:
    first, *rest = strategy.features.p0
    features = replace(strategy.features, p0=(replace(first, complexity=Entry("XL", 1)), *rest))
    return replace(strategy, features=features)


def took(seconds: float) -> tuple[Done, ...]:
    return (Done("2", "PG", 1, "done", {}, None, NOW, NOW + timedelta(seconds=seconds)),)


def test_nothing_is_split_where_no_rule_calls_for_it() -> None:
    assert triggers(STRATEGY, took(60), 4, {"2": 60.0}) == []
    assert parts(["a", "b"], STRATEGY, []) == [["a", "b"]]


def test_a_large_feature_a_late_wave_and_five_refusals_each_call_for_hands() -> None:
    assert "complexity XL" in triggers(large(STRATEGY), (), 0, {})[0].told
    assert triggers(STRATEGY, took(100), 0, {"2": 60.0})[0].told == "wave 2 took 100 s, planned were 60"
    (found,) = triggers(STRATEGY, (), 5, {})
    assert found.told == "gates refuse 5 rules"
    assert "5 blocking" in STRATEGY.path.read_text().splitlines()[found.line - 1]


def test_nobody_is_added_where_the_strategy_says_no() -> None:
    shut = replace(STRATEGY, scaling=replace(STRATEGY.scaling, allowed=Entry("No", 1)))
    assert triggers(large(shut), took(999), 99, {"2": 1.0}) == []


@given(some.lists(some.uuids().map(str), unique=True, max_size=60), some.integers(1, 40))
def test_every_probe_is_run_by_exactly_one_hand_and_never_more_than_fifteen_work(probes: list[str], most: int) -> None:
    strategy = replace(STRATEGY, scaling=replace(STRATEGY.scaling, most=most))
    hands = parts(probes, strategy, [Trigger("late", 1)])
    assert sorted(one for hand in hands for one in hand) == sorted(probes)
    assert len(hands) <= min(MOST, most) if probes else hands == [[]]
