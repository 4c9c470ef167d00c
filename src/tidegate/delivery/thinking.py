"""The steps of a role that thinks with a model, in their order: it is briefed, asks its leader, asks a person, is heard.

Each may be run again. What a model may see and what of its answer counts stands in `mind`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tidegate.delivery import cases, decisions, mind, steps, thoughts
from tidegate.delivery.proposal import WITHOUT, Advice, Proposal
from tidegate.delivery.steps import NotDueError
from tidegate.delivery.thoughts import Thought
from tidegate.delivery.work import Work
from tidegate.settings import Settings
from tidegate.stores.postgres import connect

#: Who answers, and which part of the role's share they may spend; who is not asked spends nothing.
PARTS = {"drafts": Decimal("0.5"), "advises": Decimal("0.25"), "drafts_again": Decimal("0.25")}
_MILLION = 1_000_000


@dataclass(frozen=True)
class Where:
    """Which work is thought about."""

    delivery_id: str
    code: str
    wave: str
    attempt: int

    def work(self, settings: Settings) -> Work:
        """Return it, with what gates refuse now."""
        return cases.find(settings, self.delivery_id).role(self.code, self.wave, self.attempt)


@dataclass(frozen=True)
class Question:
    """What a person is asked, with what is known, and the answers to choose from."""

    title: str
    text: str
    options: list[str]


def brief(settings: Settings, where: Where) -> dict[str, Any]:
    """Return what a role's model is shown, and by who is to answer the dollars and tokens that they may cost.

    Raises:
        NotDueError: the role has thought about it before, or nothing is left of the budget; the ledger is told.
        GateError: with a model, the delivery costs more than somebody has approved.
    """
    steps.require_covered(cases.find(settings, where.delivery_id))
    work = where.work(settings)
    with connect(settings) as connection:
        before = thoughts.newest(connection, where.delivery_id, work.where)
    if before is not None and before.confidence:
        raise NotDueError("it was thought about before, and what was answered is paid for")
    share = mind.share(work)
    if not share:
        reason = (
            f"the budget for models is used up ({work.delivery.strategy}:{work.strategy.cost.tolerance.entry.line})"
        )
        mind.tell(work, Thought(0, (reason,)))
        raise NotDueError(reason)
    told: dict[str, Any] = {"shown": mind.context(work)}
    for who, part in PARTS.items():
        dollars = share * part
        told[f"{who}_dollars"] = str(dollars)
        told[f"{who}_tokens"] = int(dollars / settings.team_model_price * _MILLION)
    return told


def doubt(settings: Settings, where: Where, shown: str, drafted: dict[str, Any]) -> str:
    """Return what the leader is asked; raises NotDueError where the role is sure of its answer."""
    proposal, work = Proposal(**drafted), where.work(settings)
    if mind.is_sure(work, proposal.confidence):
        raise NotDueError(f"{where.code} is sure: {proposal.confidence:.2f}")
    asked = proposal.question or "It says no question. Is what it proposes right?"
    return "\n".join(
        [
            shown, "", f"# The {work.role.name} is not sure, and asks", asked, *(f"- {one}" for one in proposal.options), "",
            "# What it would propose", json.dumps(drafted)[: mind.MOST_CHARACTERS // 2],
        ]
    )  # fmt: skip


def question(settings: Settings, where: Where, drafted: dict[str, Any], advised: dict[str, Any]) -> Question:
    """Return what a person is asked; raises NotDueError where the leader is sure of their answer."""
    proposal, advice, work = Proposal(**drafted), Advice(**advised), where.work(settings)
    if mind.is_sure(work, advice.confidence):
        raise NotDueError(f"{work.team.leader} is sure: {advice.confidence:.2f}")
    options = [*dict.fromkeys([*proposal.options, *advice.options, advice.answer[:200]]), WITHOUT]
    lines = [
        f"The {work.role.name} (wave {where.wave}, attempt {where.attempt}) is {proposal.confidence:.0%} sure of what it proposes, its "
        f"leader {advice.confidence:.0%} of the answer to its question. {work.strategy.preservation.threshold.entry.text} "
        f"({work.delivery.strategy}:{work.strategy.preservation.threshold.entry.line}).",
        "",
        f"**It asks:** {proposal.question or '(nothing in words)'}",
        "",
        f"**The leader says:** {advice.answer}",
        "",
        "**It would change:** " + (", ".join(change.path for change in proposal.changes) or "no file"),
        "",
        "**What gates refuse:**",
        *[f"- {v.gate}, {v.told}" for v in work.failing[:20]],
    ]
    return Question(f"{work.role.name}: {proposal.question[:120] or 'is this right?'}", "\n".join(lines), options)


def decided(settings: Settings, where: Where, asked: Question, choice: str, *, by: str, why: str) -> str:
    """Write down what a person has answered; return it as the role is told."""
    place = cases.find(settings, where.delivery_id)
    decisions.write(settings, place.delivery, asked.title, choice, by=by, why=why)
    return choice if choice == WITHOUT else f"{choice} ({by}: {why})"


def heed(where: Where, shown: str, drafted: dict[str, Any], answer: str | None) -> str:
    """Return what the role is asked again, with the answer to its question; raises NotDueError where there is none."""
    if not answer or answer == WITHOUT:
        raise NotDueError(f"{where.code} is asked nothing again: {answer or 'there is no answer to heed'}")
    return "\n".join(
        [
            shown, "", "# Your question", str(drafted.get("question") or ""), "", "# The answer", answer, "",
            "# What you would have proposed", json.dumps(drafted)[: mind.MOST_CHARACTERS // 2],
        ]
    )  # fmt: skip


def advice_of(settings: Settings, where: Where, advised: dict[str, Any] | None, answered: str | None) -> str | None:
    """Return the answer that counts: a person's, or the leader's where they are sure of it."""
    if answered is not None or advised is None:
        return answered
    advice = Advice(**advised)
    return advice.answer if mind.is_sure(where.work(settings), advice.confidence) else None


def note(settings: Settings, where: Where, who: str, attempt: str, usage: Any, error: str | None = None) -> None:
    """Write down what an answer cost; `attempt` says which one it was: told twice, it counts once."""
    cost = thoughts.spent_of(settings, usage, error)
    with connect(settings) as connection:
        thoughts.record_spent(
            connection, where.delivery_id, (where.wave, where.code, where.attempt), who, attempt, cost
        )


def take_in(
    settings: Settings, where: Where, shown: str | None, drafted: dict[str, Any] | None, answer: str | None
) -> dict[str, Any]:
    """Take in the last proposal, or write down why there is none; return what was taken.

    Raises:
        NotDueError: nobody was to think.
        GateError: models have cost more than was approved.
    """
    if shown is None:
        raise NotDueError("nobody was to think")
    work = where.work(settings)
    if drafted is None:
        with connect(settings) as connection:
            told = thoughts.errors(connection, where.delivery_id, work.where)
        thought = Thought(0, (f"no answer: {'; '.join(told) or 'the log of its task says why'}",))
        mind.tell(work, thought)
    elif answer == WITHOUT:
        thought = Thought(0, ("a person has said to go on without it",), answer=answer)
        mind.tell(work, thought)
    else:
        thought = mind.take_in(work, Proposal(**drafted), shown, answer or "")
    steps.require_covered(cases.find(settings, where.delivery_id))
    return {
        "taken": sorted([*thought.prose, *thought.files]), "commit": thought.commit, "refused": list(thought.refused),
    }  # fmt: skip
