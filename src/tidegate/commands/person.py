"""`tidegate person export | erase | again`: what is kept of one person, given out or erased."""

from __future__ import annotations

import getpass
from pathlib import Path

import typer

_WHO = typer.Argument(
    help="COLUMN=VALUE of personal columns, such as email=ada@example.org; all of them are the person's."
)
_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    person = typer.Typer(help="What is kept of one person: give it out, or erase it.", no_args_is_help=True)
    app.add_typer(person, name="person")
    for command in (export, erase, again):
        person.command()(command)


def export(
    who: list[str] = _WHO,
    out: Path = typer.Option(..., "--out", help="The file to write (JSON, for its owner alone)."),
) -> None:
    """Write down everything that is kept of a person, from wherever it lies; recorded in ops.audit."""
    from tidegate.contracts import load_all
    from tidegate.people.export import export as everything
    from tidegate.people.export import write
    from tidegate.people.person import Person
    from tidegate.sealing import keyring
    from tidegate.settings import get_settings

    settings = get_settings()
    contracts = load_all(settings)
    document = everything(settings, contracts, Person.called(who, contracts, keyring(settings).newest))
    write(document, out)
    rows = {dataset: len(found) for dataset, found in document["datasets"].items()}
    typer.echo(f"{out}: {', '.join(f'{n} rows of {dataset}' for dataset, n in rows.items()) or 'nothing is kept'}")
    for dataset in document["not_searched"]:
        typer.echo(f"{dataset} has personal columns, and none of those that you named: not searched", err=True)


def erase(
    who: list[str] = _WHO,
    why: str = typer.Option("", "--why", help="The reason, for the ledger; not the person's name."),
    yes_i_mean_it: bool = typer.Option(False, "--yes-i-mean-it", help="Nothing brings it back."),
    json: bool = _JSON,
) -> None:
    """Erase what is personal in a person's rows, wherever they lie; the rows and their other facts stay."""
    from tidegate.commands._display import print_json
    from tidegate.contracts import load_all
    from tidegate.contracts.model import in_words
    from tidegate.errors import UsageError
    from tidegate.observe import logs
    from tidegate.people.erase import erase as erased
    from tidegate.people.person import Person
    from tidegate.people.places import copies
    from tidegate.sealing import keyring
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    settings = get_settings()
    logs.configure(settings)
    contracts = load_all(settings)
    person = Person.called(who, contracts, keyring(settings).newest)
    if not yes_i_mean_it:
        raise UsageError("nothing brings back what is erased. Nothing was done: say --yes-i-mean-it, and --why TEXT")
    rows = erased(settings, contracts, person, by=getpass.getuser(), why=why)
    if json:
        print_json(rows)
        return
    typer.echo(", ".join(f"{place}: {count} rows" for place, count in rows.items()) or "nothing is kept of that person")
    with connect(settings) as connection:
        marts = copies(connection, contracts)
    if marts:
        typer.echo(
            f"{', '.join(marts)}: made from personal columns; `tidegate marts build --full-refresh` makes them anew"
        )
    if rows:
        typer.echo("backups that were taken before still hold it: `tidegate backup list` tells until when")
    for contract in contracts:
        if rows and contract.topic is not None and person.is_known_to(contract):
            kept = in_words(contract.topic.kept)
            typer.echo(
                f"messages that were sent to {contract.topic.name} lie there for {kept or 'as long as it keeps them'}"
            )


def again(json: bool = _JSON) -> None:
    """Carry out erasures that were cut short, or that a restore has taken back."""
    from tidegate.commands._display import print_json
    from tidegate.contracts import load_all
    from tidegate.people.erase import again as carried_out
    from tidegate.settings import get_settings

    settings = get_settings()
    done = carried_out(settings, load_all(settings))
    if json:
        print_json(done)
        return
    for erasure, rows in done.items():
        typer.echo(f"{erasure}: {', '.join(f'{place}: {n} rows' for place, n in rows.items()) or 'nothing was there'}")
