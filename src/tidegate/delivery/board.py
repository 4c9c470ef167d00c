"""The board: a card for each role and wave, in the column that the ledger's rows and verdicts put it in; claims move nothing.

What happened before is found by looking at the same rows as they stood then; nothing is read or written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, get_args

from tidegate.delivery.ledger import Decided, Delivery, Done
from tidegate.delivery.markdown import table
from tidegate.delivery.team import Team, Wave
from tidegate.gates.verdict import Verdict
from tidegate.strategy.gate import Gate

Column = Literal["Backlog", "Sprint Ready", "In Progress", "In Review", "Testing", "Done", "Blocked"]
COLUMNS: tuple[Column, ...] = get_args(Column)

#: Of rules that concern one role only: its code stands behind these words.
_OF_ONE = ("artifacts of ", "manifest of ")
_MOVES_SHOWN = 40


@dataclass(frozen=True)
class Card:
    """What one role does in one wave; `gates` are those that it has to pass, `reason` says what it waits for."""

    wave: str
    wave_name: str
    role: str
    role_name: str
    makes: tuple[str, ...]
    measures: tuple[str, ...]
    gates: tuple[Gate, ...]
    column: Column
    attempt: int = 0
    reason: str = ""

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.role} · wave {self.wave}"


@dataclass(frozen=True)
class Move:
    """A card that went from one column to another; it comes from nowhere when it is made."""

    at: datetime
    card: str
    before: Column | None
    after: Column


@dataclass(frozen=True)
class Left:
    """How many cards there were at a moment, and how many of them were not done."""

    at: datetime
    cards: int
    left: int


def cards(team: Team, work: Sequence[Done], verdicts: Sequence[Verdict], delivery: Delivery) -> list[Card]:
    """Return the cards of a delivery in the order of its waves; a wave of attempts has those that were needed only."""
    return list(_cards(team, work, verdicts, delivery))


def moves(
    team: Team, work: Sequence[Done], decided: Sequence[Decided], delivery: Delivery, now: datetime
) -> list[Move]:
    """Return every move of every card, the oldest first: what the board would have shown whenever a row was written."""
    found: list[Move] = []
    stood: dict[str, Column] = {}
    for at, seen in _boards(team, work, decided, delivery, now):
        for card in seen:
            before = stood.get(card.name)
            if before != card.column:
                found.append(Move(at, card.name, before, card.column))
                stood[card.name] = card.column
    return found


def burn_down(history: Sequence[Move]) -> list[Left]:
    """Return, for each moment at which a card moved, how many were left."""
    stood: dict[str, Column] = {}
    found: dict[datetime, Left] = {}
    for move in history:
        stood[move.card] = move.after
        found[move.at] = Left(move.at, len(stood), sum(column != "Done" for column in stood.values()))
    return list(found.values())


def velocity(history: Sequence[Move], period: timedelta, until: datetime) -> list[tuple[datetime, int]]:
    """Return, by the beginning of each period until `until`, how many cards were done in it, less those taken back."""
    if not history:
        return []
    begins = [history[0].at]
    while begins[-1] + period < until:
        begins.append(begins[-1] + period)
    gained = [0] * len(begins)
    for move in history:
        place = min(int((move.at - begins[0]) / period), len(begins) - 1)
        gained[place] += (move.after == "Done") - (move.before == "Done")
    return list(zip(begins, gained, strict=True))


def time_in(column: Column, history: Sequence[Move], until: datetime) -> dict[str, timedelta]:
    """Return how long each card stood in a column, until now if it still does; cards that never did are left out."""
    spent: dict[str, timedelta] = {}
    since: dict[str, datetime] = {}
    for move in history:
        if move.before == column and move.card in since:
            spent[move.card] = spent.get(move.card, timedelta()) + (move.at - since.pop(move.card))
        if move.after == column:
            since[move.card] = move.at
    for card, at in since.items():
        spent[card] = spent.get(card, timedelta()) + (until - at)
    return spent


def markdown(
    team: Team, work: Sequence[Done], verdicts: Sequence[Verdict], delivery: Delivery, history: Sequence[Move] = ()
) -> str:
    """Return `.team/KANBAN.md`; with the history of its cards it tells since when, and how they burned down."""
    seen = cards(team, work, verdicts, delivery)
    left = sum(card.column != "Done" for card in seen)
    lines = [
        "# Kanban",
        "",
        f"Delivery `{delivery.delivery_id}` · {delivery.state} · wave {delivery.wave} · {len(seen) - left} of {len(seen)} "
        "cards are done",
        "",
        *table(COLUMNS, [[sum(card.column == column for card in seen) for column in COLUMNS]]),
    ]
    since = {move.card: move.at for move in history}
    for column in COLUMNS:
        of_it = [card for card in seen if card.column == column]
        rows = [
            (
                card.name,
                card.role_name,
                _told(card),
                f"{since[card.name]:%Y-%m-%d %H:%M:%S}Z" if card.name in since else "",
                card.attempt or "",
                card.reason,
            )
            for card in of_it
        ]
        lines += [f"## {column}", "", *table(("Card", "Role", "Makes", "Since", "Attempt", "Why"), rows)]
    if not history:
        return "\n".join(lines)
    newest = list(reversed(history))[:_MOVES_SHOWN]
    lines += [
        "## Moves",
        "",
        *table(
            ("When", "Card", "From", "To"),
            [(f"{move.at:%Y-%m-%d %H:%M:%S}Z", move.card, move.before or "(new)", move.after) for move in newest],
        ),
        "## Burn-down",
        "",
        *table(
            ("When", "Cards", "Left"), [(f"{p.at:%Y-%m-%d %H:%M:%S}Z", p.cards, p.left) for p in burn_down(history)]
        ),
    ]
    return "\n".join(lines)


def passed(gate: Gate, verdicts: Iterable[Verdict]) -> bool | None:
    """Say whether a gate has passed; None where it has not judged."""
    of_it = [one.verdict for one in verdicts if one.gate == gate.value]
    return "FAIL" not in of_it if of_it else None


def _cards(team: Team, work: Sequence[Done], verdicts: Sequence[Verdict], delivery: Delivery) -> Iterator[Card]:
    for wave in team.waves:
        for code in dict.fromkeys([*wave.roles, *(one.role for one in work if one.wave == wave.wave)]):
            rows = [one for one in work if (one.wave, one.role) == (wave.wave, code)]
            if code not in team.roles or (wave.attempts > 1 and not rows):
                continue
            role, last = team.roles[code], max(rows, key=lambda one: one.attempt, default=None)
            card = Card(
                wave.wave,
                wave.name,
                code,
                role.name,
                role.artifacts.get(wave.wave, ()),
                role.evidence.get(wave.wave, ()),
                tuple(_gates(team, wave, code)),
                "Backlog",
                last.attempt if last else 0,
            )
            column, reason = _not_begun(team, card, delivery) if last is None else _begun(last, delivery)
            if column == "In Review":
                column, reason = _judged(team, card, verdicts, delivery, reason)
            yield replace(card, column=column, reason=reason)


def _gates(team: Team, wave: Wave, code: str) -> Iterator[Gate]:
    """Yield the gates in a card's way: those that send its role back, read what it made, or sign what it measured."""
    places = [one.wave for one in team.waves]
    for gate, rules in team.gates.items():
        behind = places.index(rules.wave) >= places.index(wave.wave)
        its_own = code in rules.again or code in rules.artifacts_of
        tested = bool(rules.signed and team.roles[code].evidence.get(wave.wave))
        # What is done again has to pass what sent it back, which lies before it.
        if (its_own or tested) and (behind or wave.attempts > 1):
            yield gate


def _not_begun(team: Team, card: Card, delivery: Delivery) -> tuple[Column, str]:
    places = [one.wave for one in team.waves]
    now = team.wave(delivery.wave) if delivery.wave in places else team.waves[0]
    beside = {wave.wave for wave in team.waves if wave.beside == now.wave} | {now.beside}
    if places.index(card.wave) > places.index(now.wave) and card.wave not in beside:
        return "Backlog", ""
    if delivery.state == "running":
        return "Sprint Ready", ""
    if delivery.state == "success":
        return "Backlog", "the delivery ended without it"
    return "Blocked", f"{delivery.state}: {delivery.reason or 'no reason is written down'}"


def _begun(last: Done, delivery: Delivery) -> tuple[Column, str]:
    if last.state == "failed":
        return "Blocked", last.reason or "it failed without a reason"
    if last.state == "running":
        if delivery.finished_at is None:
            return "In Progress", ""
        return "Blocked", f"the delivery ended ({delivery.state}) while it ran"
    return "In Review", f"skipped: {last.reason}" if last.state == "skipped" else ""


def _judged(team: Team, card: Card, verdicts: Sequence[Verdict], delivery: Delivery, reason: str) -> tuple[Column, str]:
    """Return where work stands that is done, by what its gates have said."""
    signed_after = {rules.wave for rules in team.gates.values() if rules.signed}
    again = team.wave(card.wave).attempts > 1
    waits: list[tuple[Column, str]] = []
    for gate in card.gates:
        rules = team.gates[gate]
        testing: Column = "Testing" if rules.after in signed_after else "In Review"
        said = [one for one in verdicts if one.gate == gate.value]
        failed = [one for one in said if one.verdict == "FAIL"]
        mine = [one for one in failed if _concerns(one, card.role)]
        if mine and (card.role in rules.again or card.role in rules.artifacts_of):
            told = f"{gate.value}: {mine[0].rule}: {mine[0].value}"
            # What was done again is judged again: until the delivery gives up, it is on its way.
            waits.append(
                (testing, told) if again and delivery.state not in ("blocked", "failed") else ("Blocked", told)
            )
        elif failed or not said:
            waits.append((testing, f"{gate.value} {'fails for others' if failed else 'has not judged'}"))
    for column in ("Blocked", "In Review", "Testing"):
        of_it = [told for stands, told in waits if stands == column]
        if of_it:
            return column, "; ".join(filter(None, [reason, *of_it]))
    return "Done", reason


def _concerns(verdict: Verdict, role: str) -> bool:
    beginning = next((words for words in _OF_ONE if verdict.rule.startswith(words)), None)
    return beginning is None or verdict.rule == beginning + role


def _told(card: Card) -> str:
    parts = [", ".join(f"`{path}`" for path in card.makes)]
    if card.measures:
        parts.append(f"evidence: {', '.join(card.measures)}")
    return "; ".join(part for part in parts if part) or card.wave_name


def _boards(
    team: Team, work: Sequence[Done], decided: Sequence[Decided], delivery: Delivery, now: datetime
) -> Iterator[tuple[datetime, list[Card]]]:
    """Yield the board of every moment at which a row was written, and as it is now."""
    places = [wave.wave for wave in team.waves]
    until = delivery.finished_at or now
    at_work = {one.started_at for one in work} | {one.finished_at for one in work if one.finished_at}
    moments = {delivery.started_at} | at_work | {one.at for one in decided}
    for at in sorted(moment for moment in moments if moment < until):
        done = [
            one if one.finished_at and one.finished_at <= at else replace(one, state="running", finished_at=None)
            for one in work
            if one.started_at <= at
        ]
        began = [one.wave for one in done if one.wave in places]
        wave = max(began, key=places.index, default=places[0])
        then = replace(delivery, state="running", wave=wave, reason=None, finished_at=None)
        yield at, cards(team, done, _newest(one for one in decided if one.at <= at), then)
    yield until, cards(team, work, _newest(decided), delivery)


def _newest(decided: Iterable[Decided]) -> list[Verdict]:
    return list({(one.verdict.gate, one.verdict.rule): one.verdict for one in decided}.values())
