"""What stands between a strategy and its use: what is to be filled in, what contradicts, what nobody can judge yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tidegate.strategy.contradictions import contradictions
from tidegate.strategy.fields import every_field
from tidegate.strategy.judges import judged
from tidegate.strategy.model import Strategy
from tidegate.strategy.read import Look

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


def check(look: Look) -> list[Finding]:
    """Return all that is to be known, by line."""
    strategy = look.strategy
    found = [Finding("malformed", problem.line, str(problem).partition(": ")[2]) for problem in look.problems]
    found += _open(strategy)
    found += [Finding("contradiction", line, told) for line, told in contradictions(strategy)]
    found += _unmeasured(strategy)
    advice = "nothing reads it; say it in a section that is read, or in Additional Context"
    found += [Finding("not read", entry.line, f"{entry.text}: {advice}") for entry in look.unread]
    return sorted(dict.fromkeys(found), key=lambda finding: finding.line)


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


def _unmeasured(strategy: Strategy) -> Iterator[Finding]:
    for one in judged(strategy):
        if one.judge.missing:
            gate = f" ({one.judge.gate})" if one.judge.gate else ""
            what = f"{one.target.subject or one.measure} {one.target.bound}".strip() if one.target else one.text
            waived = f"; waived by {one.waiver.by}: {one.waiver.why}" if one.waiver else ""
            yield Finding("not measurable", one.line, f"{what}{gate}: {one.judge.missing}{waived}")
    for statement in strategy.success.launch:
        if statement.checked:
            yield Finding(
                "not read",
                statement.entry.line,
                f"{statement.entry.text!r} is ticked by hand: only a gate's verdict counts",
            )
