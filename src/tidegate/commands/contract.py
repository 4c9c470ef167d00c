"""`tidegate contract check | diff | apply | docs`: what a person does with contracts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tidegate.contracts.compare import Comparison
    from tidegate.contracts.house import Finding
    from tidegate.settings import Settings

_ALL = typer.Argument(None, metavar="[DATASET]...", help="Names of datasets; all, if none is given.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    contract = typer.Typer(help="Check, compare and apply data contracts.", no_args_is_help=True)
    contract.command()(check)
    contract.command()(diff)
    contract.command()(apply)
    contract.command()(docs)
    app.add_typer(contract, name="contract")


def check(datasets: list[str] = _ALL) -> None:
    """Check that contracts are valid and complete, and that tables and derived files agree with them.

    Prints a line for each finding, with file and line, and ends with status 1 if there is any.
    """
    from tidegate.contracts import derived, house, load_all
    from tidegate.errors import ContractError
    from tidegate.settings import get_settings

    settings = get_settings()
    found = house.check(settings, datasets or ())
    try:
        names = datasets or [contract.dataset for contract in load_all(settings)]
        found += _in_warehouse(settings, names)
        found += derived.stale(settings)
    except ContractError as invalid:
        found.append(house.Finding.of(invalid, settings))
    for finding in dict.fromkeys(found):
        typer.echo(str(finding))
    if found:
        raise typer.Exit(1)
    typer.echo(f"{len(names)} contracts are sound, and what is derived from them is current")


def _in_warehouse(settings: Settings, datasets: list[str]) -> list[Finding]:
    from tidegate.contracts import load
    from tidegate.errors import StackError, UnavailableError
    from tidegate.publish import evolve
    from tidegate.stores.postgres import connect

    contracts = [load(settings, name) for name in datasets]
    try:
        with connect(settings) as connection:
            return evolve.refusals(connection, settings, contracts)
    except (StackError, UnavailableError) as error:
        typer.echo(f"tables were not compared: {error}", err=True)
        return []


def diff(
    old: str = typer.Argument(help="A file, or a revision as in HEAD~1:schemas/flights.odcs.yaml."),
    new: str = typer.Argument(help="The same, for the later version."),
    json: bool = typer.Option(False, "--json", help="Print the comparison as JSON."),
) -> None:
    """Compare two versions of a contract; ends with status 1 if the change breaks consumers or producers."""
    from tidegate.commands._display import print_json
    from tidegate.contracts.compare import compare
    from tidegate.settings import get_settings

    (old_path, old_text), (new_path, new_text) = (_version(get_settings(), name) for name in (old, new))
    comparison = compare(old_path, old_text, new_path, new_text)
    if json:
        print_json(comparison.as_dict())
    else:
        _show(comparison)
    if comparison.breaking:
        raise typer.Exit(1)


def _show(comparison: Comparison) -> None:
    for change in comparison.changes:
        typer.echo(
            f"{change.level:10}  consumers {change.consumers:10}  producers {change.producers:10}  "
            f"{change.rule}: {change.message}"
        )
    words = "breaking" if comparison.breaking else "compatible" if comparison.changes else "the same"
    typer.echo(f"{comparison.old_version} → {comparison.new_version}: {words}")


def _version(settings: Settings, name: str) -> tuple[Path, str]:
    """Return the path and the text of a contract that is named as a file or as REVISION:PATH."""
    from tidegate.contracts.document import read_text
    from tidegate.errors import UsageError

    if Path(name).is_file() or ":" not in name:
        return Path(name), read_text(Path(name))
    shown = subprocess.run(
        ["git", "-C", str(settings.project), "show", "--end-of-options", name],
        capture_output=True,
        check=False,
    )
    if shown.returncode:
        reason = shown.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise UsageError(f"no contract at {name}: {reason}")
    return Path(name), shown.stdout.decode("utf-8", errors="replace")


def apply(
    datasets: list[str] = _ALL,
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would be done."),
) -> None:
    """Bring published tables to their contracts now, in place; publishing does the same by itself."""
    from tidegate.contracts import load, load_all
    from tidegate.publish import evolve
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    settings = get_settings()
    contracts = [load(settings, name) for name in datasets or ()] or load_all(settings)
    for contract in contracts:
        with connect(settings) as connection:
            waiting = evolve.pending(connection, contract)
            if waiting is None:
                typer.echo(f"{contract.dataset}: nothing is published yet")
                continue
            evolve.require_possible(contract, waiting)
            if not dry_run:
                evolve.ensure(connection, contract)
        for step in waiting.steps:
            typer.echo(f"{contract.dataset}: {'would ' if dry_run else ''}{step}")
        if not waiting.steps:
            typer.echo(f"{contract.dataset}: the table is as version {contract.version} asks")


def docs(
    check: bool = typer.Option(False, "--check", help="Write nothing; fail if a file is not current."),
) -> None:
    """Write what is derived from contracts: the pages of docs/reference/ and the dbt sources."""
    from tidegate.contracts import derived
    from tidegate.settings import get_settings

    settings = get_settings()
    if not check:
        for name in derived.write(settings):
            typer.echo(f"wrote {name}")
        return
    found = derived.stale(settings)
    for finding in found:
        typer.echo(str(finding))
    if found:
        raise typer.Exit(1)
