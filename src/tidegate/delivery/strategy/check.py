"""What stands between a strategy and its use: what is to be filled in, what contradicts, what nobody can judge yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any, Literal

from tidegate.delivery.strategy.document import Entry
from tidegate.delivery.strategy.judges import MORE_IS_BETTER, judged, measure
from tidegate.delivery.strategy.model import Named, Statement, Strategy, Target
from tidegate.delivery.strategy.quantity import UNITS
from tidegate.delivery.strategy.read import GROUPS, Look

Kind = Literal["malformed", "to fill in", "contradiction", "not measurable", "not read", "may stay open"]
#: What keeps a strategy from being used; the others are told.
FATAL: tuple[Kind, ...] = ("malformed", "to fill in", "contradiction")


@dataclass(frozen=True)
class Finding:
    """One thing to know about a strategy."""

    kind: Kind
    line: int
    told: str

    @property
    def fatal(self) -> bool:
        """Whether the strategy cannot be used before it is dealt with."""
        return self.kind in FATAL


@dataclass(frozen=True)
class Field:
    """One value of a strategy, by its place in it; `optional` where it may be left as the template has it."""

    name: str
    line: int
    text: str
    optional: bool

    @property
    def blank(self) -> bool:
        """Whether it is still to be filled in."""
        return Entry(self.text, self.line).blank


def check(look: Look) -> list[Finding]:
    """Return all that is to be known, by line."""
    strategy = look.strategy
    found = [Finding("malformed", problem.line, str(problem).partition(": ")[2]) for problem in look.problems]
    found += _open(strategy)
    found += [Finding("contradiction", line, told) for rule in _RULES for line, told in rule(strategy)]
    found += _unmeasured(strategy)
    advice = "nothing reads it; say it in a section that is read, or in Additional Context"
    found += [Finding("not read", entry.line, f"{entry.text}: {advice}") for entry in look.unread]
    return sorted(dict.fromkeys(found), key=lambda finding: finding.line)


# ── Fields ───────────────────────────────────────────────────────────────────────────────────────────────────


def every_field(strategy: Strategy) -> list[Field]:
    """Return every value that a strategy has, with its place in it and its line, in the document's order."""
    return list(_fields("", strategy, optional=False))


def _fields(name: str, value: Any, *, optional: bool, forced: bool = False) -> Iterator[Field]:
    """Return the fields of a value; one that asks for itself only "if needed" may stay open, unless `forced`."""
    match value:
        case Entry(text=text, line=line):
            asked = "if needed" in text.casefold() or "if any" in text.casefold()
            yield Field(name, line, text, not forced and (optional or asked))
        case Statement(entry=entry) | Named(value=entry):
            yield from _fields(name, entry, optional=optional, forced=forced)
        case tuple():
            yield from _rows(name, value, optional=optional)
        case _ if is_dataclass(value) and not isinstance(value, type | Target):
            for one in fields(value):
                if not one.metadata.get("numbering"):
                    below = f"{name}.{one.name}" if name else one.name
                    may_be_open = optional or bool(one.metadata.get("optional"))
                    yield from _fields(below, getattr(value, one.name), optional=may_be_open, forced=forced)


def _rows(name: str, rows: tuple[Any, ...], *, optional: bool) -> Iterator[Field]:
    """Return the fields of rows: one that nobody has touched is none, but where one is needed, the first must be filled in."""
    blanks = [[field.blank for field in _fields("", row, optional=False)] for row in rows]
    needed = not optional and all(map(all, blanks))
    for number, (row, blank) in enumerate(zip(rows, blanks, strict=True), 1):
        place = f"{name}[{_called(row) or number}]"
        # A name that the form gives is no row to spare.
        untouched = all(blank) and not isinstance(row, Statement | Named)
        forced = untouched and needed and number == 1
        yield from _fields(place, row, optional=untouched, forced=forced)


def _called(row: Any) -> str:
    if not isinstance(row, Statement | Named):
        return ""
    group = f"{row.group}: " if isinstance(row, Statement) and row.group in GROUPS and row.name else ""
    return f"{group}{row.name}"


def _open(strategy: Strategy) -> Iterator[Finding]:
    for field in every_field(strategy):
        if field.blank:
            found = field.text or "nothing"
            told = f"{field.name}: found {found}"
            if field.optional:
                yield Finding("may stay open", field.line, told)
            else:
                yield Finding(
                    "to fill in", field.line, f"{told}, expected a value of your own; write one, or `N/A` and why"
                )
    if not strategy.features.p0:
        yield Finding(
            "to fill in", strategy.title.line, "features.p0: found none, expected at least one launch blocker"
        )


# ── Contradictions ───────────────────────────────────────────────────────────────────────────────────────────


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
            *(t for t in cost.forbidden.targets if t.bound.comparison in (">", ">=")),
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
        if before.line != target.line and before.bound.base != target.bound.base:
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


# ── What nobody can judge yet ────────────────────────────────────────────────────────────────────────────────


def _unmeasured(strategy: Strategy) -> Iterator[Finding]:
    for one in judged(strategy):
        if one.judge.missing:
            gate = f" ({one.judge.gate})" if one.judge.gate else ""
            what = f"{one.target.subject or one.measure} {one.target.bound}".strip() if one.target else one.text
            yield Finding("not measurable", one.line, f"{what}{gate}: {one.judge.missing}")
    for statement in strategy.success.launch:
        if statement.checked:
            yield Finding(
                "not read",
                statement.entry.line,
                f"{statement.entry.text!r} is ticked by hand: only a gate's verdict counts",
            )
