"""All that a report is written from, read once: the ledger's rows, what git tells, what lies under `.team/`; and how to ask it.

What a section says is not known here. A figure is the farthest off of its kind, and names its file; one that there is not has
a reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tidegate.delivery import board, checkout, ledger, manifest
from tidegate.delivery.board import Card, Move
from tidegate.delivery.ledger import Approval, Decided, Delivery, Done, Exhibit, Release
from tidegate.delivery.report.model import Absent, Cell, Figure
from tidegate.delivery.team import Team, load
from tidegate.delivery.work import folder, hash_of
from tidegate.errors import StackError, StrategyError
from tidegate.gates.verdict import Decision, Verdict
from tidegate.settings import Settings
from tidegate.stores.postgres import connect
from tidegate.strategy import read as read_strategy
from tidegate.strategy.judges import judged

#: Deliveries that a trend goes back, this one among them.
TREND = 12
_BRANCH = "ai-team"
_COMMITS = 1000
_FORMAT = "%H%x1f%an%x1f%cI%x1f%s%x1f%(trailers:key=Agent,valueonly,separator=%x2C)%x1f%(trailers:key=Wave,valueonly,separator=%x2C)"
_GRAVEST: tuple[Decision, ...] = ("FAIL", "WARN", "PASS")


@dataclass(frozen=True)
class Commit:
    """One commit: `agent` and `wave` are empty where a person wrote it; `issues` are those that its subject names."""

    sha: str
    author: str
    at: str
    subject: str
    agent: str
    wave: str

    @property
    def issues(self) -> list[str]:
        """The issues that its subject refers to."""
        return re.findall(r"#\d+", self.subject)


@dataclass(frozen=True)
class Facts:
    """What was read; `source` is the file, from `.team/` on, that holds the ledger's part of it."""

    root: Path
    team: Team
    delivery: Delivery
    work: list[Done]
    exhibits: list[Exhibit]
    verdicts: list[Verdict]
    decided: list[Decided]
    approvals: list[Approval]
    releases: list[Release]
    revision: str
    earlier: list[tuple[Delivery, list[Exhibit]]]
    delivered: list[Commit] | str
    written: list[Commit] | str
    remote: bool
    now: datetime
    source: str
    strategy_path: Path

    @cached_property
    def cards(self) -> list[Card]:
        """The board as it is."""
        return board.cards(self.team, self.work, self.verdicts, self.delivery)

    @cached_property
    def moves(self) -> list[Move]:
        """Every move of every card."""
        return board.moves(self.team, self.work, self.decided, self.delivery, self.now)

    def written_in(self, source: str) -> str:
        """Return where a target is written, from the checkout on."""
        return source.removeprefix(f"{self.root.parent}/")

    @property
    def until(self) -> datetime:
        """When the delivery ended, or now."""
        return self.delivery.finished_at or self.now

    @cached_property
    def targets(self) -> dict[tuple[str, str], str]:
        """What strategy and team ask of a probe's figures, where no gate has said so yet."""
        found: dict[tuple[str, str], str] = {}
        try:
            for one in judged(read_strategy(self.strategy_path)):
                asked = one.judge.needs or (str(one.target.bound) if one.target else "")
                if one.judge.probe and asked:
                    found.setdefault((one.judge.probe, one.judge.figure), asked)
        except (StrategyError, OSError):
            # What the team's file asks is known all the same.
            pass
        for gate in self.team.gates:
            for demand in self.team.demands(gate):
                found.setdefault((demand.probe, demand.figure), str(demand.bound))
        return found

    def findings(self, role: str) -> list[manifest.Finding]:
        """Return what is wrong with a role's manifest, its hashes computed again."""
        return manifest.verify(self.root, role, self.exhibits)

    def taken(self, probe: str, name: str = "", *, under: str = "") -> list[Exhibit]:
        """Return a probe's files, those that have a figure or lie at a path; each content once."""
        found = [one for one in self.exhibits if one.probe == probe and one.sha256 and one.path.startswith(under)]
        return list({one.sha256: one for one in found if not name or one.figures.get(name) is not None}.values())

    def link(self, one: Exhibit) -> str:
        """Return where a figure can be looked up: its file, or the ledger's rows where that is gone or was changed."""
        path = f"evidence/{one.path}"
        return path if hash_of(self.root / path) == one.sha256 else self.source

    def worst(self, probe: str, name: str, *, least: bool = False, under: str = "") -> tuple[float, Exhibit] | None:
        """Return a figure's value in the file that is farthest off, with that file."""
        found = [(number(one.figures[name]), one) for one in self.taken(probe, name, under=under)]
        return (min if least else max)(found, key=lambda pair: pair[0], default=None)

    def said(self, probe: str, name: str) -> tuple[Decision | None, str]:
        """Return what gates said of a figure, the gravest, and the target that it was held against."""
        of_it = [
            one for one in self.verdicts if one.rule == f"{probe} {name}" or one.rule.endswith(f"({probe} {name})")
        ]
        if not of_it:
            return None, self.targets.get((probe, name), "")
        # Of two who say the same, the one that the strategy asked for is told.
        of_it.sort(key=lambda one: (_GRAVEST.index(one.verdict), one.target_source.startswith("teams/")))
        return of_it[0].verdict, of_it[0].target

    def figure(
        self,
        label: str,
        probe: str,
        name: str,
        unit: str = "",
        *,
        least: bool = False,
        under: str = "",
        show: Callable[[float], str] | None = None,
    ) -> Figure | Absent:
        """Return a figure of a probe, or why there is none."""
        found = self.worst(probe, name, least=least, under=under)
        if found is None:
            return Absent(label, self.why(probe, name))
        value, one = found
        decision, target = self.said(probe, name)
        raw = one.figures[name]
        text = "yes" if raw is True else "no" if raw is False else (show or shown)(value)
        return Figure(label, text, unit, self.link(one), target, decision, self.doubt(one))

    def doubt(self, one: Exhibit) -> str:
        """Say what is wrong with a file of evidence, if something is."""
        found = hash_of(self.root / "evidence" / one.path)
        if found == one.sha256:
            return ""
        return "its file is gone" if found is None else "its file has changed since it was measured"

    def why(self, probe: str, name: str = "") -> str:
        """Say why a probe has left nothing, or not this figure."""
        reason = next((one.reason for one in self.exhibits if one.probe == probe and one.reason is not None), None)
        if reason is not None:
            return f"the probe {probe} could not run: {reason}"
        if self.taken(probe):
            return f"the probe {probe} left no figure {name}: {', '.join(one.path for one in self.taken(probe))}"
        takers = self.team.takers(probe)
        if not takers:
            return f"no role of teams/{self.team.path.name} takes the probe {probe}"
        code, wave = takers[0]
        last = [one for one in self.work if (one.role, one.wave) == (code, wave)]
        if not last:
            return f"the probe {probe} has not run yet: {code} takes it in wave {wave}"
        state = {
            "skipped": "was skipped", "failed": "failed", "running": "is at work", "done": "has ended its work",
        }[last[-1].state]  # fmt: skip
        told = f": {last[-1].reason}" if last[-1].reason else ""
        return f"the probe {probe} left nothing: {code} {state} in wave {wave}{told}"

    def trend(self, probe: str, name: str, *, least: bool = False, under: str = "") -> list[tuple[Delivery, float]]:
        """Return a figure in this and earlier deliveries, the oldest first."""
        found = []
        for delivery, exhibits in [*self.earlier, (self.delivery, self.exhibits)]:
            values = [
                number(one.figures[name])
                for one in exhibits
                if one.probe == probe
                and one.sha256
                and one.path.startswith(under)
                and one.figures.get(name) is not None
            ]
            if values:
                found.append((delivery, (min if least else max)(values)))
        return found

    def snapshot(self) -> dict[str, Any]:
        """Return the ledger's and git's part of what was read, for the file that figures without evidence link to."""
        rows = {
            "delivery": self.delivery, "work": self.work, "evidence": self.exhibits, "verdicts": self.decided,
            "approvals": self.approvals, "releases": self.releases, "cards": self.cards, "moves": self.moves,
            "commits_delivered": self.delivered, "commits_of_the_team": self.written,
            "earlier": [{"delivery": one, "evidence": exhibits} for one, exhibits in self.earlier],
        }  # fmt: skip
        told = {name: _plain(value) for name, value in rows.items()}
        for one in told["work"]:
            # Not by their paths: a hash behind a name such as DATA_ACCESS_GUIDE is a secret to who looks for secrets.
            one["artifacts"] = [{"path": path, "sha256": sha} for path, sha in one["artifacts"].items()]
        return {"read_at": self.now.isoformat(), "migration": self.revision, **told}


def read(settings: Settings, delivery_id: str, source: str) -> Facts:
    """Read everything about a delivery; raises UsageError when there is none of that id."""
    with connect(settings) as connection:
        # One moment for all rows: what a gate says meanwhile belongs to the next report.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        delivery = ledger.get(connection, delivery_id)
        before = [one for one in ledger.deliveries(connection, delivery.team) if one.started_at < delivery.started_at]
        revision = connection.execute("SELECT version_num FROM ops.migration").fetchone()
        rows: dict[str, Any] = {
            "work": ledger.work(connection, delivery_id),
            "exhibits": ledger.exhibits(connection, delivery_id),
            "verdicts": ledger.verdicts(connection, delivery_id),
            "decided": ledger.decided(connection, delivery_id),
            "approvals": ledger.approvals(connection, delivery_id),
            "releases": ledger.releases(connection, delivery_id),
            "earlier": [(one, ledger.exhibits(connection, one.delivery_id)) for one in reversed(before[: TREND - 1])],
        }
    project = settings.project
    return Facts(
        root=folder(settings),
        team=load(project, delivery.team),
        delivery=delivery,
        revision=revision["version_num"] if revision else "none",
        delivered=_commits(project, _delivered(project, delivery)),
        written=_commits(
            project,
            [f"--since={delivery.started_at.isoformat()}", f"refs/heads/{_BRANCH}", "--not", delivery.code_version],
        ),
        remote=_has_remote(project),
        now=datetime.now(UTC),
        source=source,
        strategy_path=project / delivery.strategy,
        **rows,
    )


def number(value: Any) -> float:
    """Return a figure as a number; of a list, how long it is."""
    return len(value) if isinstance(value, list | dict) else float(value)


def got(one: Exhibit, name: str) -> float | Cell:
    """Return a figure of a file as a number, or that it has none: pgbench that was turned away counts nothing."""
    value = one.figures.get(name)
    return Cell("not measured", number=True) if value is None else number(value)


def many(count: int, what: str) -> str:
    """Return how many of something there are, in words that fit one, too."""
    return f"{count:,} {what.removesuffix('s') if count == 1 else what}"


def shown(value: float) -> str:
    """Return a number as people read it: thousands apart, no more digits than tell something."""
    if value == int(value):
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def share(value: float) -> str:
    """Return a share of one as percent, without its sign."""
    return shown(round(100 * value, 2))


def mebibytes(value: float) -> str:
    """Return bytes in MiB, without the unit."""
    return shown(round(value / 2**20, 2))


def duration(seconds: float) -> str:
    """Return a time with its unit, in two parts at most."""
    if seconds < 60:
        return f"{shown(round(seconds, 1))} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def cells(values: Sequence[Any], link: str = "", verdict: Decision | None = None) -> tuple[Cell, ...]:
    """Return a row whose numbers are shown as numbers; the first cell carries the link, the last one the verdict."""
    return tuple(
        value
        if isinstance(value, Cell)
        else Cell(
            shown(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value),
            link if place == 0 else "",
            verdict if place == len(values) - 1 else None,
            isinstance(value, int | float),
        )
        for place, value in enumerate(values)
    )


def parts(found: Sequence[Figure | Absent]) -> tuple[tuple[Figure, ...], tuple[Absent, ...]]:
    """Return the figures that there are, and what there is not."""
    return tuple(one for one in found if isinstance(one, Figure)), tuple(_once(found))


def _once(found: Sequence[Figure | Absent]) -> Iterator[Absent]:
    """Yield each reason once, with all that it keeps away."""
    by_why: dict[str, list[str]] = {}
    for one in found:
        if isinstance(one, Absent):
            by_why.setdefault(one.why, []).append(one.what)
    for why, what in by_why.items():
        yield Absent(", ".join(what), why)


def _delivered(project: Path, delivery: Delivery) -> list[str]:
    try:
        tag = checkout.last_tag(project, delivery.code_version)
    except StackError:
        tag = None
    return [f"{tag}..{delivery.code_version}" if tag else delivery.code_version]


def _commits(project: Path, words: list[str]) -> list[Commit] | str:
    """Return commits, the newest first, or why git names none."""
    try:
        told = checkout.git(project, "log", f"--max-count={_COMMITS}", f"--format={_FORMAT}", *words)
    except StackError as error:
        return str(error)
    return [Commit(*line.split("\x1f")) for line in told.splitlines()]


def _has_remote(project: Path) -> bool:
    try:
        return bool(checkout.git(project, "remote"))
    except StackError:
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    told = asdict(value) if hasattr(value, "__dataclass_fields__") else value
    return json.loads(json.dumps(told, default=str))
