"""What people do to a delivery from outside: start it, watch it, answer it, pause it, go on with it, end it.

Airflow does the work and asks the questions; how far a delivery has come, and whether it may go on, the ledger knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tidegate.delivery import approval, cases, ledger, status, steps, team
from tidegate.delivery.ledger import Decision, Delivery, Kind
from tidegate.delivery.team import Team
from tidegate.errors import StackError, TidegateError, UsageError
from tidegate.run.airflow import Airflow, DagRun, session
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect

_EVERY = 0.5
_PATIENCE = 120
_LIVING = ("queued", "running")


def dag_of(found: Team) -> str:
    """Return the DAG of a team."""
    return f"team_{found.name}"


def start(settings: Settings, name: str, strategy: str | None) -> str:
    """Trigger a team's DAG; return the delivery's id.

    Raises:
        UsageError: the team works on a delivery that has not ended.
    """
    found = team.load(settings.project, name)
    with connect(settings) as connection:
        if other := ledger.unfinished(connection, found.name):
            raise ledger.busy(other)
    with session(settings) as airflow:
        airflow.wait_for([dag_of(found)])
        airflow.wake(dag_of(found))
        return airflow.start(dag_of(found), conf={"strategy": strategy or found.strategy}, note="started by `team run`")


def follow(settings: Settings, name: str, run_id: str, say: Callable[[str], None]) -> Delivery:
    """Watch a delivery to its end, and say whatever changes; raises StackError when Airflow's run ends before it began."""
    found = team.load(settings.project, name)
    told: set[str] = set()
    while True:
        with connect(settings) as connection:
            delivery = ledger.working_on(connection, run_id)
            lines = list(_news(connection, delivery)) if delivery else []
        for line in lines:
            if line not in told:
                told.add(line)
                say(line)
        with session(settings) as airflow:
            state = airflow.state_of(dag_of(found), run_id)
            if state not in _LIVING:
                if delivery is None:
                    raise StackError(
                        f"the run {run_id} ended before the delivery began: {_reason(airflow, found, run_id)}"
                    )
                with connect(settings) as connection:
                    ended = ledger.get(connection, delivery.delivery_id)
                if state == "failed" and ended.state == "success":
                    say(f"what follows the release has failed: {_reason(airflow, found, run_id)}")
                return ended
        time.sleep(_EVERY * 4)


def answer(settings: Settings, delivery: Delivery, kind: Kind, decision: Decision, *, by: str, why: str) -> str:
    """Answer what a delivery asks; return what came of it. What was approved already stays so.

    Raises:
        UsageError: it asks nothing of the kind, or this person may not decide.
        TidegateError: the answer was not taken: what was shown has changed.
    """
    place = cases.find(settings, delivery.delivery_id)
    approval.check(settings, place.team, kind, decision, by=by, why=why)
    dag_id, task = dag_of(place.team), f"approve_{kind}"
    with session(settings) as airflow:
        before, answered = len(_given(settings, delivery, kind)), False
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            # Again, where the answer came before Airflow had put the task to rest: it takes it for lost, and asks anew.
            asked = [one for one in airflow.questions(dag_id, delivery.dag_run_id) if one.endswith(task)]
            if not asked and not answered:
                return _not_asked(settings, delivery, kind, decision)
            for one in asked[:1]:
                airflow.answer(dag_id, delivery.dag_run_id, one, decision.capitalize(), {"name": by, "why": why})
                answered = True
            given = _given(settings, delivery, kind)
            if len(given) > before:
                return f"{decision}d by {by}: {given[-1].subject}, {given[-1].sha256[:12]}…"
            if airflow.state_of(dag_id, delivery.dag_run_id) not in _LIVING:
                break
            time.sleep(_EVERY)
        raise TidegateError(f"the answer was not taken: {_reason(airflow, place.team, delivery.dag_run_id)}")


def pause(settings: Settings, delivery: Delivery) -> None:
    """Let nothing of a delivery begin from now on; what runs goes on to its end, and nothing is lost."""
    _require_unfinished(delivery)
    with connect(settings) as connection:
        ledger.set_state(connection, delivery.delivery_id, "paused", "paused by a person: `team resume` goes on")
    place = cases.find(settings, delivery.delivery_id)
    with _if_there(settings) as airflow:
        if airflow is not None:
            airflow.sleep(dag_of(place.team))
    steps.show(place)


def resume(settings: Settings, delivery: Delivery) -> str:
    """Go on with a delivery that was paused, cut short or failed; return Airflow's run that does.

    Raises:
        UsageError: it has ended well.
        StackError: the database is not as its migrations say.
    """
    if delivery.state == "success":
        raise UsageError(f"{delivery.delivery_id} has ended well: there is nothing to go on with")
    status.validate(settings)
    place = cases.find(settings, delivery.delivery_id)
    dag_id = dag_of(place.team)
    with session(settings) as airflow:
        airflow.wait_for([dag_id])
        # The run of one that has ended only comes to its own end, however long that takes.
        if delivery.state not in ledger.ENDED and airflow.state_of(dag_id, delivery.dag_run_id) in _LIVING:
            run = delivery.dag_run_id
            with connect(settings) as connection:
                ledger.reopen(connection, delivery.delivery_id, run)
            airflow.wake(dag_id)
        else:
            airflow.wake(dag_id)
            conf = {"strategy": delivery.strategy, "resume": delivery.delivery_id}
            run = airflow.start(dag_id, conf=conf, note="started by `team resume`")
            with connect(settings) as connection:
                ledger.reopen(connection, delivery.delivery_id, run)
    return run


def stop(settings: Settings, delivery: Delivery, *, by: str, why: str) -> None:
    """End a delivery as failed; what it made stays."""
    _require_unfinished(delivery)
    place = cases.find(settings, delivery.delivery_id)
    with connect(settings) as connection:
        ledger.set_state(connection, delivery.delivery_id, "failed", f"stopped by {by}: {why}")
    with _if_there(settings) as airflow:
        if airflow is not None and airflow.state_of(dag_of(place.team), delivery.dag_run_id) in _LIVING:
            airflow.end(dag_of(place.team), delivery.dag_run_id)
    steps.show(place)


@contextmanager
def _if_there(settings: Settings) -> Iterator[Airflow | None]:
    """Yield Airflow, or None where it does not answer: what the ledger says holds without it."""
    try:
        with session(settings) as airflow:
            yield airflow
    except StackError:
        yield None


def _require_unfinished(delivery: Delivery) -> None:
    if delivery.state in ledger.ENDED:
        raise UsageError(f"{delivery.delivery_id} has ended: {delivery.state}, {delivery.reason}")


def _given(settings: Settings, delivery: Delivery, kind: Kind) -> list[ledger.Approval]:
    with connect(settings) as connection:
        return [one for one in ledger.approvals(connection, delivery.delivery_id) if one.kind == kind]


def _not_asked(settings: Settings, delivery: Delivery, kind: Kind, decision: Decision) -> str:
    given = _given(settings, delivery, kind)
    if given and given[-1].decision == decision:
        return f"{decision}d before by {given[-1].decided_by}: {given[-1].why}"
    raise UsageError(
        f"{delivery.delivery_id} does not ask about the {kind} now: it is {delivery.state} in wave {delivery.wave}"
        + (f" ({delivery.reason})" if delivery.reason else "")
    )


def _news(connection: Connection, delivery: Delivery) -> Iterator[str]:
    identity = delivery.delivery_id
    for done in ledger.work(connection, identity):
        again = f", attempt {done.attempt}" if done.attempt > 1 else ""
        yield f"wave {done.wave:4}{done.role:6}{done.state}{again}{f': {done.reason}' if done.reason else ''}"
    for gate, said in _by_gate(ledger.decided(connection, identity)).items():
        yield f"gate     {gate}: {said}"
    if delivery.state in ("waiting", "blocked", "paused"):
        kind = (delivery.reason or "").partition(":")[0]
        yield f"{delivery.state}  {delivery.reason}"
        if delivery.state != "paused":
            yield f"         team approve {identity} {kind} --as NAME --why TEXT"


def _by_gate(decided: list[ledger.Decided]) -> dict[str, str]:
    newest = {(one.verdict.gate, one.verdict.rule): one.verdict for one in decided}
    found: dict[str, str] = {}
    for gate in dict.fromkeys(one.verdict.gate for one in decided):
        said = [verdict for (name, _), verdict in newest.items() if name == gate]
        refused = [
            f"{v.rule} is {v.value}, expected {v.target} ({v.target_source})" for v in said if v.verdict == "FAIL"
        ]
        found[gate] = f"refuses: {'; '.join(refused)}" if refused else f"passes, {len(said)} rules"
    return found


def _reason(airflow: Airflow, found: Team, run_id: str) -> str:
    task, reason = airflow.why(DagRun(dag_of(found), run_id, "failed", None))
    return f"{task}: {reason}"
