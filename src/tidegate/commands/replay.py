"""`tidegate replay flights`: the demo year's flights as messages of a topic, at their times or faster."""

from __future__ import annotations

from datetime import datetime

import typer

#: What --speed takes beside a number.
MAX = "max"
#: What a shell expects of a program that ended on Ctrl-C.
INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    replay = typer.Typer(help="Play what is on record as a stream of messages.")
    app.add_typer(replay, name="replay", no_args_is_help=True)
    # A group of one command would swallow its name.
    replay.callback()(lambda: None)
    replay.command()(flights)


def flights(
    *,
    speed: str = typer.Option(
        "3600", "--speed", help="How many seconds of the record go by in a second; `max` is as fast as it goes."
    ),
    first: datetime = typer.Option("2013-01-01", "--from", formats=["%Y-%m-%d"], help="The first day of departures."),
    last: datetime = typer.Option("2013-12-31", "--to", formats=["%Y-%m-%d"], help="The last day of departures."),
    topic: str = typer.Option(None, "--topic", help="Another topic than the one that the contract names."),
    disorder: float = typer.Option(0, "--disorder", min=0, max=1, help="Share of messages that change places."),
    window: int = typer.Option(100, "--window", min=2, help="Messages within which they do."),
    duplicates: float = typer.Option(0, "--duplicates", min=0, max=1, help="Share that is sent twice."),
    late: float = typer.Option(0, "--late", min=0, max=1, help="Share that is sent after its time."),
    lateness: int = typer.Option(
        4320, "--lateness", min=1, help="Minutes of the record that they are late at the most."
    ),
    poison: float = typer.Option(
        0, "--poison", min=0, max=1, help="Share that is followed by a message that must be refused."
    ),
    seed: int = typer.Option(1, "--seed", min=0, help="The same seed disturbs the same messages."),
) -> None:
    """Send what happened to each flight to Kafka, in the order of time; the topic is made where it is missing."""
    from tidegate.run.messages import Disturbance
    from tidegate.run.play import FIRST, LAST, play
    from tidegate.run.progress import progress
    from tidegate.settings import get_settings

    days = first.date(), last.date()
    if not FIRST <= days[0] <= days[1] <= LAST:
        raise typer.BadParameter(
            f"the record has {FIRST} to {LAST}, and --from is not after --to: not {days[0]} to {days[1]}."
        )
    disturbance = Disturbance(
        seed=seed,
        disorder=disorder,
        window=window,
        duplicates=duplicates,
        late=late,
        lateness_minutes=lateness,
        poison=poison,
    )
    factor = _factor(speed)
    try:
        with progress() as shown:
            played = play(get_settings(), *days, factor, disturbance, topic=topic, progress=shown)
    except KeyboardInterrupt:
        typer.echo("\ntidegate: interrupted. What was sent stays there; played again, it is taken once.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    bad = "".join(f"; {count} {kind}" for kind, count in played.poison.items())
    typer.echo(
        f"sent {played.messages} messages to {played.topic}: {played.events} events, {played.late} of them late; "
        f"{played.duplicates} duplicates{bad}"
    )


def _factor(speed: str) -> float | None:
    """Return the speed as a factor; None for as fast as it goes."""
    if speed == MAX:
        return None
    try:
        factor = float(speed)
    except ValueError:
        factor = 0.0
    # Written so that nan is none either.
    if not 0 < factor < float("inf"):
        raise typer.BadParameter(f"--speed is a number above 0, or `{MAX}`: not {speed!r}.")
    return factor
