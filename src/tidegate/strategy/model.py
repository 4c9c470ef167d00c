"""What a strategy says, typed; every value knows its line. How it is written is not known here, nor whether it is good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

from tidegate.strategy.document import Entry, Item
from tidegate.strategy.quantity import Bound

#: Of a field that may be left as it is in the template.
OPTIONAL: Mapping[str, Any] = {"optional": True}
#: Of a field that merely counts rows.
NUMBERING: Mapping[str, Any] = {"numbering": True}

Priority = Literal["P0", "P1", "P2"]
#: What a number is for: to be reached, to be told of when it is passed, to be reckoned with, or to be paid.
Purpose = Literal["target", "alert", "expected", "money", "trigger", "certainty"]


@dataclass(frozen=True)
class Target:
    """A number of the strategy; `subject` says of what, `condition` when or where it holds.

    `implied` is true where the comparison was not written: `RTO: 15 minutes` is at most that, `Uptime: 99.9 %` at least.
    """

    subject: str
    bound: Bound
    line: int
    condition: str = ""
    implied: bool = False
    purpose: Purpose = "target"


@dataclass(frozen=True)
class Statement:
    """A sentence with the numbers in it; `name` is what stands before its colon, `group` the label above it."""

    group: str
    name: str
    entry: Entry
    targets: tuple[Target, ...] = ()
    checked: bool | None = None


@dataclass(frozen=True)
class Named:
    """A value under a name that the document chooses, such as `Cache` or `Backup storage`."""

    name: str
    value: Entry
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True)
class Identity:
    """What is to be built, and why."""

    name: Entry
    vision: Entry
    problem: Entry
    outcome: Entry
    kind: Entry
    repository: Entry


@dataclass(frozen=True)
class Persona:
    """Somebody who will use it."""

    name: Entry
    role: Entry
    pains: Entry
    goals: Entry
    savvy: Entry


@dataclass(frozen=True)
class Audience:
    """For whom it is, and for whom not."""

    primary: Entry
    secondary: Entry = field(metadata=OPTIONAL)
    personas: tuple[Persona, ...]
    anti_users: Entry = field(metadata=OPTIONAL)


@dataclass(frozen=True)
class Feature:
    """A feature; those of P2 need neither acceptance criteria nor an estimate."""

    number: Entry = field(metadata=NUMBERING)
    name: Entry
    description: Entry
    acceptance: Entry | None = None
    complexity: Entry | None = None


@dataclass(frozen=True)
class Features:
    """What is built, the launch blockers first."""

    p0: tuple[Feature, ...]
    p1: tuple[Feature, ...] = field(default=(), metadata=OPTIONAL)
    p2: tuple[Feature, ...] = field(default=(), metadata=OPTIONAL)


@dataclass(frozen=True)
class Integration:
    """A service that is spoken to: how one is let in, and how much one may ask."""

    service: Entry
    purpose: Entry
    auth: Entry
    limits: Entry


@dataclass(frozen=True)
class Technical:
    """What it is built with and where it runs."""

    stack: tuple[Named, ...]
    hosting: tuple[Named, ...]
    integrations: tuple[Integration, ...]
    codebase: Entry
    package_manager: Entry
    structure: Entry
    linting: tuple[Item, ...] = field(default=(), metadata=OPTIONAL)


@dataclass(frozen=True)
class Testing:
    """What is tested, and what has to stand before a change goes in."""

    coverage: Statement
    types: tuple[Statement, ...]
    ci: tuple[Item, ...]
    tools: Entry


@dataclass(frozen=True)
class Milestone:
    """A milestone; `day` is None while its date is not one."""

    number: Entry = field(metadata=NUMBERING)
    name: Entry
    due: Entry
    deliverables: Entry
    verified_by: Entry
    day: date | None = None


@dataclass(frozen=True)
class Timeline:
    """Until when, in which steps, for how much; `deadline_day` is None where the deadline is flexible."""

    deadline: Entry
    milestones: tuple[Milestone, ...]
    budget: tuple[Named, ...]
    deadline_day: date | None = None


@dataclass(frozen=True)
class Payment:
    """A service that may cost something."""

    service: Entry
    cost: Entry
    method: Entry
    approved: Entry


@dataclass(frozen=True)
class Cost:
    """Who may spend what; nothing above `auto_approve` goes on without a person."""

    tolerance: Statement
    auto_approve: Statement
    needs_approval: Entry
    forbidden: Statement
    services: tuple[Payment, ...]
    detail: Entry
    over_estimate: Entry


@dataclass(frozen=True)
class Kpi:
    """A measure of success after the launch."""

    metric: Entry
    target: Entry
    method: Entry
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True)
class Success:
    """When it may be launched, what counts afterwards, and when a piece of work is done."""

    launch: tuple[Statement, ...]
    kpis: tuple[Kpi, ...]
    done: Entry


@dataclass(frozen=True)
class Reference:
    """A product to learn from."""

    product: Entry
    learn: Entry
    avoid: Entry


@dataclass(frozen=True)
class References:
    """What others have done."""

    products: tuple[Reference, ...] = field(metadata=OPTIONAL)
    design: Entry = field(metadata=OPTIONAL)
    technical: Entry = field(metadata=OPTIONAL)
    internal: Entry | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class OutOfScope:
    """What is not built: never, or not yet."""

    never: tuple[Item, ...]
    deferred: tuple[Item, ...] = field(metadata=OPTIONAL)


@dataclass(frozen=True)
class Risk:
    """What may go wrong: how probable and how grave (H, M, L), and what is done against it."""

    risk: Entry
    probability: Entry
    impact: Entry
    mitigation: Entry


@dataclass(frozen=True)
class Constraints:
    """Risks, and what must or should hold whatever happens."""

    risks: tuple[Risk, ...]
    hard: tuple[Item, ...]
    soft: tuple[Item, ...] = field(metadata=OPTIONAL)


@dataclass(frozen=True)
class Scaling:
    """When, and by what, a team may grow; `most` is how many may work at once."""

    allowed: Entry
    max_agents: Entry
    triggers: tuple[Statement, ...]
    types: tuple[Item, ...]
    constraints: tuple[Item, ...]
    most: int | None = None


@dataclass(frozen=True)
class Proof:
    """What has to be shown, how often, and in which form at the end."""

    evidence: tuple[Item, ...]
    reporting: Entry
    deliverable: Entry


@dataclass(frozen=True)
class Preservation:
    """How nothing gets lost, and what is done when somebody is not sure."""

    rules: tuple[Named, ...]
    threshold: Statement
    response: Entry
    format: Entry
    unsure: Entry | None = None


@dataclass(frozen=True)
class AutoSync:
    """What is committed where by itself, and who may let it into main."""

    frequency: Entry
    push: Entry
    branch: Entry
    merge: Entry
    what: tuple[Item, ...]


@dataclass(frozen=True)
class Strategy:
    """A strategy document of the form v3.1, in its order."""

    path: Path
    title: Entry
    team: Entry
    identity: Identity
    audience: Audience
    features: Features
    technical: Technical
    requirements: tuple[Statement, ...]
    testing: Testing
    timeline: Timeline
    cost: Cost
    success: Success
    references: References
    out_of_scope: OutOfScope
    constraints: Constraints
    scaling: Scaling
    proof: Proof
    preservation: Preservation
    autosync: AutoSync
    context: Entry = field(metadata=OPTIONAL)

    @property
    def targets(self) -> tuple[Target, ...]:
        """What has to be reached: of the requirements, the coverage, the launch and the KPIs, in the document's order."""
        said = [one.targets for one in (*self.requirements, self.testing.coverage, *self.success.launch)]
        said += [kpi.targets for kpi in self.success.kpis]
        return tuple(target for targets in said for target in targets if target.purpose == "target")
