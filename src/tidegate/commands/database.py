"""`tidegate database check | docs`: whether the database is in trouble, or soon will be; what it is, for people to read."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    database = typer.Typer(help="Look after the database.")
    app.add_typer(database, name="database", no_args_is_help=True)
    database.command()(check)
    database.command()(docs)


def check(json: bool = typer.Option(False, "--json", help="As JSON, for scripts.")) -> None:
    """Look at lag, pool, disk, queries, connections and the WAL; ends with status 1 where something is wrong."""
    from tidegate.commands._display import print_json, print_table
    from tidegate.observe import database
    from tidegate.settings import get_settings

    found = database.check(get_settings())
    wrong = database.troubles(found)
    if json:
        print_json({"findings": found, "troubles": [finding.name for finding in wrong]})
    else:
        rows = [
            (
                f.name,
                f.state,
                "" if f.value is None else f"{f.value:.2f}",
                f"{f.limit.value:g} {f.unit}",
                f.limit.source,
                f.told,
            )
            for f in found
        ]
        print_table(("what", "state", "value", "limit", "written in", "found"), rows)
        for finding in wrong:
            typer.echo(f"{finding.name}: {finding.advice}")
    if wrong:
        raise typer.Exit(1)


def docs(
    check: bool = typer.Option(False, "--check", help="Write nothing; fail if a page is not as the warehouse says."),
    figures: bool = typer.Option(True, "--figures/--no-figures", help="Measure the guide's figures anew."),
) -> None:
    """Write the diagram, the dictionary, the index strategy and docs/DATABASE.md from the running warehouse."""
    from tidegate.evidence import reference
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    settings = get_settings()
    with connect(settings, autocommit=True) as connection:
        found = reference.stale(settings, connection) if check else []
        for name in [] if check else reference.write(settings, connection, measured=figures):
            typer.echo(f"wrote {name}")
    for finding in found:
        typer.echo(str(finding))
    if found:
        raise typer.Exit(1)
