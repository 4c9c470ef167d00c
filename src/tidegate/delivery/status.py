"""How a delivery stands: one picture from the ledger, for `team status`, TEAM_STATUS.md and the board; and a look at the database."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import psycopg

from tidegate.contracts import load_all
from tidegate.delivery import board, ledger, markdown
from tidegate.delivery.ledger import Delivery
from tidegate.delivery.team import Team
from tidegate.delivery.work import folder
from tidegate.errors import StackError
from tidegate.gates import audit_chain
from tidegate.migrate import door
from tidegate.settings import Settings
from tidegate.stores.postgres import connect, warehouse_url


def picture(settings: Settings, team: Team, delivery: Delivery) -> dict[str, Any]:
    """Return state, wave, cards and verdicts of a delivery, as `team status --json` prints them."""
    with connect(settings) as connection:
        done = ledger.work(connection, delivery.delivery_id)
        verdicts = ledger.verdicts(connection, delivery.delivery_id)
        released = ledger.releases(connection, delivery.delivery_id)
        paths = {one.sha256: one.path for one in ledger.exhibits(connection, delivery.delivery_id) if one.sha256}
    return {
        "run": delivery.delivery_id, "team": team.team, "strategy": delivery.strategy, "commit": delivery.code_version,
        "state": delivery.state, "wave": delivery.wave, "reason": delivery.reason, "started_at": delivery.started_at,
        "finished_at": delivery.finished_at, "version": next((one.version for one in released if one.state == "released"), None),
        "cards": [asdict(card) for card in board.cards(team, done, verdicts, delivery)],
        "verdicts": [
            {
                "gate": one.gate, "rule": one.rule, "verdict": one.verdict, "value": one.value, "target": one.target,
                "strategy_line": one.target_source, "evidence": paths.get(one.evidence_sha256 or ""), "evidence_sha256": one.evidence_sha256,
            }
            for one in verdicts
        ],
    }  # fmt: skip


def write(settings: Settings, team: Team, delivery: Delivery) -> None:
    """Write the board and the state of a delivery into the team's folder."""
    with connect(settings) as connection:
        done = ledger.work(connection, delivery.delivery_id)
        verdicts = ledger.verdicts(connection, delivery.delivery_id)
        decided = ledger.decided(connection, delivery.delivery_id)
    history = board.moves(team, done, decided, delivery, datetime.now(UTC))
    keep_live(settings, "KANBAN.md", board.markdown(team, done, verdicts, delivery, history))
    keep_live(settings, "TEAM_STATUS.md", _told(team, delivery, done, verdicts))


def keep_live(settings: Settings, path: str, text: str) -> None:
    """Write a file that follows the ledger; what it said before is in the ledger, so the archive has no need of it."""
    target = folder(settings) / path
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)


def validate(settings: Settings) -> None:
    """Look whether the database is as its migrations say, and its audit whole, before a stopped delivery goes on.

    Raises:
        StackError: a migration is missing or unknown, or the chain of the audit is broken.
    """
    try:
        stands = door.standing(warehouse_url(settings), settings.project)
    except psycopg.Error as error:
        raise StackError(
            f"the warehouse does not answer, so nothing goes on: {error}; `tidegate status` shows it"
        ) from error
    applied = [one.applied for one in stands]
    if applied != sorted(applied, reverse=True):
        raise StackError("a migration is missing among those applied: `tidegate migrate status` shows which")
    found = audit_chain.verify(settings, load_all(settings))
    if not found.whole:
        raise StackError("the audit's chain is broken: `tidegate audit verify` tells where")


def _told(team: Team, delivery: Delivery, done: list[ledger.Done], verdicts: list[Any]) -> str:
    refused = [one for one in verdicts if one.verdict == "FAIL"]
    lines = [
        f"# {team.title}: {delivery.state}",
        "",
        f"Delivery `{delivery.delivery_id}` of `{delivery.strategy}`, wave {delivery.wave}, since {delivery.started_at:%Y-%m-%d %H:%M} UTC.",
        *([f"{delivery.reason}."] if delivery.reason else []),
        "",
        *markdown.table(
            ("wave", "role", "attempt", "state", "began", "seconds", "reason"),
            [
                (
                    one.wave, one.role, one.attempt, one.state, f"{one.started_at:%H:%M:%S}",
                    f"{(one.finished_at - one.started_at).total_seconds():.1f}" if one.finished_at else "", one.reason,
                )
                for one in done
            ],
        ),
        f"Gates: {sum(v.verdict == 'PASS' for v in verdicts)} rules passed, {sum(v.verdict == 'WARN' for v in verdicts)} with a warning, "
        f"{len(refused)} refused.",
        "",
        *(f"- {one.gate}, {one.told} ({one.target_source})" for one in refused),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"
