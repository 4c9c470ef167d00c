"""What people decide: what exactly they are shown, by which hash it is known, and who may not decide about it.

An approval is for that hash alone: whatever changes afterwards makes it void, which the gates find out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tidegate.delivery import checkout, ledger
from tidegate.delivery.judge import hash_of_rule, name_of_rule
from tidegate.delivery.ledger import Approval, Decision, Delivery, Kind
from tidegate.delivery.team import Team
from tidegate.delivery.work import folder, hash_of
from tidegate.errors import UsageError
from tidegate.gates.verdict import Verdict
from tidegate.migrate import steps
from tidegate.settings import Settings
from tidegate.stores.postgres import connect

#: What a person reads before deciding, from `.team/` on.
DOCUMENTS: dict[Kind, str] = {
    "cost": "COST_ESTIMATION.md",
    "deployment": "releases/DEPLOYMENT_SIGNOFF.md",
    "merge": "releases/RELEASE_NOTES.md",
}
BRANCH = "ai-team"


@dataclass(frozen=True)
class Subject:
    """What is decided about: a document and everything that it stands for, under one hash."""

    kind: Kind
    document: str
    sha256: str


def subject(settings: Settings, delivery: Delivery, kind: Kind) -> Subject:
    """Return what a person is asked to approve, as it is at this moment.

    Raises:
        UsageError: there is no document yet.
    """
    document = DOCUMENTS[kind]
    written = hash_of(folder(settings) / document)
    if written is None:
        raise UsageError(
            f"there is nothing to approve yet: .team/{document} is not written; `team status` tells the wave"
        )
    parts: dict[str, Any] = {"document": written}
    if kind == "deployment":
        parts |= _deployed(settings, delivery)
    if kind == "merge":
        parts["branch"] = checkout.git(settings.project, "rev-parse", "--verify", "--quiet", f"refs/heads/{BRANCH}")
    if kind == "cost":
        # The document's first line tells the sum, which a later estimate is compared with.
        first = (folder(settings) / document).read_text(encoding="utf-8").partition("\n")[0]
        return Subject(kind, f"{document} ({first.rpartition(' ')[2]})", written)
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return Subject(kind, document, digest)


def _deployed(settings: Settings, delivery: Delivery) -> dict[str, Any]:
    """Return what a deployment stands for: the code, the SQL that will run, the targets, the evidence."""
    with connect(settings) as connection:
        evidence = [(one.path, one.sha256) for one in ledger.exhibits(connection, delivery.delivery_id)]
    sql = "\n".join(step.up + step.down for step in steps.read(settings.project))
    models = checkout.git(settings.project, "status", "--porcelain", "--", "models", "macros", "schemas", "migrations")
    return {
        "commit": checkout.version(settings.project),
        "uncommitted": models,
        "migrations": hashlib.sha256(sql.encode()).hexdigest(),
        "strategy": hash_of(settings.project / delivery.strategy),
        "evidence": sorted(evidence),
    }


def of_rules(failing: Sequence[Verdict]) -> Subject:
    """Return what is decided about when the loop has come to its end: every rule that still fails, as it fails."""
    digest = hashlib.sha256("".join(sorted(map(hash_of_rule, failing))).encode()).hexdigest()
    return Subject("unmet", f"{len(failing)} rules that fail", digest)


def decide(
    settings: Settings,
    team: Team,
    delivery: Delivery,
    shown: Subject,
    now: Subject,
    decision: Decision,
    *,
    by: str,
    why: str,
) -> None:
    """Write down what a person has decided about what they were shown; `now` is the same, looked at again.

    Raises:
        UsageError: no name or no reason is given, whoever it is wrote what is decided about, or it has changed meanwhile.
    """
    check(settings, team, shown.kind, decision, by=by, why=why)
    if decision == "approve" and now.sha256 != shown.sha256:
        raise UsageError(
            f"what is to be approved has changed: {shown.document} stood for {shown.sha256[:12]}… when it was shown, and stands "
            f"for {now.sha256[:12]}… now; read it again and decide about that"
        )
    record(settings, delivery, shown, decision, by=by, why=why)


def check(settings: Settings, team: Team, kind: Kind, decision: Decision, *, by: str, why: str) -> None:
    """Raise UsageError where this person may not decide, or says no reason."""
    if not by.strip() or not why.strip():
        raise UsageError(f"to {decision} the {kind}, give a name and a reason: --as NAME --why TEXT")
    wrote = authors(settings, team)
    if decision == "approve" and by.strip().casefold() in wrote:
        raise UsageError(
            f"{by} has written what is to be approved, and the author cannot approve: somebody else has to read it"
        )


def authors(settings: Settings, team: Team) -> set[str]:
    """Return who wrote what is released, in small letters: names and addresses of commits since the last tag, and roles."""
    commits = checkout.commits(settings.project, checkout.last_tag(settings.project))
    people = {name for commit in commits for name in (commit.author, commit.email)}
    return {one.casefold() for one in people | {r.name for r in team.roles.values()} | team.roles.keys()}


def amount(subject: str) -> Decimal | None:
    """Return how many dollars an approved estimate came to."""
    found = re.search(r"\(\$([0-9.]+)\)$", subject)
    return Decimal(found[1]) if found else None


def standing(approvals: list[Approval], shown: Subject) -> Approval | None:
    """Return the last decision about exactly this, if there is one."""
    return next((a for a in reversed(approvals) if a.kind == shown.kind and a.sha256 == shown.sha256), None)


def waive(settings: Settings, team: Team, delivery: Delivery, failed: Verdict, *, by: str, why: str) -> None:
    """Let one rule of a gate pass unmet, as it fails now; raises UsageError as `decide` does."""
    check(settings, team, "waiver", "approve", by=by, why=why)
    subject = Subject("waiver", name_of_rule(failed), hash_of_rule(failed))
    record(settings, delivery, subject, "approve", by=by, why=why)


def record(settings: Settings, delivery: Delivery, subject: Subject, decision: Decision, *, by: str, why: str) -> None:
    """Write down what somebody has decided about a subject; whether they may, the caller has looked at."""
    with connect(settings) as connection:
        ledger.record_approval(
            connection,
            delivery.delivery_id,
            {
                "kind": subject.kind, "subject": subject.document, "sha256": subject.sha256, "decision": decision,
                "decided_by": by.strip(), "why": why.strip(),
            },
        )  # fmt: skip
