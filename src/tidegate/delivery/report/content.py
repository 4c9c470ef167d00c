"""What a report says: its first page and the eleven sections of the team document, in its order and with its names.

A team whose roles measure pipelines has a twelfth, of those.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from tidegate.delivery.board import passed
from tidegate.delivery.judge import is_waived
from tidegate.delivery.report import measured, tracked
from tidegate.delivery.report.facts import Facts, duration, many
from tidegate.delivery.report.model import Cell, GateLook, Report, Section, Table, Waiting

SECTIONS: tuple[Callable[[Facts], Section], ...] = (
    measured.queries,
    tracked.evidence,
    measured.migrations,
    tracked.commits,
    measured.plans,
    measured.load,
    measured.replication,
    measured.cache,
    measured.ci,
    tracked.kanban,
    tracked.blocking,
)

#: Characters of a reason that a headline has room for.
_REASON = 200


def report(facts: Facts, number: int) -> Report:
    """Return the report of a delivery as it stands."""
    delivery, team = facts.delivery, facts.team
    gates = tuple(_gates(facts))
    sections = (*SECTIONS, measured.pipelines) if team.takers("pipeline_sla") else SECTIONS
    wave_name = next((wave.name for wave in team.waves if wave.wave == delivery.wave), "")
    return Report(
        number=number,
        made_at=facts.now,
        team=team.title,
        delivery_id=delivery.delivery_id,
        state=delivery.state,
        wave=delivery.wave,
        wave_name=wave_name,
        started_by=delivery.started_by,
        strategy=delivery.strategy,
        commit=delivery.code_version,
        began_at=delivery.started_at,
        ended_at=delivery.finished_at,
        age=duration((facts.until - delivery.started_at).total_seconds()),
        headline=_headline(facts, gates, wave_name),
        done=sum(card.column == "Done" for card in facts.cards),
        cards=len(facts.cards),
        gates=gates,
        waiting=tuple(_waiting(facts, gates)),
        sections=tuple(section(facts) for section in sections),
        source=facts.source,
        evidence=_evidence(facts),
    )


def _gates(facts: Facts) -> list[GateLook]:
    found = []
    for gate, rules in facts.team.gates.items():
        said = [one for one in facts.verdicts if one.gate == gate.value]
        failed = [one for one in said if one.verdict == "FAIL"]
        waived = sum(map(is_waived, said))
        remarks = sum(one.verdict == "WARN" for one in said) - waived
        if failed:
            more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
            told = f"{failed[0].rule}: {failed[0].value}{more}"
        elif said:
            told = f"{len(said)} rules" + (f", {waived} waived" if waived else "")
            told += f", {remarks} with a remark" if remarks else ""
        else:
            told = f"judged {'before' if rules.before else 'after'} wave {rules.wave}"
        state = {True: "passed", False: "failed", None: "not yet"}[passed(gate, facts.verdicts)]
        found.append(GateLook(gate.value, state, rules.wave, len(said), told))  # type: ignore[arg-type]
    return found


def _headline(facts: Facts, gates: tuple[GateLook, ...], wave_name: str) -> str:
    delivery = facts.delivery
    counted = {state: sum(gate.state == state for gate in gates) for state in ("passed", "failed", "not yet")}
    first = next((gate.name for gate in gates if gate.state == "failed"), None)
    reason = textwrap.shorten(delivery.reason or first or "no reason is written down", _REASON, placeholder=" …")
    if delivery.state == "success":
        version = next((one.version for one in facts.releases if one.state == "released"), None)
        what = f"Version {version} is released" if version else "The delivery has ended well"
        waived = sum(map(is_waived, facts.verdicts))
        told = f", {many(waived, 'rules')} waived" if waived else ""
        return f"{what}: {counted['passed']} of {len(gates)} gates passed{told}"
    if delivery.state == "failed":
        return f"The delivery has failed in wave {delivery.wave}: {reason}"
    if delivery.state in ("waiting", "paused", "blocked"):
        return f"The delivery is {delivery.state} in wave {delivery.wave}: {reason}"
    refused = f", {counted['failed']} failed" if counted["failed"] else ""
    return f"Wave {delivery.wave}, {wave_name.lower()}, is under way: {counted['passed']} of {len(gates)} gates passed{refused}"


def _waiting(facts: Facts, gates: tuple[GateLook, ...]) -> list[Waiting]:
    delivery = facts.delivery
    found = []
    if delivery.state in ("waiting", "paused", "blocked"):
        reason = delivery.reason or "no reason is written down"
        found.append(Waiting(f"The delivery ({delivery.state})", f"a person other than {delivery.started_by}", reason))
    found += [
        Waiting(gate.name, tracked.whose(facts, gate.name), gate.told) for gate in gates if gate.state == "failed"
    ]
    if delivery.finished_at is None:
        found += [
            Waiting(card.name, f"{card.role_name} ({card.role})", f"at work, attempt {card.attempt}")
            for card in facts.cards
            if card.column == "In Progress"
        ]
    return found


def _evidence(facts: Facts) -> tuple[Table, ...]:
    rows = tuple(
        (
            Cell(one.path, facts.link(one)),
            Cell(one.probe),
            Cell(f"{one.role}, wave {one.wave}"),
            Cell(f"{one.taken_at:%Y-%m-%d %H:%M:%S} UTC"),
            Cell(one.sha256 or ""),
        )
        for one in sorted(facts.exhibits, key=lambda one: one.path)
        if one.sha256
    )
    return (Table("Evidence files", ("File", "Probe", "Taken by", "When", "SHA-256"), rows),) if rows else ()
