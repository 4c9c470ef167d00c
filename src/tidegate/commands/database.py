"""`tidegate database check`: whether the database is in trouble, or soon will be."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    database = typer.Typer(help="Look after the database.")
    app.add_typer(database, name="database", no_args_is_help=True)
    database.callback()(lambda: None)  # so that `check` stays a word
    database.command()(check)


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
            (f.name, f.state, "" if f.value is None else f"{f.value:.2f}", f"{f.limit:g} {f.unit}", f.told)
            for f in found
        ]
        print_table(("what", "state", "value", "limit", "found"), rows)
        for finding in wrong:
            typer.echo(f"{finding.name}: {finding.advice}")
    if wrong:
        raise typer.Exit(1)
