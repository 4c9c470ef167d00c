"""What models have thought for a delivery, as the ledger has it: what each answer cost, what was taken in, what was refused.

Nothing is decided here. A thought is a step of `ops.step` under the delivery's own name for it; the newest one counts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tidegate.delivery.markdown import table
from tidegate.gates import ledger as gates
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect
from tidegate.strategy.model import Strategy

#: The step that tells what became of a proposal; every other one tells what an answer cost.
TAKEN = "taken in"
_MILLION = 1_000_000


@dataclass(frozen=True)
class Spent:
    """What one answer of a model cost: tokens, dollars, and what went wrong where there was none."""

    tokens: int
    dollars: Decimal
    error: str | None = None


@dataclass(frozen=True)
class Thought:
    """What became of a proposal: all of it was taken in, or nothing, for the reasons that `refused` gives."""

    confidence: float
    refused: tuple[str, ...] = ()
    prose: dict[str, str] = field(default_factory=dict)
    reviews: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    files: tuple[str, ...] = ()
    question: str = ""
    answer: str = ""


def spent_of(settings: Settings, usage: dict[str, Any] | None, error: str | None = None) -> Spent:
    """Return what an answer cost, of the usage that Airflow's provider tells; a price it does not know is the setting's."""
    told = usage or {}
    tokens = int(told.get("total_tokens") or (told.get("input_tokens") or 0) + (told.get("output_tokens") or 0))
    known = told.get("cost")
    dollars = Decimal(str(known)) if known is not None else tokens * settings.team_model_price / _MILLION
    return Spent(tokens, dollars, error)


def record_spent(
    connection: Connection, delivery_id: str, where: tuple[str, str, int], who: str, attempt: str, spent: Spent
) -> None:
    """Write down what an answer cost; `where` is wave, role and attempt, `who` the one that answered, at which attempt of theirs."""
    note = {"tokens": spent.tokens, "dollars": str(spent.dollars), "error": spent.error}
    _record(connection, delivery_id, where, f"{who}, {attempt}", note)


def record(connection: Connection, delivery_id: str, where: tuple[str, str, int], thought: Thought) -> None:
    """Write down what became of a proposal; `where` is wave, role and attempt."""
    _record(connection, delivery_id, where, TAKEN, asdict(thought))


def spent(connection: Connection, delivery_id: str) -> Decimal:
    """Return what a delivery's models have cost so far, in dollars."""
    costs = {step: note for step, note in _notes(connection, delivery_id) if not step.endswith(TAKEN)}
    return sum((Decimal(note["dollars"]) for note in costs.values()), Decimal(0))


def errors(connection: Connection, delivery_id: str, where: tuple[str, str, int]) -> list[str]:
    """Return what went wrong when a role was to think, in order."""
    mine = {step: note for step, note in _notes(connection, delivery_id) if step.startswith(_step(where, ""))}
    return [note["error"] for note in mine.values() if note.get("error")]


def newest(connection: Connection, delivery_id: str, where: tuple[str, str, int]) -> Thought | None:
    """Return what became of a role's last proposal; `where` is wave, role and attempt."""
    found = [note for step, note in _notes(connection, delivery_id) if step == _step(where, TAKEN)]
    if not found:
        return None
    return Thought(**{**found[-1], "refused": tuple(found[-1]["refused"]), "files": tuple(found[-1]["files"])})


def budget(strategy: Strategy) -> Decimal:
    """Return what models may cost in one delivery, in dollars: nothing where the strategy names no sum."""
    return min((one.bound.base for one in strategy.cost.tolerance.targets), default=Decimal(0))


def expected(settings: Settings, strategy: Strategy, delivery_id: str) -> Decimal:
    """Return what models will have cost, in dollars: their whole budget, or what is spent where that is more."""
    if settings.team_model_connection is None:
        return Decimal(0)
    with connect(settings) as connection:
        return max(budget(strategy), spent(connection, delivery_id))


def marked(text: str, prose: str, connection: str | None, confidence: float) -> str:
    """Return an artifact with prose below its head, as a quotation, which no heading, table or tick of it can leave."""
    title, _, rest = text.partition("\n\n")
    origin, _, body = rest.partition("\n\n")
    quoted = "\n".join(f"> {line}".rstrip() for line in prose.strip().splitlines())
    note = (
        f"> **Drafted by a model** (connection `{connection}`, confidence {confidence:.2f}). No evidence: what it says was "
        "measured by nobody, and each of its numbers stands in what it was shown."
    )
    return "\n\n".join([title, origin, f"{note}\n>\n{quoted}", body])


def page(connection: Connection, delivery_id: str, role: str) -> str:
    """Return all that was thought for a role as a page: what it cost, what was taken in, what was refused and why."""
    rows, costs = [], []
    for step, note in _notes(connection, delivery_id):
        wave, code, attempt, what = step.split(" ", 3)
        if code != role:
            continue
        if what == TAKEN:
            taken = [*note["prose"], *note["files"]]
            rows.append(
                (
                    wave, attempt, f"{note['confidence']:.2f}", ", ".join(taken) or "nothing", note["commit"] or "",
                    "; ".join(note["refused"]), "; ".join(f"{path}: {told}" for path, told in note["reviews"].items()),
                    f"{note['question']} {note['answer']}".strip(),
                )
            )  # fmt: skip
        else:
            costs.append((wave, attempt, what, note["tokens"], f"${note['dollars']}", note["error"] or ""))
    columns = (
        "wave", "attempt", "confidence", "taken in", "commit", "refused because", "read in evidence", "asked and answered",
    )  # fmt: skip
    return "\n".join(
        [
            f"# What a model thought for {role}",
            "",
            f"Delivery `{delivery_id}`. A draft is no evidence, and no gate reads this page.",
            "",
            *table(columns, rows),
            *table(("wave", "attempt", "who answered", "tokens", "cost", "went wrong"), costs),
        ]
    )


def _record(
    connection: Connection, delivery_id: str, where: tuple[str, str, int], what: str, note: dict[str, Any]
) -> None:
    told = json.dumps(note, default=str)
    gates.record_step(connection, _subject(delivery_id), _step(where, what), datetime.now(UTC), 0.0, note=told)


def _notes(connection: Connection, delivery_id: str) -> list[tuple[str, dict[str, Any]]]:
    return [(row["step"], json.loads(row["note"])) for row in gates.steps_of(connection, _subject(delivery_id))]


def _subject(delivery_id: str) -> str:
    return f"thoughts of {delivery_id}"


def _step(where: tuple[str, str, int], what: str) -> str:
    return " ".join([*map(str, where), what])
