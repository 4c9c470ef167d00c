"""`tidegate rehearsal`: a throw-away clone of the warehouse, masked and with a replica, to try destructive things on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tidegate.rehearsal.rehearsal import Rehearsal

_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    rehearsal = typer.Typer(help="A throw-away clone of the warehouse, masked and with a replica.")
    app.add_typer(rehearsal, name="rehearsal", no_args_is_help=True)
    for command in (up, down, status):
        rehearsal.command()(command)
    rehearsal.command(context_settings={"ignore_unknown_options": True})(psql)


def up(json: bool = _JSON) -> None:
    """Clone the warehouse as it is now, mask what tells of persons, start it and a replica on ports of their own."""
    from tidegate.observe import logs
    from tidegate.rehearsal import rehearsal
    from tidegate.settings import get_settings

    settings = get_settings()
    logs.configure(settings)
    _show(rehearsal.up(settings, lambda said: typer.echo(said, err=True)), json)


def down() -> None:
    """Stop the rehearsal and remove it; the warehouse is not touched."""
    from tidegate.rehearsal import rehearsal
    from tidegate.settings import get_settings

    rehearsal.down(get_settings(), typer.echo)


def status(json: bool = _JSON) -> None:
    """Show where the rehearsal is, how old it is, what was masked; exit status 1 where there is none."""
    from tidegate.rehearsal import rehearsal
    from tidegate.settings import get_settings

    _show(rehearsal.reach(get_settings()), json)


def psql(
    arguments: list[str] = typer.Argument(None, help="What psql gets; after `--`."),
    role: str | None = typer.Option(None, "--role", help="The role to connect as; the owner when empty."),
) -> None:
    """Become psql, connected to the rehearsal."""
    from tidegate.errors import UsageError
    from tidegate.rehearsal import rehearsal
    from tidegate.settings import get_settings
    from tidegate.stack.shell import become_psql
    from tidegate.stores.postgres import libpq_environment_of

    settings = get_settings()
    found = rehearsal.reach(settings)
    user = role or found.owner
    if user not in found.passwords:
        raise UsageError(f"no role is called {user!r}; there are {', '.join(sorted(found.passwords))}")
    become_psql(settings, arguments or [], libpq_environment_of(found.dsn(user)))


def _show(found: Rehearsal, as_json: bool) -> None:
    from tidegate.commands._display import print_facts, print_json
    from tidegate.stores.postgres import without_password

    servers = {server.directory.name: "running" if server.running() else "stopped" for server in found.servers}
    facts: dict[str, Any] = {
        "dsn": without_password(found.dsn()),
        "replica": without_password(found.replica.dsn("warehouse", found.owner, "")),
        "servers": servers,
        "made_at": found.made_at,
        "seconds": round(found.seconds, 1),
        "made_of": found.source,
        "bytes": sum(file.stat().st_size for file in found.folder.rglob("*") if file.is_file()),
        "masked": found.masked,
    }
    if as_json:
        print_json(facts)
        return
    print_facts(
        facts
        | {
            "servers": ", ".join(f"{name} {state}" for name, state in servers.items()),
            "masked": ", ".join(f"{table} ({', '.join(columns)})" for table, columns in found.masked.items())
            or "nothing",
        }
    )
    typer.echo("connect: tidegate rehearsal psql [--role ROLE]")
