"""`tidegate docs`: build what can be read on: Data Docs and dbt docs."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(docs)


def docs() -> None:
    """Build Data Docs from the evidence and dbt's documentation; then the report, which links them."""
    from tidegate.observe import data_docs, dbt_docs, report
    from tidegate.settings import get_settings

    settings = get_settings()
    site = data_docs.build(settings)
    typer.echo(f"Data Docs: {site.index} ({site.validations} validations)")
    for path in site.left_out:
        typer.echo(f"left out: {path} is gone, or is no longer what the ledger has the hash of", err=True)
    typer.echo(f"dbt docs: {dbt_docs.build(settings)}")
    typer.echo(f"report: {report.build(settings)}")
