"""Airflow DAGs `team_<name>`, one for each team of `teams/`: from a strategy document to a release, in waves that pass gates.

A new file in `teams/` is a new DAG; nothing is added here. What a step does stands in `tidegate.delivery.steps`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from airflow.sdk import Param, TaskGroup, cross_downstream, dag, get_current_context, get_parsing_context, task
from dags.wiring.ask import Ask
from dags.wiring.policy import policy
from dags.wiring.task import at_work, if_due

from tidegate.delivery import team as teams
from tidegate.delivery.team import Team, Wave
from tidegate.errors import UsageError
from tidegate.settings import get_settings
from tidegate.strategy.gate import Gate

#: The delivery that a run works on: its own, or one that was stopped.
DELIVERY = "{{ params.resume or run_id }}"

MANUAL = """## {title}
Takes `{strategy}` (or another strategy, by the parameter) through its waves: {waves}. Each gate reads evidence that was
measured in this run, on a masked clone of the warehouse, and holds it against the strategy's lines. People are asked
about the cost before anything is done, about the deployment, and about the merge: *Required Actions* here, or
`team approve RUN cost|deployment|merge --as NAME --why TEXT`.

### When it fails
- A **gate** is red: its log and `team status` name each rule with value, target and line. In wave 3 the roles in charge
  work again, {attempts} attempts at most; then a person decides.
- A **role** is red: what it needs is missing. Mend it and clear the task: what is done is not done twice.
- **Stopped or lost**, with Airflow's database even: `team resume` goes on from the ledger.
"""


def deliver(team: Team) -> None:
    """Make the DAG of one team."""

    @dag(
        dag_id=f"team_{team.name}",
        description=f"{team.title}: from strategy to release",
        schedule=None,
        doc_md=MANUAL.format(
            title=team.title,
            strategy=team.strategy,
            waves=", ".join(f"{wave.wave} {wave.name.lower()}" for wave in team.waves),
            attempts=team.loop.attempts if team.loop else 1,
        ),
        tags=["team", team.team],
        params={
            "strategy": Param(team.strategy, type="string", description="The strategy document."),
            "resume": Param(None, type=["null", "string"], description="Go on with this delivery."),
        },
        max_active_tasks=15,
        **policy("platform", asleep=False),
    )
    def flow() -> None:
        before: list[Any] = [begin(team.name)]
        beside: list[Any] = []
        for wave in team.waves[1:]:
            if wave is team.loop:
                continue
            with TaskGroup(_group(wave), tooltip=wave.name):
                if wave.beside:
                    beside = [work(team, code, wave) for code in wave.roles]
                    cross_downstream(before, beside)
                elif team.is_looped(wave.wave):
                    before = _loop(team, wave, before)
                else:
                    # What ran beside another wave is waited for where gates stand before the next one.
                    waiting = [*before, *beside] if team.judged_before(wave.wave) else before
                    before = _wave(team, wave, waiting)
                # The last one is written when it is known how it has ended.
                if not wave.beside and wave is not team.waves[-1]:
                    before = _then(before, [report.override(trigger_rule=_rule(team, wave))(DELIVERY)])
        cross_downstream(before, [close(DELIVERY)])

    flow()


def _wave(team: Team, wave: Wave, before: list[Any]) -> list[Any]:
    """Draw one wave: its gates before, its roles side by side, its gates after, who is asked; return its last tasks."""
    last = _then(before, [judge(team, gate) for gate in team.judged_before(wave.wave)])
    last = _then(last, [work(team, code, wave) for code in wave.roles])
    for gate in team.judged_after(wave.wave):
        if kind := team.gates[gate].approval:
            last = _then(last, [ask(kind)])
        last = _then(last, [judge(team, gate)])
        if gate is Gate.PLANNING:
            last = _then(last, [ask("cost")])
        if gate is Gate.DEPLOYMENT:
            last = _then(_then(last, [release(DELIVERY)]), [ask("merge")])
            last = _then(last, [merge(DELIVERY)])
    return last


def _loop(team: Team, wave: Wave, before: list[Any]) -> list[Any]:
    """Draw the wave that is judged, and its attempts: whoever is responsible works again, and all is judged again."""
    assert team.loop is not None
    last = before
    for attempt in range(1, team.loop.attempts + 1):
        of = wave if attempt == 1 else team.loop
        with TaskGroup(f"attempt_{attempt}"):
            if attempt > 1:
                engineers = [code for code in team.loop.roles if code not in wave.roles]
                last = _then(last, [work(team, code, of, attempt, again=True) for code in engineers])
            last = _then(last, [judge(team, gate, attempt) for gate in team.judged_before(wave.wave)])
            last = _then(last, [work(team, code, of, attempt, only="take") for code in wave.roles])
            after = team.judged_after(wave.wave)
            last = _then(last, [judge(team, gate, attempt) for gate in after if not team.gates[gate].signed])
            last = _then(last, [work(team, code, of, attempt, only="make") for code in wave.roles])
            last = _then(last, [judge(team, gate, attempt) for gate in after if team.gates[gate].signed])
    return _then(last, [ask("unmet")])


def _then(before: list[Any], after: list[Any]) -> list[Any]:
    """Let all of `after` follow all of `before`; return what the next ones follow."""
    if not after:
        return before
    cross_downstream(before, after)
    return after


@task
def begin(name: str) -> dict[str, Any]:
    """Read the strategy, write the delivery down, make the rehearsal; or take up one that was stopped."""
    from tidegate.delivery import steps
    from tidegate.observe import logs

    context = get_current_context()
    run, params = context["dag_run"], dict(context["params"])
    say = logs.get(__name__).info
    with at_work(dataset="delivery", batch_id=params["resume"] or run.run_id) as settings:
        if params["resume"]:
            taken = steps.go_on(settings, params["resume"], run.run_id, say)
        else:
            who = getattr(run, "triggering_user_name", None) or "somebody"
            taken = steps.begin(
                settings, name, run.run_id, strategy=params["strategy"], started_by=who, dag_run_id=run.run_id, say=say
            )
    return {"delivery": taken.delivery_id, "strategy": taken.strategy, "commit": taken.code_version}


def work(team: Team, code: str, wave: Wave, attempt: int = 1, *, only: str | None = None, again: bool = False) -> Any:
    """Return the task of a role in a wave; `again` is for one that works only where it is responsible.

    One that splits its probes is a group: how many hands, each hand's probes, then the artifacts; so is one that thinks with a
    model, between its probes and its artifacts.
    """
    role, rule = team.roles[code], _rule(team, wave)
    name = code if only is None else {"take": f"{code}_measures", "make": f"{code}_signs"}[only]
    where = {"delivery_id": DELIVERY, "code": code, "wave": wave.wave, "attempt": attempt}
    connection = get_settings().team_model_connection if only is None and code in team.thinkers else None
    if (not role.splits and connection is None) or only == "make":
        made = perform.override(task_id=name, trigger_rule=rule, task_display_name=f"{role.name}{_doing(only)}")
        return made(**where, only=only, again=again)
    with TaskGroup(name, tooltip=role.name) as group:
        measure = perform.override(
            task_id="measure", task_display_name=f"{role.name} measures", max_active_tis_per_dagrun=15
        )
        if role.splits:
            hands = split.override(trigger_rule=rule, task_display_name="How many hands?")(**where, again=again)
            taken = measure.partial(**where, only="take", again=again).expand(probes=hands)
        else:
            taken = measure.override(trigger_rule=rule)(**where, only="take", again=again)
        if only is None:
            write = perform.override(
                task_id="write", trigger_rule="none_failed_min_one_success", task_display_name=f"{role.name} writes"
            )
            written = write(**where, only="make", again=again)
            taken >> written
            if connection is not None:
                from dags.wiring.mind import thinks

                taken >> thinks(team, where, connection) >> written
    return group


@task
def split(delivery_id: str, code: str, wave: str, attempt: int, again: bool) -> list[list[str]]:
    """Tell which probes each hand runs: one hand has them all, unless a rule of the strategy calls for more."""
    from tidegate.delivery import steps

    with at_work(dataset="delivery", batch_id=delivery_id) as settings, if_due():
        return steps.split(settings, delivery_id, code, wave, attempt, responsible_only=again)


@task
def perform(
    *,
    delivery_id: str,
    code: str,
    wave: str,
    attempt: int,
    only: str | None,
    again: bool,
    probes: list[str] | None = None,
) -> dict[str, Any]:
    """Let a role measure and write; skipped when there is nothing for it to do, with the reason in the log."""
    from tidegate.delivery import steps

    with at_work(dataset="delivery", batch_id=delivery_id) as settings, if_due():
        return steps.perform(
            settings,
            delivery_id,
            code,
            wave,
            attempt,
            only=only,
            probes=probes,
            responsible_only=again and only != "make",
        )


def _rule(team: Team, wave: Wave) -> str:
    # A gate that refuses does not keep the next attempt from being made.
    return "all_done" if wave is team.loop or team.is_looped(wave.wave) else "none_failed"


def judge(team: Team, gate: Gate, attempt: int = 1) -> Any:
    """Return the task of a gate."""
    name = re.sub(r"[^a-z]+", "_", gate.value.lower())
    made = decide.override(
        task_id=f"gate_{name.removesuffix('_gate')}",
        trigger_rule=_rule(team, team.wave(team.gates[gate].wave)),
        task_display_name=gate.value,
    )
    return made(DELIVERY, gate.value, attempt)


@task
def decide(delivery_id: str, gate: str, attempt: int) -> dict[str, Any]:
    """Judge; red when a rule is not met: the log names value, target and the line that it is written in."""
    from tidegate.delivery import steps

    with at_work(dataset="delivery", batch_id=delivery_id) as settings, if_due():
        return steps.decide(settings, delivery_id, Gate(gate), attempt)


def ask(kind: str) -> Any:
    """Return the task that asks a person."""
    words = {
        "cost": "May it cost this?",
        "deployment": "Deploy?",
        "merge": "Merge to main?",
        "unmet": "Let it pass unmet?",
    }
    return Ask(
        task_id=f"approve_{kind}", task_display_name=words[kind], kind=kind, delivery_id=DELIVERY,
        trigger_rule="all_done" if kind == "unmet" else "none_failed",
    )  # fmt: skip


@task(task_display_name="Report")
def report(delivery_id: str) -> dict[str, str]:
    """Write slides, PDF and page of how it stands."""
    from tidegate.delivery import steps

    with at_work(dataset="delivery", batch_id=delivery_id) as settings, if_due():
        return steps.report(settings, delivery_id)


@task(trigger_rule="none_failed")
def release(delivery_id: str) -> str:
    """Back up, migrate, publish the models, look at the health; all of it is taken back when that is not good."""
    from tidegate.delivery import steps
    from tidegate.observe import logs

    with at_work(dataset="delivery", batch_id=delivery_id) as settings, if_due():
        return steps.deploy(settings, delivery_id, logs.get(__name__).info)


@task(trigger_rule="none_failed")
def merge(delivery_id: str) -> str:
    """Merge into main what was approved, beside every checkout; or write down how a person does it."""
    from tidegate.delivery import steps

    with at_work(dataset="delivery", batch_id=delivery_id) as settings, if_due():
        return steps.merge(settings, delivery_id)


@task(trigger_rule="all_done")
def close(delivery_id: str) -> str:
    """Say how it ended; red unless it was released."""
    from tidegate.delivery import steps

    run_id = get_current_context()["dag_run"].run_id
    with at_work(dataset="delivery", batch_id=delivery_id) as settings, if_due():
        return steps.finish(settings, delivery_id, run_id)


def _doing(only: str | None) -> str:
    return {None: "", "take": " measures", "make": " signs"}[only]


def _group(wave: Wave) -> str:
    return f"wave_{wave.wave.replace('.', '_')}_{re.sub(r'[^a-z]+', '_', wave.name.lower())}"


def broken(path: Path, error: UsageError) -> None:
    """Make a DAG that says what is wrong with a team's file: an import error would stop all other teams."""

    @dag(dag_id=f"team_{path.stem}", doc_md=f"## Broken team\n{error}", tags=["team", "broken"], **policy("platform"))
    def flow() -> None:
        read_team(str(path))

    flow()


@task
def read_team(path: str) -> None:
    """Read the team's file, and fail with the sentence that says what is wrong with it."""
    teams.read(Path(path))


# Before a task, only the DAG that it belongs to is wanted.
wanted = get_parsing_context().dag_id
for file in sorted(teams.folder(get_settings().project).glob("*.yaml")):
    if wanted in (None, f"team_{file.stem}"):
        try:
            found = teams.read(file)
        except UsageError as error:
            broken(file, error)
        else:
            deliver(found)
