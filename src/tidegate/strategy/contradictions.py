"""What in a strategy contradicts itself: each rule a function that yields lines and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from tidegate.strategy.judges import MORE_IS_BETTER, judged, measure
from tidegate.strategy.model import Statement, Strategy, Target
from tidegate.strategy.quantity import UNITS


def contradictions(strategy: Strategy) -> Iterator[tuple[int, str]]:
    """Yield what contradicts: the line of the later one, and both of them in a sentence."""
    for rule in _RULES:
        yield from rule(strategy)


def _milestones_after_the_deadline(strategy: Strategy) -> Iterator[tuple[int, str]]:
    deadline = strategy.timeline.deadline_day
    for milestone in strategy.timeline.milestones:
        if deadline and milestone.day and milestone.day > deadline:
            place = f"the deadline {deadline} (line {strategy.timeline.deadline.line})"
            yield (
                milestone.due.line,
                f"milestone {milestone.name.text!r} is due {milestone.day}, after {place}: move one of them",
            )


def _milestones_out_of_order(strategy: Strategy) -> Iterator[tuple[int, str]]:
    for one, other in pairwise(m for m in strategy.timeline.milestones if m.day):
        if one.day and other.day and other.day < one.day:
            yield (
                other.due.line,
                f"milestone {other.name.text!r} is due {other.day}, before the one above it ({one.day}): put them in order",
            )


def _approval_above_tolerance(strategy: Strategy) -> Iterator[tuple[int, str]]:
    cost = strategy.cost
    for threshold in cost.auto_approve.targets:
        for limit in (
            *cost.tolerance.targets,
            *(t for t in cost.forbidden.targets if t.bound.is_floor),
        ):
            shown = f"{threshold.bound.unit.symbol}{threshold.bound.value}"
            other = f"{limit.bound} of line {limit.line}"
            if limit.bound.unit != threshold.bound.unit:
                yield (
                    threshold.line,
                    f"{shown} is approved without asking, and {other} is another currency: write one of them",
                )
            elif limit.bound.base < threshold.bound.base:
                yield threshold.line, f"up to {shown} is approved without asking, which is above {other}: lower it"


def _blockers_without_criteria(strategy: Strategy) -> Iterator[tuple[int, str]]:
    for feature in strategy.features.p0:
        if not feature.name.blank and (feature.acceptance is None or feature.acceptance.blank):
            yield (
                feature.name.line,
                f"P0 feature {feature.name.text!r} has no acceptance criteria: nobody could tell when it is done",
            )


def _stated_twice(strategy: Strategy) -> Iterator[tuple[int, str]]:
    first: dict[tuple[str, str], Target] = {}
    for text, target in _targets(strategy):
        known = measure(target, text)
        if known is None or target.purpose != "target":
            continue
        before = first.setdefault((known.name, target.bound.unit.dimension), target)
        # A sentence may state a number for each of several conditions.
        apart = before.line == target.line and before.condition != target.condition
        if not apart and before.bound.base != target.bound.base:
            where = f"{before.bound} in line {before.line}"
            yield (
                target.line,
                f"{known.name} is {target.bound} here and {where}: write the same number, or one of them only",
            )


def _alarms_within_targets(strategy: Strategy) -> Iterator[tuple[int, str]]:
    found = [(known.name, target) for text, target in _targets(strategy) if (known := measure(target, text))]
    for name, alert in found:
        for other, target in found:
            same = other == name and alert.purpose == "alert" and target.purpose == "target"
            if (
                same
                and alert.bound.unit.dimension == target.bound.unit.dimension
                and alert.bound.base < target.bound.base
            ):
                yield (
                    alert.line,
                    f"{name} alerts at {alert.bound}, which the target of line {target.line} ({target.bound}) allows: raise it",
                )


def _targets_that_ask_for_the_worse(strategy: Strategy) -> Iterator[tuple[int, str]]:
    for text, target in _targets(strategy):
        sign, dimension = target.bound.comparison, target.bound.unit.dimension
        known = measure(target, text)
        more = dimension == "rate" or (known is not None and known.name in MORE_IS_BETTER)
        slow = dimension == "time" and sign in (">", ">=")
        if target.purpose == "target" and (slow or (more and sign in ("<", "<="))):
            yield (
                target.line,
                f"{target.subject or text} {target.bound} is met by the worse ones: turn the comparison round",
            )


def _units_that_no_figure_has(strategy: Strategy) -> Iterator[tuple[int, str]]:
    for one in judged(strategy):
        if one.target and one.judge.unit is not None:
            dimension = UNITS[one.judge.unit].dimension
            if dimension != one.target.bound.unit.dimension:
                yield (
                    one.line,
                    f"{one.measure} is measured as {dimension}, and {one.target.bound} is none: correct the unit",
                )


_RULES: tuple[Callable[[Strategy], Iterator[tuple[int, str]]], ...] = (
    _milestones_after_the_deadline, _milestones_out_of_order, _approval_above_tolerance, _blockers_without_criteria, _stated_twice,
    _alarms_within_targets, _targets_that_ask_for_the_worse, _units_that_no_figure_has,
)  # fmt: skip


def _targets(strategy: Strategy) -> Iterator[tuple[str, Target]]:
    statements: tuple[Statement, ...] = (*strategy.requirements, strategy.testing.coverage, *strategy.success.launch)
    for statement in statements:
        for target in statement.targets:
            yield statement.entry.text, target
    for kpi in strategy.success.kpis:
        for target in kpi.targets:
            yield f"{kpi.metric.text} {kpi.target.text}", target
