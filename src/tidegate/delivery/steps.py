"""The steps of a delivery in the order in which its DAG takes them: begin, work, judge, ask, answer, release, close.

Each finds in the ledger how far the delivery has come, and may be run again: what is done is not done twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import structlog

from tidegate.delivery import (
    approval,
    checkout,
    github,
    ledger,
    release,
    scaling,
    status,
    sync,
    team,
    thoughts,
    work,
)
from tidegate.delivery import merge as merging
from tidegate.delivery.cases import Place, failing, find, gather, inside, responsible
from tidegate.delivery.judge import Case, judge, waiver_of
from tidegate.delivery.ledger import Decision, Delivery, Kind
from tidegate.delivery.report import press
from tidegate.delivery.roles import pm
from tidegate.delivery.team import Team
from tidegate.delivery.work import Work
from tidegate.errors import BusyError, NotBegunError, StrategyError, TerminalError, TidegateError, UsageError
from tidegate.gates.verdict import Verdict, worst
from tidegate.rehearsal import rehearsal
from tidegate.settings import Settings
from tidegate.stack.home import Say
from tidegate.stores.postgres import connect
from tidegate.strategy.check import check
from tidegate.strategy.gate import Gate
from tidegate.strategy.read import look

log = structlog.get_logger(__name__)

#: How often a role works anew on what a gate before the loop has refused.
_AGAIN = 3
#: What an estimate may grow by before it is asked about again.
_TOLERATED = Decimal("1.2")
#: What a person may do about a gate that refuses where no attempt follows.
_WAY_ON = 'mend it, or let a rule pass by `team waive "GATE: RULE" --as NAME --why TEXT`; then `team resume` goes on'
_UNCOVERED = "the revised estimate is more than was approved: stop, or approve it and clear this task"
#: Whose reports they are.
_REPORTER = "PM"


class NotDueError(TerminalError):
    """The step has nothing to do: its text says why. Nothing has failed."""


class GateError(TerminalError):
    """A gate has refused: its text says on which rules."""


@dataclass(frozen=True)
class Question:
    """What a person is asked, about what exactly."""

    title: str
    text: str
    subject: approval.Subject


def begin(
    settings: Settings, name: str, delivery_id: str, *, strategy: str | None, started_by: str, dag_run_id: str, say: Say
) -> Delivery:
    """Read the strategy, check that it can be used, write the delivery down, make the rehearsal; the leader's first wave.

    Raises:
        StrategyError: something mandatory is not filled in, contradicts itself, or cannot be read.
        UsageError: the team works on another delivery.
    """
    found = team.load(settings.project, name)
    path = strategy or found.strategy
    seen = look(inside(settings, path))
    fatal = [finding for finding in check(seen) if finding.fatal]
    if fatal:
        told = "; ".join(f"line {one.line}: {one.told}" for one in fatal[:5])
        raise StrategyError(
            f"{path} cannot be used as it is ({len(fatal)} findings): {told}; `team strategy check {path}` lists all"
        )
    with connect(settings) as connection:
        before = ledger.newest(connection, found.name)
        if before is None or before.delivery_id != delivery_id:
            row = {
                "delivery_id": delivery_id, "team": found.name, "strategy": path,
                "strategy_sha256": work.hash_of(inside(settings, path)), "code_version": checkout.version(settings.project),
                "started_by": started_by or "somebody", "dag_run_id": dag_run_id,
            }  # fmt: skip
            ledger.begin(connection, row)
    rehearsal.down(settings, say)
    rehearsal.up(settings, say)
    place = find(settings, delivery_id)
    perform(settings, delivery_id, found.leader, found.waves[0].wave)
    return place.delivery


def go_on(settings: Settings, delivery_id: str, dag_run_id: str, say: Say) -> Delivery:
    """Take up a delivery that was stopped: the database is looked at again, the rehearsal stands, finished work stays.

    Raises:
        UsageError: it has succeeded.
        StackError: the database is not as its migrations say.
    """
    reopen(settings, delivery_id, dag_run_id)
    rehearsal.up(settings, say)
    return find(settings, delivery_id).delivery


def reopen(settings: Settings, delivery_id: str, dag_run_id: str) -> None:
    """Let a run of Airflow take up a delivery in the ledger: what gates have refused is to be done anew.

    Raises:
        UsageError, StackError: as `go_on` does.
    """
    place = find(settings, delivery_id)
    if place.delivery.state == "success":
        raise UsageError(f"{delivery_id} has ended well: there is nothing to go on with")
    status.validate(settings)
    case = gather(place)
    with connect(settings) as connection:
        ledger.reopen(connection, delivery_id, dag_run_id)
        if failing(case):
            # Whoever goes on has mended something: only what is measured anew closes a finding.
            testers = [code for wave in place.team.waves if place.team.is_looped(wave.wave) for code in wave.roles]
            again = [*responsible(case), *testers]
            ledger.do_again(connection, delivery_id, again, "a gate had refused it: it is measured again")


def perform(
    settings: Settings,
    delivery_id: str,
    code: str,
    wave: str,
    attempt: int = 1,
    *,
    only: str | None = None,
    probes: Sequence[str] | None = None,
    responsible_only: bool = False,
) -> dict[str, Any]:
    """Let a role work in a wave: `only` "take" runs its `probes`, "make" writes its artifacts, both without it.

    Raises:
        NotDueError: the wave is not due, or the role has nothing to do in it.
    """
    place = find(settings, delivery_id)
    case = _require_due(place, wave, attempt)
    if responsible_only:
        _require_responsible(case, code)
    if not place.team.wave(wave).beside:
        with connect(settings) as connection:
            ledger.go_on(connection, delivery_id, wave)
    mine = place.role(code, wave, attempt)
    if reason := work.out_of_work(mine.role, place.strategy):
        work.skip(mine, reason)
        show(place)
        raise NotDueError(reason)
    made: dict[str, str] = {}
    if only != "make":
        work.take(mine, probes)
    if only != "take":
        made = work.make(mine)
        _commit(mine, made)
    show(place)
    return {"role": code, "wave": wave, "attempt": attempt, "artifacts": sorted(made)}


def split(
    settings: Settings, delivery_id: str, code: str, wave: str, attempt: int = 1, *, responsible_only: bool = False
) -> list[list[str]]:
    """Return a role's probes for each hand that works on them: more than one where a rule of the strategy calls for it.

    Raises:
        NotDueError: the wave is not due, or the role has nothing to do in it.
        GateError: with the added hands the delivery costs more than was approved.
    """
    place = find(settings, delivery_id)
    case = _require_due(place, wave, attempt)
    if responsible_only:
        _require_responsible(case, code)
    planned = pm.planned(settings, place.team)
    found = scaling.triggers(place.strategy, case.work, len(failing(case)), planned)
    hands = scaling.parts(place.team.evidence(code, wave), place.strategy, found)
    if len(hands) > 1:
        told = scaling.log(place.role(code, wave, attempt), found, len(hands))
        work.keep(work.folder(settings), scaling.LOG, told.encode())
        _estimate_anew(place, case)
        if not _may_cost(place, case):
            raise GateError(_UNCOVERED)
    return hands


def require_covered(place: Place) -> None:
    """Stop where the delivery costs more than somebody has approved, by more than is let pass; the estimate is made anew.

    Raises:
        GateError: it does; a person says how it goes on.
    """
    case = gather(place)
    if not _may_cost(place, case):
        _estimate_anew(place, case)
        raise GateError(_UNCOVERED)


def _estimate_anew(place: Place, case: Case) -> None:
    first = next(one.wave for one in place.team.waves if place.team.artifacts(_REPORTER, one.wave))
    revisions = sum(one.role == _REPORTER and one.wave == first for one in case.work)
    work.make(place.role(_REPORTER, first, revisions + 1))


def decide(settings: Settings, delivery_id: str, gate: Gate, attempt: int = 1) -> dict[str, Any]:
    """Let a gate judge; before the loop, whoever it names works again, and it judges again, three times at most.

    Raises:
        GateError: a rule has failed; the ledger has each with value, target and line.
        NotDueError: its wave is not due.
    """
    place = find(settings, delivery_id)
    rules = place.team.gates[gate]
    case = _require_due(place, rules.wave, attempt)
    with connect(settings) as connection:
        # Whoever goes on with a delivery has mended something: it is measured again, in attempts of its own.
        tried = max(ledger.refused_in(connection, delivery_id, gate.value), default=attempt)
    said = _judge(place, gate, attempt, case)
    if not place.team.is_looped(rules.wave):
        for again in range(tried + 1, tried + _AGAIN):
            again_by = responsible(case, [one for one in said if one.verdict == "FAIL"])
            if not again_by or rules.approval:
                break
            for code in again_by:
                if work.out_of_work(place.team.roles[code], place.strategy) is None:
                    work.do(place.role(code, rules.wave, again))
            said = _judge(place, gate, again)
    failed = [one for one in said if one.verdict == "FAIL"]
    if failed and rules.hard_stop:
        _set_state(place, "failed", f"{gate.value}: {failed[0].value}; rotate what leaked at once")
    show(place)
    if failed:
        told = [f"{one.told} ({one.target_source})" for one in failed]
        if not place.team.is_looped(rules.wave):
            told.append(_WAY_ON)
        raise GateError(f"{gate.value} refuses: {'; '.join(told)}")
    return {
        "gate": gate.value,
        "verdict": worst(said),
        "rules": len(said),
        "warnings": [f"{v.rule}: {v.value}" for v in said if v.verdict == "WARN"],
    }


def ask(settings: Settings, delivery_id: str, kind: Kind) -> Question | None:
    """Return what a person has to decide; None where it needs nobody, or was decided already, for exactly this.

    Raises:
        NotDueError: there is nothing to decide about.
    """
    place = find(settings, delivery_id)
    case = _require_asked(place, kind)
    shown = _shown(place, case, kind)
    given = approval.standing(list(case.approvals), shown)
    if (given is not None and given.decision == "approve") or (kind == "cost" and _may_cost(place, case)):
        return None
    if kind == "unmet":
        failed = failing(case)
        title = f"{len(failed)} rules still fail after {_attempts(place.team)} attempts: let them pass unmet?"
        text = "\n".join(f"- **{v.gate}**, {v.told} ({v.target_source})" for v in failed)
    else:
        title = f"Approve the {kind} of {delivery_id}? It stands for {shown.sha256[:12]}…"
        text = (work.folder(settings) / approval.DOCUMENTS[kind]).read_text(encoding="utf-8")
    _set_state(place, "blocked" if kind == "unmet" else "waiting", f"{kind}: {title}")
    return Question(title, text, shown)


def answer(
    settings: Settings, delivery_id: str, shown: approval.Subject, decision: Decision, *, by: str, why: str
) -> None:
    """Write down what a person has answered, and go on; a rejection ends the delivery.

    Raises:
        UsageError: they may not decide, or what they were shown has changed.
        GateError: it was rejected.
    """
    place = find(settings, delivery_id)
    case = gather(place)
    now = _shown(place, case, shown.kind)
    approval.decide(settings, place.team, place.delivery, shown, now, decision, by=by, why=why)
    if decision == "reject":
        _set_state(place, "failed", f"{by} has rejected the {shown.kind}: {why}")
        raise GateError(f"{by} has rejected the {shown.kind}: {why}")
    _set_state(place, "running", None)
    if shown.kind == "unmet":
        _let_pass(place, case, by=by, why=why)


def deploy(settings: Settings, delivery_id: str, say: Say) -> str:
    """Judge the approval once more, as things are at this moment, and release; return the version.

    Raises:
        GateError: what was approved has changed, or nobody approved it.
        TidegateError: the release failed and was rolled back.
    """
    place = find(settings, delivery_id)
    case = _require_due(place, place.team.gates[Gate.DEPLOYMENT].wave, 1)
    refused = [v for v in _judge(place, Gate.DEPLOYMENT, 1, case) if v.verdict == "FAIL"]
    if refused:
        raise GateError(f"{Gate.DEPLOYMENT.value} refuses: {'; '.join(v.value for v in refused)}")
    done = release.release(settings, place.team, place.delivery, say)
    say(github.publish_release(settings, place.team, place.delivery, done))
    show(place)
    return done.version


def merge(settings: Settings, delivery_id: str) -> str:
    """Merge into main exactly what was approved, or write down how a person does; return what came of it.

    Raises:
        NotDueError: nobody has approved the merge.
        GateError: the branch has moved since.
    """
    place = find(settings, delivery_id)
    if place.delivery.state in ledger.ENDED:
        raise NotDueError(f"the delivery has ended: {place.delivery.reason}")
    shown = approval.subject(settings, place.delivery, "merge")
    with connect(settings) as connection:
        given = [one for one in ledger.approvals(connection, delivery_id) if one.kind == "merge"]
    if not given or given[-1].decision != "approve":
        raise NotDueError("nobody has approved the merge")
    if given[-1].sha256 != shown.sha256:
        raise GateError(f"what {given[-1].decided_by} approved to merge has changed since: ask for the approval anew")
    tip = checkout.git(settings.project, "rev-parse", "--verify", f"refs/heads/{approval.BRANCH}")
    return merging.merge(settings, place.delivery, tip).told


def report(settings: Settings, delivery_id: str) -> dict[str, str]:
    """Write the reports of a delivery as it stands, and commit them; return the files with their hashes."""
    place = find(settings, delivery_id)
    if place.delivery.state in ledger.ENDED:
        raise NotDueError(f"the delivery has ended: {place.delivery.reason}")
    return _report(place)


def finish(settings: Settings, delivery_id: str, dag_run_id: str) -> str:
    """Say how the delivery has ended, from what the ledger knows, and report it; the rehearsal goes.

    Raises:
        NotDueError: another run of Airflow works on it by now.
        GateError: it has not come to its release, or has never begun.
    """
    try:
        place = find(settings, delivery_id)
    except NotBegunError as error:
        raise GateError(str(error)) from None
    if place.delivery.dag_run_id != dag_run_id:
        raise NotDueError(f"the run {place.delivery.dag_run_id} works on it now")
    with connect(settings) as connection:
        released = [one for one in ledger.releases(connection, delivery_id) if one.state == "released"]
    reason = f"released as {released[0].version}" if released else place.delivery.reason or _why_not(gather(place))
    _set_state(place, "success" if released else "failed", reason)
    rehearsal.down(settings, lambda _: None)
    _report(place)
    if not released:
        raise GateError(reason)
    return released[0].version


def show(place: Place) -> None:
    """Write the board and the state of the delivery anew."""
    now = find(place.settings, place.delivery.delivery_id)
    status.write(now.settings, now.team, now.delivery)


def _report(place: Place) -> dict[str, str]:
    written = press.write(place.settings, place.delivery.delivery_id)
    sync.commit(place.role(_REPORTER, place.delivery.wave), written.files, ())
    return written.files


def _commit(mine: Work, made: dict[str, str]) -> None:
    """Commit what a role has made; work that cannot be committed has failed, and is done again."""
    try:
        sync.commit(mine, made)
    except TidegateError as error:
        work.fail(mine, str(error))
        raise


def _judge(place: Place, gate: Gate, attempt: int, case: Case | None = None) -> list[Verdict]:
    """Let a gate judge the case as it is, which the caller may have gathered, and write down what it says."""
    said = judge(gate, case or gather(place))
    with connect(place.settings) as connection:
        ledger.record_verdicts(connection, place.delivery, attempt, said)
    log.info("gate judged", gate=gate.value, verdict=worst(said), attempt=attempt)
    return said


def _require_due(place: Place, wave: str, attempt: int) -> Case:
    """Return the case as it is; raises NotDueError unless all that a wave builds on is there."""
    if place.delivery.state == "paused":
        raise BusyError(f"{place.delivery.delivery_id} is paused: `team resume` goes on with it")
    if place.delivery.state in ledger.ENDED:
        raise NotDueError(f"the delivery has ended: {place.delivery.reason}")
    case = gather(place)
    if attempt > 1 and not _has_refused(place, case, attempt - 1):
        raise NotDueError("the attempt before was not refused: there is nothing to do again")
    waves = [one.wave for one in place.team.waves]
    for gate, rules in place.team.gates.items():
        earlier = waves.index(rules.wave) < waves.index(wave)
        if not earlier or (attempt > 1 and place.team.is_looped(rules.wave)):
            continue
        of_it = [one for one in case.verdicts if one.gate == gate.value]
        if not of_it or any(one.verdict == "FAIL" for one in of_it):
            raise NotDueError(f"the gate {gate.value} has not let it pass")
    return case


def _require_responsible(case: Case, code: str) -> None:
    if code not in responsible(case):
        raise NotDueError(f"{code} is responsible for nothing that a gate refuses")


def _require_asked(place: Place, kind: Kind) -> Case:
    """Return the case as it is; raises NotDueError where there is nothing to ask about."""
    if kind == "unmet":
        case = gather(place)
        if place.delivery.state in ledger.ENDED or not failing(case):
            raise NotDueError("no gate refuses")
        return case
    gate = Gate.PLANNING if kind == "cost" else Gate.DEPLOYMENT
    return _require_due(place, place.team.gates[gate].wave, 1)


def _shown(place: Place, case: Case, kind: Kind) -> approval.Subject:
    return (
        approval.of_rules(failing(case)) if kind == "unmet" else approval.subject(place.settings, place.delivery, kind)
    )


def _let_pass(place: Place, case: Case, *, by: str, why: str) -> None:
    """Waive the rules that fail, let their gates judge again, and have what is signed signed again."""
    failed = failing(case)
    for one in failed:
        # Who has waived it by itself has said why: that stays the reason.
        if waiver_of(one, case.approvals) is None:
            approval.waive(place.settings, place.team, place.delivery, one, by=by, why=why)
    attempt = _attempts(place.team) + 1
    for gate in dict.fromkeys(Gate(one.gate) for one in failed):
        if not place.team.gates[gate].signed:
            _judge(place, gate, attempt)
    for gate, rules in place.team.gates.items():
        if rules.signed and place.team.is_looped(rules.wave):
            for code in rules.again:
                work.make(place.role(code, rules.wave, attempt))
            _judge(place, gate, attempt)


def _has_refused(place: Place, case: Case, attempt: int) -> bool:
    """Say whether an attempt came to its end and was not signed, and none has been since."""
    last = [gate.value for gate, rules in place.team.gates.items() if rules.signed and place.team.is_looped(rules.wave)]
    if not any(one.gate in last and one.verdict == "FAIL" for one in case.verdicts):
        return False
    with connect(place.settings) as connection:
        return any(attempt in ledger.refused_in(connection, place.delivery.delivery_id, gate) for gate in last)


def _attempts(found: Team) -> int:
    return found.loop.attempts if found.loop else 1


def _is_free(place: Place) -> bool:
    """Say whether the estimate lies below what needs nobody; at a threshold of nothing, a person is always asked."""
    allowed = [target.bound.base for target in place.strategy.cost.auto_approve.targets]
    return bool(allowed) and _estimated(place) < min(allowed)


def _may_cost(place: Place, case: Case) -> bool:
    return _is_free(place) or _is_covered(place, case)


def _estimated(place: Place) -> Decimal:
    models = thoughts.expected(place.settings, place.strategy, place.delivery.delivery_id)
    return pm.estimate(place.strategy, place.team, models).total


def _is_covered(place: Place, case: Case) -> bool:
    """Say whether somebody has approved an estimate that this one exceeds by no more than is let pass."""
    approved = [
        approval.amount(one.subject) for one in case.approvals if (one.kind, one.decision) == ("cost", "approve")
    ]
    now = _estimated(place)
    return any(now <= amount * _TOLERATED for amount in approved if amount is not None)


def _why_not(case: Case) -> str:
    failed = [one for one in case.verdicts if one.verdict == "FAIL"]
    if failed:
        first, more = failed[0], f", and {len(failed) - 1} rules more fail" if len(failed) > 1 else ""
        return f"{first.gate} refuses {first.rule}: {first.value}{more}; {_WAY_ON}"
    broken = [one for one in case.work if one.state == "failed"]
    return "; ".join(f"{one.role} failed in wave {one.wave}: {one.reason}" for one in broken) or "it was cut short"


def _set_state(place: Place, state: ledger.State, reason: str | None) -> None:
    with connect(place.settings) as connection:
        ledger.set_state(connection, place.delivery.delivery_id, state, reason)
    show(place)
