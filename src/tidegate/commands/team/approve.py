"""`team approve | reject | waive | decide`: what people decide about a delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tidegate.delivery.ledger import Decision

_KINDS = ("cost", "deployment", "merge", "unmet")
_WORDS = typer.Argument(..., metavar="[RUN] cost|deployment|merge|unmet", show_default=False)
_NAME = typer.Option(..., "--as", help="Who you are; nobody approves what they have written.")
_WHY = typer.Option(..., "--why", help="Your reason.")

#: What a person types when they have waived what they mean to.
_GOES_ON = {
    "blocked": "`team approve unmet --as NAME --why TEXT` goes on, and lets pass whatever else still fails",
    "failed": "`team resume` goes on",
}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (approve, reject, waive, decide):
        app.command()(command)


def approve(words: list[str] = _WORDS, name: str = _NAME, why: str = _WHY) -> None:
    """Approve exactly what was shown: any change afterwards makes it void."""
    _answer(words, "approve", name, why)


def reject(words: list[str] = _WORDS, name: str = _NAME, why: str = _WHY) -> None:
    """Turn it down; the delivery ends."""
    _answer(words, "reject", name, why)


def waive(
    rule: str = typer.Argument(..., help='The rule as `team status` shows it, with its gate: "Gate: rule".'),
    run: str = typer.Option(None, "--run", help="Which delivery; the newest when empty."),
    name: str = _NAME,
    why: str = _WHY,
) -> None:
    """Let one rule of a gate pass unmet, as it fails now; the next judgement tells who did, and why."""
    from tidegate.commands.team.run import find
    from tidegate.delivery import approval, cases
    from tidegate.delivery.judge import name_of_rule
    from tidegate.errors import UsageError
    from tidegate.settings import get_settings

    settings = get_settings()
    place = cases.find(settings, find(settings, run).delivery_id)
    failing = {name_of_rule(one): one for one in cases.gather(place).verdicts if one.verdict == "FAIL"}
    if rule not in failing:
        raise UsageError(f"found {rule!r}, expected one that fails: {'; '.join(failing) or 'none does'}")
    approval.waive(settings, place.team, place.delivery, failing[rule], by=name, why=why)
    typer.echo(f"waived by {name}: {rule}")
    if place.delivery.state in _GOES_ON:
        typer.echo(_GOES_ON[place.delivery.state])


def decide(
    topic: str = typer.Argument(..., help="What about, in a word or two."),
    choose: str = typer.Option(None, "--choose", help="What is decided."),
    run: str = typer.Option(None, "--run", help="Which delivery; the newest when empty."),
    name: str = typer.Option(None, "--as", help="Who you are."),
    why: str = typer.Option(None, "--why", help="Your reason."),
) -> None:
    """Gather what strategy, decision records, gates and people say about a topic; with --choose, write down a decision."""
    from tidegate.commands._display import print_line
    from tidegate.commands.team.run import find
    from tidegate.delivery import decisions
    from tidegate.errors import UsageError
    from tidegate.settings import get_settings

    settings = get_settings()
    delivery = find(settings, run)
    for line in decisions.gather(settings, delivery, topic):
        print_line(line)
    if choose:
        if not name or not why:
            raise UsageError("a decision needs a name and a reason: --as NAME --why TEXT")
        decisions.write(settings, delivery, topic, choose, by=name, why=why)
        typer.echo(f"decided: {choose}; it stands in .team/DECISION_LOG.md")


def _answer(words: list[str], decision: Decision, name: str, why: str) -> None:
    from tidegate.commands.team.run import find
    from tidegate.delivery import control
    from tidegate.errors import UsageError
    from tidegate.settings import get_settings

    *run, kind = words
    if kind not in _KINDS or len(run) > 1:
        raise UsageError(f"found {' '.join(words)!r}, expected [RUN] and one of {', '.join(_KINDS)}")
    settings = get_settings()
    delivery = find(settings, run[0] if run else None)
    typer.echo(control.answer(settings, delivery, kind, decision, by=name, why=why))  # type: ignore[arg-type]
