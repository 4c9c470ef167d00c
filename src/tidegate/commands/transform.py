"""`tidegate transform`: one Spark transform, from published inputs to its published output."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(transform)


def transform(name: str = typer.Argument(help="The transform: a module of transforms/.")) -> None:
    """Make a transform's output from what is published, judge it, publish it; one that is up to date stays."""
    from tidegate import wave
    from tidegate.settings import get_settings

    batch = wave.transform(get_settings(), name)
    if batch is None:
        typer.echo(f"{name}: made of what is published already; nothing to do")
    else:
        typer.echo(f"{name}: batch {batch.batch_id} is {batch.state}: {batch.accepted_count} rows")
