"""When a role's probes are split among several who work at once, by the strategy's rules; what was added is logged.

How many there are never changes what is measured, only how long it takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tidegate.delivery import ledger
from tidegate.delivery.ledger import Done
from tidegate.delivery.markdown import table
from tidegate.delivery.work import Work
from tidegate.strategy.model import Strategy

#: More than this at once no DAG lets run.
MOST = 15
LOG = "SCALING_LOG.md"
#: A wave is late when it takes so much longer than planned; no two runs take the same time.
_LATE = 1.2


@dataclass(frozen=True)
class Trigger:
    """A rule of the strategy that holds now: what was found, and the line of the rule."""

    told: str
    line: int


def triggers(strategy: Strategy, done: Sequence[Done], refused: int, planned: dict[str, float]) -> list[Trigger]:
    """Return the rules that call for more hands; none where the strategy allows nobody to be added.

    `refused` counts the rules that gates refuse, `planned` has the seconds that each wave was planned to take.
    """
    if not strategy.scaling.allowed.text.lower().startswith("yes"):
        return []
    return list(_held(strategy, done, refused, planned))


def parts(probes: Sequence[str], strategy: Strategy, found: Sequence[Trigger]) -> list[list[str]]:
    """Return the probes in as many parts as hands work on them: one, unless a rule calls for more."""
    most = min(MOST, strategy.scaling.most or MOST, len(probes))
    hands = max(most, 1) if found else 1
    return [list(probes[first::hands]) for first in range(hands)]


def log(work: Work, found: Sequence[Trigger], hands: int) -> str:
    """Return SCALING_LOG.md with one more row: who was added, and which rule of the strategy called for it."""
    path = work.folder / LOG
    rows = re.findall(r"^\| (\d{4}-.*) \|$", path.read_text(encoding="utf-8"), re.M) if path.exists() else []
    row = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}", work.delivery.delivery_id, work.wave, work.role.code, work.attempt, hands - 1,
        "; ".join(f"{one.told} ({work.delivery.strategy}:{one.line})" for one in found),
    )  # fmt: skip
    known = [[cell.strip() for cell in line.split(" | ")] for line in rows]
    if [str(cell) for cell in row[1:5]] not in [cells[1:5] for cells in known]:
        known.append([str(cell) for cell in row])
    columns = ("when (UTC)", "delivery", "wave", "role", "attempt", "added", "because")
    return "\n".join(["# Added hands", "", *table(columns, known)])


def _held(strategy: Strategy, done: Sequence[Done], refused: int, planned: dict[str, float]) -> Iterator[Trigger]:
    for rule in strategy.scaling.triggers:
        words, line = rule.entry.text, rule.entry.line
        if re.search(r"\bXL\b", words):
            large = [
                f.name.text for f in strategy.features.p0 if f.complexity and f.complexity.text.strip().upper() == "XL"
            ]
            if large:
                yield Trigger(f"{', '.join(large)} is of complexity XL", line)
        elif re.search(r"\blater\b|behind", words):
            for wave, seconds in ledger.seconds_by_wave(done).items():
                if wave in planned and seconds > planned[wave] * _LATE:
                    yield Trigger(f"wave {wave} took {seconds:.0f} s, planned were {planned[wave]:.0f}", line)
                    break
        elif any(target.bound.holds(refused, "") for target in rule.targets):
            yield Trigger(f"gates refuse {refused} rules", line)
