"""What a role that thinks with a model is shown, what it may spend, and how what it proposes is taken in: whole, or not at all.

The model decides nothing: what is true, the probes say, and whether it suffices, the gates. Who asks it is the DAG's business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import structlog

from tidegate.delivery import approval, checkout, sync, thoughts
from tidegate.delivery.proposal import FOLDERS, Bounds, Proposal, refusals
from tidegate.delivery.thoughts import Thought
from tidegate.delivery.work import Work, hash_of, keep
from tidegate.errors import StackError, TidegateError
from tidegate.evidence.probes import ALL
from tidegate.observe import logs
from tidegate.settings import Settings
from tidegate.stores.postgres import connect
from tidegate.strategy.judges import judged

if TYPE_CHECKING:
    from tidegate.delivery.ledger import Exhibit

log = structlog.get_logger(__name__)

#: Of what a model is shown; about four characters are a token.
MOST_CHARACTERS = 16_000
_OF_A_FILE = 1_500
_OF_FIGURES = 600
_OF_A_LOOK = 12_000
_SURE = Decimal("0.9")
#: Folders of `.team/` in which a model has no file: proof, sign-offs, what people approve, and what was.
_CLOSED = ("evidence", "qa", "releases", "reports", "archive")
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
#: A probe of another place reads rows as they are: of what it says, its figures alone are shown.
_WITHOUT_ROWS = {probe.name for probe in ALL if probe.place != "warehouse"}


def context(work: Work) -> str:
    """Return what a role's model is shown: what gates refuse, the evidence, the strategy's lines; no secret, and no row of data."""
    parts = [
        [f"Delivery {work.delivery.delivery_id}, wave {work.wave}, attempt {work.attempt}.", ""],
        ["# What gates refuse", *(_refused(work) or ["Nothing so far."]), ""],
        ["# Artifacts that you may introduce", *(f"- {name}" for name in _writable(work)), ""],
        ["# What the strategy says", *_said(work), ""],
        ["# Evidence", *_evidence(work)],
    ]
    text = "\n".join(line for part in parts for line in part)
    for secret in sorted(logs.secrets(work.settings), key=len, reverse=True):
        text = text.replace(secret, logs.HIDDEN)
    return _ADDRESS.sub("(an address)", text)[:MOST_CHARACTERS]


def look(settings: Settings, path: str) -> str:
    """Return a file as it is committed, or what is in a folder: of those that a model may propose changes in, and no other."""
    name = path.strip().rstrip("/")
    if ".." in PurePosixPath(name).parts or not any(PurePosixPath(name).is_relative_to(one) for one in FOLDERS):
        return f"There is nothing to see in {name}, but in {', '.join(FOLDERS)}."
    try:
        return checkout.git(settings.project, "show", f"HEAD:{name}")[:_OF_A_LOOK]
    except StackError:
        return f"No commit has {name}."


def share(work: Work) -> Decimal:
    """Return how many dollars a role's thinking may cost now: of what is left, as much as anybody's beside it in this wave."""
    with connect(work.settings) as connection:
        left = thoughts.budget(work.strategy) - thoughts.spent(connection, work.delivery.delivery_id)
    return max(left, Decimal(0)) / len(work.team.wave(work.wave).roles)


def is_sure(work: Work, confidence: float) -> bool:
    """Say whether an answer needs nobody else: the strategy says from which confidence on."""
    said = [one.bound for one in work.strategy.preservation.threshold.targets]
    return Decimal(str(confidence)) >= (said[0].base if said else _SURE)


def take_in(work: Work, proposal: Proposal, shown: str, answer: str = "") -> Thought:
    """Take in what a model proposes: prose for its artifacts, and changes as a commit on the team's branch; tell the ledger.

    Where one thing of it is refused, nothing is taken: whoever claims what is not so is not believed in the rest. `answer` is
    what the leader or a person has said to its question.
    """
    refused = list(refusals(proposal, f"{shown}\n{answer}", bounds(work)))
    if not is_sure(work, proposal.confidence):
        refused.append(f"confidence {proposal.confidence:.2f}: {work.strategy.preservation.threshold.entry.text}")
    thought = Thought(proposal.confidence, question=proposal.question, answer=answer)
    if not refused and proposal.changes:
        files = {change.path: change.content for change in proposal.changes}
        try:
            made = sync.propose(work, files, proposal.summary, proposal.confidence)
        except TidegateError as error:
            refused.append(str(error))
        else:
            thought = replace(thought, commit=made.sha if made else None, files=tuple(files))
    if refused:
        thought = replace(thought, refused=tuple(refused))
        log.warning("proposal refused", role=work.role.code, wave=work.wave, reasons=refused)
    else:
        prose = {one.artifact: one.text for one in proposal.prose}
        thought = replace(thought, prose=prose, reviews={one.evidence: one.finding for one in proposal.reviews})
    tell(work, thought)
    return thought


def tell(work: Work, thought: Thought) -> None:
    """Write down what became of a proposal, and the page of the role's thoughts anew."""
    with connect(work.settings) as connection:
        thoughts.record(connection, work.delivery.delivery_id, work.where, thought)
        page = thoughts.page(connection, work.delivery.delivery_id, work.role.code)
    keep(work.folder, f"thoughts/{work.role.code}.md", page.encode())


def bounds(work: Work) -> Bounds:
    """Return what a role's model may write about and into."""
    team = work.team
    made = {path for role in team.roles.values() for paths in role.artifacts.values() for path in paths}
    mine = {path for paths in work.role.artifacts.values() for path in paths}
    own = {PurePosixPath(path).parts[0] for path in mine if "/" in path} - set(_CLOSED)
    signed = {rules.signed for rules in team.gates.values()} | set(approval.DOCUMENTS.values())
    closed = {path for path in made if path.startswith(tuple(f"{folder}/" for folder in _CLOSED))}
    return Bounds(
        artifacts=team.artifacts(work.role.code, work.wave),
        signed=frozenset(signed | closed),
        made=frozenset(f".team/{path}" for path in made),
        folders=tuple(sorted(f".team/{folder}" for folder in own)),
        evidence=frozenset(one.path for one in _shown(work)),
        migrations=frozenset(
            str(path.relative_to(work.settings.project))
            for path in (work.settings.project / "migrations/versions").glob("*.py")
        ),
    )


def _writable(work: Work) -> list[str]:
    found = bounds(work)
    return [path for path in found.artifacts if path not in found.signed]


def _refused(work: Work) -> list[str]:
    return [f"- {v.gate}: {v.told} ({v.target_source})" for v in work.failing]


def _said(work: Work) -> Iterator[str]:
    """Yield the strategy's lines that gates have refused by, that the role's probes are judged by, and that hold for all."""
    mine, failed = work.role.probes, {v.target_source for v in work.failing}
    lines = {
        one.line: one.text
        for one in judged(work.strategy)
        if one.judge.probe in mine or f"{work.strategy.path}:{one.line}" in failed
    }
    lines |= {one.line: one.text for one in work.strategy.constraints.hard}
    yield from (f"- {work.delivery.strategy}:{line}: {text}" for line, text in sorted(lines.items()))


def _evidence(work: Work) -> Iterator[str]:
    failed = {v.evidence_sha256 for v in work.failing}
    # What gates refuse by comes first: the end of a long text is not shown.
    for one in sorted(_shown(work), key=lambda one: (one.sha256 not in failed, one.path)):
        yield f"## {one.path} ({one.probe})"
        yield json.dumps(one.figures, default=str)[:_OF_FIGURES]
        path = work.folder / "evidence" / one.path
        # What was edited since it was taken is nobody's evidence.
        if one.sha256 in failed and one.probe in _WITHOUT_ROWS and hash_of(path) == one.sha256:
            yield _end_of(path)


def _shown(work: Work) -> list[Exhibit]:
    failed = {v.evidence_sha256 for v in work.failing}
    return [one for one in work.exhibits if one.sha256 and (one.role == work.role.code or one.sha256 in failed)]


def _end_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-_OF_A_FILE:]
