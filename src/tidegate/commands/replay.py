"""`tidegate replay flights | bookings`: the demo year as messages of a topic, at their times or faster."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tidegate.run.messages import Disturbance
    from tidegate.run.play import Record

#: What --speed takes beside a number.
MAX = "max"
#: What a shell expects of a program that ended on Ctrl-C.
INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    replay = typer.Typer(help="Play what is on record as a stream of messages.")
    app.add_typer(replay, name="replay", no_args_is_help=True)
    for command in (flights, bookings):
        replay.command()(command)


_SPEED = typer.Option(
    "3600", "--speed", help="How many seconds of the record go by in a second; `max` is as fast as it goes."
)
_FIRST = typer.Option("2013-01-01", "--from", formats=["%Y-%m-%d"], help="The first day of departures.")
_LAST = typer.Option("2013-12-31", "--to", formats=["%Y-%m-%d"], help="The last day of departures.")
_TOPIC = typer.Option(None, "--topic", help="Another topic than the one that the contract names.")
_DISORDER = typer.Option(0, "--disorder", min=0, max=1, help="Share of messages that change places.")
_WINDOW = typer.Option(100, "--window", min=2, help="Messages within which they do.")
_DUPLICATES = typer.Option(0, "--duplicates", min=0, max=1, help="Share that is sent twice.")
_LATE = typer.Option(0, "--late", min=0, max=1, help="Share that is sent after its time.")
_LATENESS = typer.Option(4320, "--lateness", min=1, help="Minutes of the record that they are late at the most.")
_POISON = typer.Option(0, "--poison", min=0, max=1, help="Share that is followed by a message that must be refused.")
_SEED = typer.Option(1, "--seed", min=0, help="The same seed disturbs the same messages.")


def flights(
    *,
    speed: str = _SPEED,
    first: datetime = _FIRST,
    last: datetime = _LAST,
    topic: str = _TOPIC,
    disorder: float = _DISORDER,
    window: int = _WINDOW,
    duplicates: float = _DUPLICATES,
    late: float = _LATE,
    lateness: int = _LATENESS,
    poison: float = _POISON,
    seed: int = _SEED,
) -> None:
    """Send what happened to each flight to Kafka, in the order of time; the topic is made where it is missing."""
    from tidegate.run.messages import Disturbance
    from tidegate.run.play import FLIGHTS

    disturbance = Disturbance(seed, disorder, window, duplicates, late, lateness, poison)
    _play(FLIGHTS, speed, first.date(), last.date(), disturbance, topic)


def bookings(
    *,
    seats: int = typer.Option(2000, "--seats", min=1, max=1_000_000, help="Booked seats a month."),
    speed: str = _SPEED,
    first: datetime = _FIRST,
    last: datetime = _LAST,
    topic: str = _TOPIC,
    disorder: float = _DISORDER,
    window: int = _WINDOW,
    duplicates: float = _DUPLICATES,
    late: float = _LATE,
    lateness: int = _LATENESS,
    poison: float = _POISON,
    seed: int = _SEED,
) -> None:
    """Send the made-up passengers' bookings to Kafka, each when it was made, up to 60 days before the departure."""
    from tidegate.run.messages import Disturbance
    from tidegate.run.play import seats as record

    disturbance = Disturbance(seed, disorder, window, duplicates, late, lateness, poison)
    _play(record(seats), speed, first.date(), last.date(), disturbance, topic)


def _play(record: Record, speed: str, first: date, last: date, disturbance: Disturbance, topic: str | None) -> None:
    from tidegate.run.play import FIRST, LAST, play
    from tidegate.run.progress import progress
    from tidegate.settings import get_settings

    if not FIRST <= first <= last <= LAST:
        raise typer.BadParameter(
            f"the record has {FIRST} to {LAST}, and --from is not after --to: not {first} to {last}."
        )
    factor = _factor(speed)
    try:
        with progress() as shown:
            played = play(get_settings(), first, last, factor, disturbance, record=record, topic=topic, progress=shown)
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
