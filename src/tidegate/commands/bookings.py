"""`tidegate bookings`: made-up passengers on the demo year's flights, to see how personal data are kept."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    bookings = typer.Typer(help="Made-up passengers on the demo year's flights.")
    app.add_typer(bookings, name="bookings", no_args_is_help=True)
    # A group of one command would swallow its name.
    bookings.callback()(lambda: None)
    bookings.command()(generate)


def generate(
    month: list[str] = typer.Option(
        None, "--month", help="A month of the demo year, as 2013-01; all, if none is named."
    ),
    seats: int = typer.Option(2000, "--seats", min=1, max=1_000_000, help="Booked seats a month."),
) -> None:
    """Put bookings into the inbox; `tidegate ingest bookings --partition 2013-01` takes a month in."""
    from tidegate.run.bookings import deliver
    from tidegate.run.demo import MONTHS
    from tidegate.settings import get_settings

    if unknown := [name for name in month or () if name not in MONTHS]:
        raise typer.BadParameter(f"the demo year has {MONTHS[0]} to {MONTHS[-1]}, not {', '.join(unknown)}.")
    written = deliver(get_settings(), month or MONTHS, seats)
    typer.echo(f"wrote {written} files; what lay there already was left alone")
