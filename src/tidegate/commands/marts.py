"""`tidegate marts`: build, publish, undo and list the marts."""

from __future__ import annotations

import getpass

import typer

from tidegate.settings import get_settings


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    marts = typer.Typer(help="Build the marts beside the published ones, judge them, swap them in, take them back.")
    app.add_typer(marts, name="marts", no_args_is_help=True)
    marts.command()(build)
    marts.command()(undo)
    marts.command()(show)


def build(
    full_refresh: bool = typer.Option(False, "--full-refresh", help="Build every model from nothing."),
) -> None:
    """Build the candidate with dbt, judge it, and publish it."""
    from tidegate import dbt
    from tidegate.publish import marts

    settings = get_settings()
    build_id = marts.prepare(settings)
    if marts.is_published(settings, build_id) and not full_refresh:
        typer.echo(f"marts: build {build_id} is published already; nothing has changed since")
        return
    results = dbt.build(settings, full_refresh=full_refresh)
    typer.echo(f"marts: {len(results)} models and checks built")
    marts.judge(settings, build_id)
    marts.publish(settings, build_id)
    typer.echo(f"marts: build {build_id} is published")


def undo(
    why: str = typer.Option(..., "--why", help="The reason, kept in the ledger."),
    by: str = typer.Option(getpass.getuser(), "--as", help="Who decides."),
) -> None:
    """Go back to the marts before the published ones."""
    from tidegate.publish import marts

    visible = marts.undo(get_settings(), by=by, why=why)
    typer.echo(f"marts: readers see build {visible} again")


def show() -> None:
    """List the builds, newest first, with why a build is held."""
    from tidegate.stores.postgres import connect

    with connect(get_settings()) as connection:
        for row in connection.execute("SELECT * FROM ops.marts_build ORDER BY built_at DESC LIMIT 20").fetchall():
            when = row["published_at"] or row["built_at"]
            typer.echo(
                f"{row['build_id']}  {row['state']:<10}  {when:%Y-%m-%d %H:%M}  {row['held_reason'] or ''}".rstrip()
            )
