"""What a gate says: a pure function of targets, evidence, artifacts and decisions; nothing is read or written here.

A target stands in the strategy or in the team's file, and each verdict names its line. What was not measured does not pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from tidegate.delivery.ledger import Approval, Done, Exhibit
from tidegate.delivery.manifest import Finding
from tidegate.delivery.team import GateRules, Team
from tidegate.gates.verdict import Decision, Verdict
from tidegate.strategy.gate import Gate
from tidegate.strategy.judges import judged
from tidegate.strategy.model import Strategy
from tidegate.strategy.quantity import Bound, QuantityError, unit

#: Of a rule set: raised when what a gate asks for changes in this module.
VERSION = "1"
_UNMEASURED = "not measured"
_NEVER = f"{_UNMEASURED} by any probe"
_WAIVED = "; waived "


@dataclass(frozen=True)
class Case:
    """All that a gate knows. `files` are the hashes of the team's files as they lie there now, by path from `.team/` on.

    `manifests` are what was found wrong in them; `subjects` the hashes of what approvals are asked for, as they are now.
    """

    team: Team
    strategy: Strategy
    exhibits: tuple[Exhibit, ...] = ()
    work: tuple[Done, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    approvals: tuple[Approval, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    manifests: tuple[Finding, ...] = ()
    subjects: dict[str, str] = field(default_factory=dict)
    signed: dict[str, bool] = field(default_factory=dict)


def judge(gate: Gate, case: Case) -> list[Verdict]:
    """Return the verdicts of one gate; each rule that is waived by a person is told of, and does not fail."""
    rules = case.team.gates.get(gate)
    if rules is None:
        return []
    said = evident(gate, case)
    for part in (_artifacts, _files, _manifests, _others, _signed, _approved):
        said += [_waived(verdict, case) for verdict in part(gate, rules, case)]
    return said


def evident(gate: Gate, case: Case) -> list[Verdict]:
    """Return the verdicts of one gate that rest on evidence alone: what is known before anybody signs or approves."""
    said = [*_demanded(gate, case), *_of_strategy(gate, case), *_ended_well(gate, case.team.gates[gate], case)]
    return [_waived(verdict, case) for verdict in said]


def hash_of_rule(verdict: Verdict) -> str:
    """Return what a waiver is bound to: the rule, what it expects, and what was found."""
    return hashlib.sha256("\x1f".join((verdict.gate, verdict.rule, verdict.target, verdict.value)).encode()).hexdigest()


def may_change(verdict: Verdict) -> bool:
    """Say whether what was refused could pass when a role works again: what no probe measures needs a person."""
    return not verdict.value.startswith(_NEVER)


def is_waived(verdict: Verdict) -> bool:
    """Say whether a rule passes only because somebody lets it, in the strategy or in this delivery."""
    return verdict.verdict == "WARN" and _WAIVED in verdict.value


def name_of_rule(verdict: Verdict) -> str:
    """Return by which name a waiver knows a rule."""
    return f"{verdict.gate}: {verdict.rule}"


def waiver_of(failed: Verdict, approvals: Sequence[Approval]) -> Approval | None:
    """Return the approval that lets a rule pass as it fails now, if the last word about exactly this is one."""
    name, now = name_of_rule(failed), hash_of_rule(failed)
    about = (one for one in reversed(approvals) if (one.kind, one.subject, one.sha256) == ("waiver", name, now))
    last = next(about, None)
    return last if last is not None and last.decision == "approve" else None


@dataclass(frozen=True)
class _Asked:
    """One rule of a gate, and where it is written."""

    gate: Gate
    rule: str
    target: str
    source: str

    def says(self, decision: Decision, value: str, evidence: str | None = None) -> Verdict:
        return Verdict(self.gate.value, self.rule, decision, value, self.target, self.source, VERSION, evidence)

    def holds(self, wrong: str, right: str) -> Verdict:
        """Pass where nothing is told to be wrong."""
        return self.says("FAIL" if wrong else "PASS", wrong or right)


@dataclass(frozen=True)
class _Figure:
    """Which figure of which probe, the unit that it is measured in, and the number that it is held against."""

    probe: str
    name: str
    unit: str
    bound: Bound


def _demanded(gate: Gate, case: Case) -> Iterator[Verdict]:
    for one in case.team.demands(gate):
        asked = _Asked(gate, f"{one.probe} {one.figure}", str(one.bound), f"{_file(case)}:{one.line}")
        yield _measured(asked, _Figure(one.probe, one.figure, "", one.bound), case)


def _of_strategy(gate: Gate, case: Case) -> Iterator[Verdict]:
    for one in judged(case.strategy):
        judge = one.judge
        if judge.gate is not gate:
            continue
        by = f" ({judge.probe} {judge.figure})" if judge.probe else ""
        bound = _bound(judge.needs) if judge.needs else one.target.bound if one.target else None
        asked = _Asked(
            gate,
            f"{one.measure or one.text}, line {one.line}{by}",
            str(bound or one.text),
            f"{case.strategy.path}:{one.line}",
        )
        if judge.missing or bound is None:
            verdict = asked.says("FAIL", f"{_NEVER}: {judge.missing}")
        else:
            verdict = _measured(asked, _Figure(judge.probe, judge.figure, judge.unit or "", bound), case)
        if one.waiver and verdict.verdict == "FAIL" and verdict.value.startswith(_UNMEASURED):
            told = f"{verdict.value}{_WAIVED}in the strategy by {one.waiver.by}: {one.waiver.why}"
            verdict = replace(verdict, verdict="WARN", value=told)
        yield verdict


def _measured(asked: _Asked, figure: _Figure, case: Case) -> Verdict:
    taken = [one for one in case.exhibits if one.probe == figure.probe]
    if refused := next((one.reason for one in taken if one.reason is not None), None):
        return asked.says("FAIL", f"{_UNMEASURED}: {refused}")
    found = [(_number(one.figures[figure.name]), one) for one in taken if figure.name in one.figures]
    if not found:
        why = f"has no figure {figure.name}" if taken else "was not run for this delivery"
        return asked.says("FAIL", f"{_UNMEASURED}: the probe {figure.probe} {why}")
    try:
        bad = [(value, one) for value, one in found if not figure.bound.holds(value, figure.unit)]
    except QuantityError as error:
        return asked.says("FAIL", str(error))
    # Of several files the one that is farthest off speaks for all.
    worst: Callable[..., tuple[Decimal, Exhibit]] = min if figure.bound.is_floor else max
    value, one = worst(bad or found, key=lambda pair: pair[0])
    shown = f"{value.normalize():f} {figure.unit if figure.unit != 'of 1' else ''}".rstrip()
    told = f"{shown} ({one.path})" + (f", and {len(bad) - 1} more" if len(bad) > 1 else "")
    return asked.says("FAIL" if bad else "PASS", told, one.sha256)


def _artifacts(gate: Gate, rules: GateRules, case: Case) -> Iterator[Verdict]:
    waves = [wave.wave for wave in case.team.waves]
    for code in rules.artifacts_of:
        # What belongs to a later wave is not expected yet.
        due = [wave for wave in waves if waves.index(wave) <= waves.index(rules.wave)]
        expected = [path for wave in due for path in case.team.roles[code].artifacts.get(wave, ())]
        asked = _Asked(gate, f"artifacts of {code}", f"{len(expected)} made in this delivery", _file(case))
        if skipped := next((one for one in case.work if one.role == code and one.state == "skipped"), None):
            yield asked.says("WARN", f"none: {skipped.reason}")
            continue
        made = {path: sha for one in case.work if one.role == code for path, sha in one.artifacts.items()}
        missing = [path for path in expected if path not in made or path not in case.files]
        changed = [path for path in expected if path not in missing and case.files[path] != made[path]]
        told = [*(f"{path} is missing" for path in missing), *(f"{path} was changed by hand" for path in changed)]
        yield asked.holds("; ".join(told), f"{len(expected)} there")


def _files(gate: Gate, rules: GateRules, case: Case) -> Iterator[Verdict]:
    for path in rules.files:
        yield _Asked(gate, path, "there", _file(case)).holds("" if path in case.files else "missing", "there")


def _manifests(gate: Gate, rules: GateRules, case: Case) -> Iterator[Verdict]:
    if not rules.manifests:
        return
    worked = {one.role for one in case.work if one.state == "done"}
    waves = [wave.wave for wave in case.team.waves]
    # What runs beside another wave may still run: it is looked at as soon as it has ended.
    beside = {wave.wave for wave in case.team.waves if wave.beside}
    due = set(waves[: waves.index(rules.wave) + (0 if rules.before else 1)]) - beside
    for code, role in case.team.roles.items():
        expected = due & role.evidence.keys() or (role.evidence and code in worked)
        if not expected or any(one.role == code and one.state == "skipped" for one in case.work):
            continue
        found = [one for one in case.manifests if one.manifest == f"{code}_manifest.md"]
        wrong = "; ".join(f"{one.path}: {one.told}" if one.path else one.told for one in found if not one.missing)
        missing = "; ".join(f"{one.path} {one.told}" for one in found if one.missing)
        asked = _Asked(gate, f"manifest of {code}", "VERIFIED", _file(case))
        if not wrong and code not in worked:
            wrong = "the role has not ended its work"
        if wrong or not missing:
            yield asked.holds(wrong, "every hash computed again, and equal")
        else:
            yield asked.says("WARN", f"every hash is equal; not everything could be measured here: {missing}")


def _others(gate: Gate, rules: GateRules, case: Case) -> Iterator[Verdict]:
    asked = list(rules.passed)
    if rules.signed:
        asked += [one for one, other in case.team.gates.items() if other.wave == rules.wave and one is not gate]
    for other in asked:
        of_it = [one for one in case.verdicts if one.gate == other.value]
        failed = "; ".join(one.rule for one in of_it if one.verdict == "FAIL")
        wrong = "has not judged" if not of_it else f"fails on {failed}" if failed else ""
        yield _Asked(gate, other.value, "passed", _file(case)).holds(wrong, "passed")


def _signed(gate: Gate, rules: GateRules, case: Case) -> Iterator[Verdict]:
    if rules.signed:
        wrong = "" if case.signed.get(rules.signed) else "not signed"
        yield _Asked(gate, rules.signed, "status: PASS", _file(case)).holds(wrong, "status: PASS")


def _ended_well(gate: Gate, rules: GateRules, case: Case) -> Iterator[Verdict]:
    """Judge how programs ended: one that ended badly has not measured what its figures say, whoever asks for them."""
    if rules.signed:
        bad = [f"{one.path} ended with {status}" for one in case.exhibits if (status := one.figures.get("exit_status"))]
        asked = _Asked(gate, "what was measured ended well", "exit status 0", _file(case))
        yield asked.holds("; ".join(bad), f"all {len(case.exhibits)} files")


def _approved(gate: Gate, rules: GateRules, case: Case) -> Iterator[Verdict]:
    if not rules.approval:
        return
    asked = _Asked(gate, rules.approval, "approved by a person, as it is now", _file(case))
    last = next((one for one in reversed(case.approvals) if one.kind == rules.approval), None)
    now = case.subjects.get(rules.approval, "gone")
    if last is None:
        yield asked.says("FAIL", "nobody has decided")
    elif last.decision == "reject":
        yield asked.says("FAIL", f"rejected by {last.decided_by}: {last.why}")
    elif last.sha256 != now:
        told = f"approved by {last.decided_by}, but what was approved ({last.sha256[:12]}…) has changed since ({now[:12]}…)"
        yield asked.says("FAIL", told)
    else:
        yield asked.says("PASS", f"approved by {last.decided_by}: {last.why}")


def _waived(verdict: Verdict, case: Case) -> Verdict:
    if verdict.verdict != "FAIL" or (given := waiver_of(verdict, case.approvals)) is None:
        return verdict
    return replace(verdict, verdict="WARN", value=f"{verdict.value}{_WAIVED}by {given.decided_by}: {given.why}")


def _file(case: Case) -> str:
    return f"teams/{case.team.path.name}"


def _bound(text: str) -> Bound:
    comparison, _, value = text.partition(" ")
    return Bound(comparison, Decimal(value), unit(""))  # type: ignore[arg-type]


def _number(figure: Any) -> Decimal:
    if isinstance(figure, bool):
        return Decimal(int(figure))
    return Decimal(len(figure)) if isinstance(figure, list | dict) else Decimal(str(figure))
