"""What the project manager writes: charter, milestones, timeline, cost, risks and the board's issues, from strategy and ledger."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from tidegate.delivery import github, ledger, scaling, thoughts
from tidegate.delivery.cited import shown
from tidegate.delivery.ledger import Delivery, Exhibit
from tidegate.delivery.markdown import head, link, table
from tidegate.delivery.team import Team
from tidegate.delivery.work import Work
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect
from tidegate.strategy.judges import judged
from tidegate.strategy.model import Strategy, Target

#: Of a risk: how grave the letters of probability and impact are together.
_GRAVITY = {"H": 3, "M": 2, "L": 1}
#: Figures that say how fast something is: neither how fast it should be, nor how long it ran or took to measure.
_TIMES = re.compile(r"(?!target_|limit_|uptime_).+_(ms|seconds)")
_RATES = ("tps", "per_second", "hit_rate", "hit_ratio")


@dataclass(frozen=True)
class Cost:
    """What one wave may cost, in dollars, and what for."""

    wave: str
    dollars: Decimal
    told: str


@dataclass(frozen=True)
class Estimate:
    """What a delivery may cost, wave by wave; `models` is what those of a connection may, in all waves together."""

    waves: tuple[Cost, ...]
    models: Decimal = Decimal(0)

    @property
    def total(self) -> Decimal:
        """The sum, in dollars."""
        return sum((one.dollars for one in self.waves), self.models)


def estimate(strategy: Strategy, team: Team, models: Decimal = Decimal(0)) -> Estimate:
    """Return what a delivery of this strategy may cost: what its budget names for each wave, and nothing that is not used.

    Programs of this machine measure and write, so a wave costs what the strategy's infrastructure does, by its share of a
    month. No service that asks for payment is called, but for the `models` of a connection, where there is one.
    """
    budget = [
        (named, target) for named in strategy.timeline.budget for target in named.targets if target.purpose == "money"
    ]
    monthly = sum((target.bound.base for _, target in budget), Decimal(0))
    # A quarter of an hour, which is what a delivery may take, of a month of 730 hours.
    share = (monthly * Decimal("0.25") / 730 / len(team.waves)).quantize(Decimal("0.01"))
    told = ", ".join(f"{named.name} {named.value.text} (line {named.value.line})" for named, _ in budget)
    return Estimate(
        tuple(Cost(wave.wave, share, told or "the strategy names no budget") for wave in team.waves), models
    )


def cost_estimation(work: Work) -> str:
    """COST_ESTIMATION.md: what each wave may cost, what it took before, and what needs a person."""
    models = thoughts.expected(work.settings, work.strategy, work.delivery.delivery_id)
    cost, found = work.strategy.cost, estimate(work.strategy, work.team, models)
    took = planned(work.settings, work.team)
    rows = [
        (
            one.wave,
            work.team.wave(one.wave).name,
            ", ".join(work.team.wave(one.wave).roles),
            f"${one.dollars}",
            took.get(one.wave, "not run yet"),
        )
        for one in found.waves
    ]
    rules = [
        ("allowed without a person", cost.auto_approve.entry), ("a person approves", cost.needs_approval),
        ("never without one", cost.forbidden.entry), ("budget for models", cost.tolerance.entry), ("when it costs more", cost.over_estimate),
    ]  # fmt: skip
    return "\n".join(
        [
            *head(work, f"Cost estimation: ${found.total}"),
            f"Each wave is priced at its share of {found.waves[0].told}.",
            "",
            *_thought(work, found),
            *table(("wave", "name", "roles", "estimate", "seconds in the last delivery"), rows),
            *table(("rule", "strategy says", "line"), [(name, entry.text, entry.line) for name, entry in rules]),
            *_added(work),
            *table(
                ("service", "expected cost", "paid by", "approved beforehand"),
                [(s.service.text, s.cost.text, s.method.text, s.approved.text) for s in cost.services],
            ),
        ]
    )  # fmt: skip


def project_charter(work: Work) -> str:
    """PROJECT_CHARTER.md: what is delivered and why, by whom, held against which targets."""
    strategy, identity = work.strategy, work.strategy.identity
    known = judged(strategy)
    return "\n".join(
        [
            *head(work, f"Charter: {identity.name.text}"),
            identity.vision.text,
            "",
            f"**Problem.** {identity.problem.text}",
            "",
            f"**Outcome.** {identity.outcome.text}",
            "",
            "## What it has to have",
            *table(
                ("#", "feature", "accepted when", "size"),
                [(f.number.text, f.name.text, f.acceptance.text if f.acceptance else "", f.complexity.text if f.complexity else "")
                 for f in (*strategy.features.p0, *strategy.features.p1)],
            ),
            "## What it is held against",
            *table(
                ("line", "says", "gate", "measured by"),
                [(one.line, one.text, one.judge.gate.value if one.judge.gate else "none",
                  f"{one.judge.probe} {one.judge.figure}".strip() or f"nothing yet: {one.judge.missing}") for one in known],
            ),
            "## What it must never do",
            *(f"- {item.text}" for item in strategy.constraints.hard),
            "",
            "## Out of scope",
            *(f"- {item.text}" for item in (*strategy.out_of_scope.never, *strategy.out_of_scope.deferred)),
            "",
            "## Who",
            *table(("role", "name", "answers for"), [(code, role.name, role.does) for code, role in work.team.roles.items()]),
        ]
    )  # fmt: skip


def milestones(work: Work) -> str:
    """MILESTONES.md: the strategy's milestones with the days that are left."""
    today = work.delivery.started_at.date()
    rows = [
        (
            m.number.text, m.name.text, m.due.text, f"{(m.day - today).days:+d} days" if m.day else "no date", m.deliverables.text,
            m.verified_by.text, m.due.line,
        )
        for m in work.strategy.timeline.milestones
    ]  # fmt: skip
    late = [row[0] for row in rows if row[3].startswith("-")]
    return "\n".join(
        [
            *head(work, f"Milestones: {len(rows)}, {len(late)} overdue on {today}"),
            *table(("#", "milestone", "due", "from today", "delivers", "verified by", "line"), rows),
            f"Deadline: {work.strategy.timeline.deadline.text} (line {work.strategy.timeline.deadline.line}).",
        ]
    )


def timeline(work: Work) -> str:
    """TIMELINE.md: the waves in their order as a Gantt chart, each as long as it took in the last delivery."""
    took = planned(work.settings, work.team)
    lines = [
        "gantt",
        "    dateFormat X",
        "    axisFormat %M:%S",
        f"    title {work.team.title}, {work.delivery.delivery_id}",
    ]
    clock = 0.0
    for wave in work.team.waves:
        seconds = took.get(wave.wave, 60.0)
        begins = clock
        # One that runs beside another holds up nothing before the release.
        clock = begins if wave.beside else begins + seconds
        lines += [
            f"    section Wave {wave.wave}",
            f"    {wave.name} ({', '.join(wave.roles)}) :{begins:.0f}, {begins + seconds:.0f}",
        ]
    known = "as long as in the last delivery" if took else "a minute each: no delivery of this team has ended before"
    return "\n".join(
        [*head(work, f"Timeline: {clock / 60:.0f} min"), f"Waves are drawn {known}.", "", "```mermaid", *lines, "```"]
    )


def risk_register(work: Work) -> str:
    """RISK_REGISTER.md: the strategy's risks, the gravest first, each with what has been measured against it."""
    rows = sorted(
        (
            (
                _GRAVITY.get(r.probability.text[:1], 0) * _GRAVITY.get(r.impact.text[:1], 0), r.risk.text, r.probability.text, r.impact.text,
                r.mitigation.text, r.risk.line,
            )
            for r in work.strategy.constraints.risks
        ),
        reverse=True,
    )  # fmt: skip
    unmeasured = [one for one in judged(work.strategy) if one.judge.missing and one.judge.gate]
    return "\n".join(
        [
            *head(work, f"Risks: {len(rows)} known, {len(unmeasured)} targets unmeasured"),
            *table(("gravity", "risk", "probability", "impact", "against it", "line"), rows),
            "## Targets that nothing measures",
            *table(("line", "says", "gate that refuses", "why"), [(o.line, o.text, o.judge.gate.value if o.judge.gate else "", o.judge.missing) for o in unmeasured]),
        ]
    )  # fmt: skip


def github_issues(work: Work) -> str:
    """GITHUB_ISSUES.md: the commands that make project, labels, milestones and issues, done or ready to be run."""
    return github.issues(work)


def baseline_metrics(work: Work) -> str:
    """baseline_metrics.md: each speed, and each number that the strategy sets a target for, before this delivery and now."""
    with connect(work.settings) as connection:
        last = _last(connection, work.team)
        taken = ledger.exhibits(connection, last.delivery_id) if last else []
    targets = {
        (one.judge.probe, one.judge.figure): one.target
        for one in judged(work.strategy)
        if one.target and one.judge.unit
    }
    before, now = _worst(taken, targets), _worst(work.exhibits, targets)
    rows = []
    for key in sorted(before | now, key=lambda one: (one not in targets, one)):
        (was, _), (value, exhibit) = before.get(key, (None, None)), now.get(key, (None, None))
        change = f"{(value - was) / was:+.0%}" if was and value is not None else ""
        _, wave = next(iter(work.team.takers(key[0])), ("", work.wave))
        milestone = github.milestone_of(work.team, work.strategy, wave)
        target = f"{targets[key].bound} (line {targets[key].line})" if key in targets else ""
        rows.append(
            [f"{key[0]} {key[1]}", target, _number(was), _number(value), change, milestone, link(exhibit, 2) if exhibit else ""]
        )  # fmt: skip
    told = f"`{last.delivery_id}`, commit `{last.code_version[:12]}`" if last else "no delivery yet"
    return "\n".join(
        [
            *head(work, f"Performance baselines: {len(before)} measured before, {len(now)} in this delivery"),
            f"Before is the team's last delivery that ended well: {told}. Of several files of a probe the worst speaks.",
            "",
            *table(["figure", "target", "before", "now", "change", "milestone", "evidence"], rows),
        ]
    )


def _worst(
    exhibits: Iterable[Exhibit], targets: Mapping[tuple[str, str], Target]
) -> dict[tuple[str, str], tuple[float, Exhibit]]:
    """Return the worst of each figure that is a speed or has a target, with its file, by probe and figure."""
    found = dict[tuple[str, str], tuple[float, Exhibit]]()
    for one in exhibits:
        for name, value in one.figures.items():
            key, is_rate = (one.probe, name), name.endswith(_RATES)
            if not isinstance(value, int | float) or not (key in targets or is_rate or _TIMES.fullmatch(name)):
                continue
            worse = min if (targets[key].bound.is_floor if key in targets else is_rate) else max
            found[key] = worse(found.get(key, (value, one)), (value, one), key=lambda pair: pair[0])
    return found


def _number(value: float | None) -> str:
    return "not measured" if value is None else shown(value)


def _thought(work: Work, found: Estimate) -> list[str]:
    """Return what models may cost, where a connection names one."""
    if not found.models:
        return []
    line = work.strategy.cost.tolerance.entry.line
    return [
        f"The model of the connection `{work.settings.team_model_connection}` may cost ${found.models} in all waves together "
        f"({work.delivery.strategy}:{line}).",
        "",
    ]


def _added(work: Work) -> list[str]:
    """Return who was added to this delivery, as the log of that has it."""
    path = work.folder / scaling.LOG
    rows = (
        [line for line in path.read_text(encoding="utf-8").splitlines() if work.delivery.delivery_id in line]
        if path.exists()
        else []
    )
    if not rows:
        return []
    columns = "| when (UTC) | delivery | wave | role | attempt | added | because |"
    return ["## Added since, at no price of their own", "", columns, "|---|---|---|---|---|---|---|", *rows, ""]


def planned(settings: Settings, team: Team) -> dict[str, float]:
    """Return the seconds that each wave is planned to take: what it took in the team's newest delivery that ended well."""
    with connect(settings) as connection:
        last = _last(connection, team)
        done = ledger.work(connection, last.delivery_id) if last else []
    return ledger.seconds_by_wave(done)


def _last(connection: Connection, team: Team) -> Delivery | None:
    """Return the team's newest delivery that ended well."""
    return next((one for one in ledger.deliveries(connection, team.name) if one.state == "success"), None)
