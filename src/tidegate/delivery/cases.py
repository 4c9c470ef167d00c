"""A delivery as its steps find it, with its team and its strategy, and the case that its gates judge.

Everything is read here, from the ledger and the team's files as they are at this moment; nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tidegate.delivery import approval, ledger, manifest, team, work
from tidegate.delivery.judge import Case, may_change
from tidegate.delivery.ledger import Delivery
from tidegate.delivery.roles import qa
from tidegate.delivery.team import Role, Team
from tidegate.delivery.work import Work
from tidegate.errors import TerminalError
from tidegate.gates.verdict import Verdict
from tidegate.settings import Settings
from tidegate.stores.postgres import connect
from tidegate.strategy import read
from tidegate.strategy.gate import Gate
from tidegate.strategy.model import Strategy


@dataclass(frozen=True)
class Place:
    """A delivery with its team and its strategy, as every step finds them."""

    settings: Settings
    team: Team
    strategy: Strategy
    delivery: Delivery

    def role(self, code: str, wave: str, attempt: int = 1) -> Work:
        """Return the work of a role, with what gates have refused so far."""
        with connect(self.settings) as connection:
            said = ledger.verdicts(connection, self.delivery.delivery_id)
        failing = tuple(one for one in said if one.verdict == "FAIL")
        role: Role = self.team.roles[code]
        return Work(self.settings, self.team, self.strategy, self.delivery, role, wave, attempt, failing)


def find(settings: Settings, delivery_id: str) -> Place:
    """Return a delivery with its team and strategy."""
    with connect(settings) as connection:
        delivery = ledger.get(connection, delivery_id)
    found = team.load(settings.project, delivery.team)
    strategy = read(inside(settings, delivery.strategy))
    return Place(settings, found, replace(strategy, path=Path(delivery.strategy)), delivery)


def gather(place: Place) -> Case:
    """Return all that gates judge by, as it is at this moment: the ledger, and the team's files."""
    with connect(place.settings) as connection:
        identity = place.delivery.delivery_id
        exhibits, done = ledger.exhibits(connection, identity), ledger.work(connection, identity)
        said, given = ledger.verdicts(connection, identity), ledger.approvals(connection, identity)
    root = work.folder(place.settings)
    named = {path for one in done for path in one.artifacts} | {
        path for g in place.team.gates.values() for path in g.files
    }
    files = {path: sha for path in named if (sha := work.hash_of(root / path))}
    signed = {
        path: qa.signed((root / path).read_text(encoding="utf-8"))
        for path in (rules.signed for rules in place.team.gates.values())
        if path in files
    }
    subjects = {
        kind: _subject(place, kind)
        for kind in (rules.approval for rules in place.team.gates.values())
        if kind and any(a.kind == kind for a in given)
    }
    return Case(
        place.team, place.strategy, tuple(exhibits), tuple(done), tuple(said), tuple(given), files,
        tuple(found for code in place.team.roles for found in manifest.verify(root, code, exhibits)), subjects, signed,
    )  # fmt: skip


def failing(case: Case) -> list[Verdict]:
    """Return the rules that keep the delivery in its loop; that another gate refuses is no rule of its own."""
    gates = {gate.value: rules for gate, rules in case.team.gates.items() if case.team.is_looped(rules.wave)}
    echoes = {*gates, *(rules.signed for rules in gates.values())}
    return [v for v in case.verdicts if v.gate in gates and v.rule not in echoes and v.verdict == "FAIL"]


def responsible(case: Case, failed: Sequence[Verdict] | None = None) -> list[str]:
    """Return the roles that work again on what is refused: whose artifact or probe it is, else whom the gate names.

    Nobody is where no probe measures what is asked for: that a person mends.
    """
    found: set[str] = set()
    for verdict in filter(may_change, failing(case) if failed is None else failed):
        named = case.team.gates[Gate(verdict.gate)].again
        words = set(re.findall(r"[A-Za-z_]+", verdict.rule))
        whose = {code for code in named if code in words or words & case.team.roles[code].probes}
        found |= whose or set(named)
    return [code for code in case.team.roles if code in found]


def _subject(place: Place, kind: str) -> str:
    try:
        return approval.subject(place.settings, place.delivery, kind).sha256  # type: ignore[arg-type]
    except TerminalError:
        # Not written yet, or something that it stands for cannot be read any more: a migration without its way back.
        return "gone"


def inside(settings: Settings, path: str) -> Path:
    """Return where a document lies that is named from the project on."""
    # An absolute path stays as it is.
    return settings.project / path
