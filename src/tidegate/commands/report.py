"""`tidegate report`: write the report page and tell its figures."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(report)


def report(
    show: bool = typer.Option(False, "--open", help="Open the page in a browser."),
) -> None:
    """Write the report page anew, and tell what it says in a few lines."""
    from tidegate.observe import report as page
    from tidegate.observe.summary import lines, summary
    from tidegate.settings import get_settings

    settings = get_settings()
    written = page.build(settings)
    for line in lines(summary(settings)):
        typer.echo(line)
    typer.echo(f"report    {written}")
    if show:
        typer.launch(written.as_uri())
