"""`team run | status | pause | resume | stop`: a delivery from its start to its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tidegate.delivery.ledger import Delivery
    from tidegate.settings import Settings

_RUN = typer.Argument(None, metavar="[RUN]", help="Which delivery; the newest when empty.", show_default=False)
_TEAM = typer.Option(None, "--team", help="The newest of this team.")
_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (run, status, pause, resume, stop):
        app.command()(command)


def run(
    team: str = typer.Option(..., "--team", help="Which team, such as databaseEng."),
    strategy: Path = typer.Option(None, "--strategy", help="Its strategy document; the team's own, if not given."),
    detach: bool = typer.Option(False, "--detach", help="Start it, and do not wait for its end."),
) -> None:
    """Take a strategy through the team's waves to a release; waits, and says what happens and what it asks."""
    from tidegate.delivery import control
    from tidegate.settings import get_settings

    settings = get_settings()
    started = control.start(settings, team, str(strategy) if strategy else None)
    typer.echo(started)
    if not detach:
        _follow(settings, team, started)


def status(run: str = _RUN, team: str = _TEAM, json: bool = _JSON) -> None:
    """Show a delivery: its state, wave, board and verdicts; exit status 1 where there is none."""
    from tidegate.commands._display import print_facts, print_json, print_table
    from tidegate.delivery import board
    from tidegate.delivery.status import picture
    from tidegate.delivery.team import load
    from tidegate.settings import get_settings

    settings = get_settings()
    delivery = find(settings, run, team)
    told = picture(settings, load(settings.project, delivery.team), delivery)
    if json:
        print_json(told)
        return
    print_facts(
        {name: told[name] for name in ("run", "team", "strategy", "commit", "state", "wave", "reason", "version")}
    )
    typer.echo("")
    cards = told["cards"]
    print_table(
        ("column", "cards"),
        [
            (c, ", ".join(f"{one['role']} ({one['wave']})" for one in cards if one["column"] == c))
            for c in board.COLUMNS
        ],
    )
    typer.echo("")
    order = ("gate", "rule", "verdict", "value", "target", "strategy_line")
    print_table(order, [[one[name] for name in order] for one in told["verdicts"] if one["verdict"] != "PASS"])
    passed = sum(one["verdict"] == "PASS" for one in told["verdicts"])
    typer.echo(f"{passed} of {len(told['verdicts'])} rules pass")


def pause(run: str = _RUN, team: str = _TEAM) -> None:
    """Let nothing more begin; what runs goes on to its end. `team resume` goes on, also after a stop of the whole stack."""
    from tidegate.delivery import control
    from tidegate.settings import get_settings

    settings = get_settings()
    delivery = find(settings, run, team)
    control.pause(settings, delivery)
    typer.echo(
        f"{delivery.delivery_id} is paused in wave {delivery.wave}; .team/TEAM_STATUS.md tells how far it has come"
    )


def resume(
    run: str = _RUN,
    team: str = _TEAM,
    detach: bool = typer.Option(False, "--detach", help="Do not wait for its end."),
) -> None:
    """Go on with a delivery that was paused, cut short or failed; the database is looked at again first."""
    from tidegate.delivery import control
    from tidegate.settings import get_settings

    settings = get_settings()
    delivery = find(settings, run, team)
    going = control.resume(settings, delivery)
    typer.echo(f"{delivery.delivery_id} goes on, by Airflow's run {going}")
    if not detach:
        _follow(settings, delivery.team, going)


def stop(
    run: str = _RUN,
    team: str = _TEAM,
    name: str = typer.Option(..., "--as", help="Who you are."),
    why: str = typer.Option(..., "--why", help="Your reason."),
) -> None:
    """End a delivery as failed; what it made and measured stays."""
    from tidegate.delivery import control
    from tidegate.settings import get_settings

    settings = get_settings()
    delivery = find(settings, run, team)
    control.stop(settings, delivery, by=name, why=why)
    typer.echo(f"{delivery.delivery_id} is ended")


def find(settings: Settings, run: str | None, team: str | None = None) -> Delivery:
    """Return the delivery that a command is about: the one that is named, else the newest.

    Raises:
        UsageError: there is none.
    """
    from tidegate.delivery import ledger
    from tidegate.delivery.team import load
    from tidegate.errors import UsageError
    from tidegate.stores.postgres import connect

    name = load(settings.project, team).name if team else None
    with connect(settings) as connection:
        if run:
            return ledger.get(connection, run)
        newest = ledger.newest(connection, name)
    if newest is None:
        raise UsageError("there is no delivery yet: `team run --team databaseEng` starts one")
    return newest


def _follow(settings: Settings, team: str, run: str) -> None:
    from tidegate.commands._display import print_line
    from tidegate.delivery import control
    from tidegate.errors import TerminalError

    try:
        ended = control.follow(settings, team, run, print_line)
    except KeyboardInterrupt:
        typer.echo(
            "\nteam: it goes on in Airflow; `team status` shows it, `team pause` or `team stop` holds it", err=True
        )
        raise typer.Exit(130) from None
    if ended.state != "success":
        raise TerminalError(f"{ended.delivery_id}: {ended.state} in wave {ended.wave}: {ended.reason}")
    typer.echo(f"{ended.delivery_id}: {ended.reason}")
