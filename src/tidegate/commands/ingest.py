"""`tidegate ingest`: one delivery, from its source to its published table, without Airflow."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(ingest)


def ingest(
    dataset: str = typer.Argument(help="A dataset with a contract in schemas/."),
    partition: str | None = typer.Option(None, "--partition", "-p", help="Such as 2013-03."),
    file: Path | None = typer.Option(None, "--file", "-f", help="Take this file instead of the source."),
) -> None:
    """Take one delivery in, judge it, and publish it; a delivery that is published already changes nothing."""
    from tidegate import wave
    from tidegate.settings import get_settings

    batch = wave.ingest(get_settings(), dataset, partition, file)
    refused = f", {batch.refused_count} refused (in quarantine)" if batch.refused_count else ""
    typer.echo(
        f"{batch.dataset} {batch.partition}: batch {batch.batch_id} is {batch.state}: "
        f"{batch.accepted_count} of {batch.delivered_count} rows{refused}"
    )
