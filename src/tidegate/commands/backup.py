"""`tidegate backup`: take backups of the embedded warehouse, see and verify them, and bring it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tidegate.backup.moment import Moment
    from tidegate.backup.shelf import Backup, Kind
    from tidegate.settings import Settings

_KINDS: dict[str, Kind | None] = {"due": None, "full": "full", "incremental": "incremental"}
_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    backup = typer.Typer(help="Take backups of the warehouse, see and verify them, and bring it back.")
    app.add_typer(backup, name="backup", no_args_is_help=True)
    backup.command("list")(list_)
    for command in (take, verify, restore):
        backup.command()(command)


def take(
    kind: str = typer.Option("due", "--kind", help="full, incremental (with pgBackRest), or due: full once a week."),
    json: bool = _JSON,
) -> None:
    """Take a backup, verify it, and let go of those that are too old (TIDEGATE_BACKUPS_KEPT)."""
    from tidegate.backup import retention
    from tidegate.backup import take as backups
    from tidegate.commands._display import print_json
    from tidegate.errors import UsageError
    from tidegate.observe import logs
    from tidegate.settings import get_settings

    settings = get_settings()
    logs.configure(settings)
    if kind not in _KINDS:
        raise UsageError(f"found --kind {kind}, expected one of {', '.join(_KINDS)}")
    taken = backups.verify(settings, backups.take(settings, _KINDS[kind]))
    gone = retention.prune(settings)
    if json:
        print_json({"taken": taken, "removed": [backup.backup_id for backup in gone]})
        return
    typer.echo(f"{taken.backup_id}: {_mib(taken.size)} in {taken.seconds:.1f} s, verified")
    for backup in gone:
        typer.echo(f"{backup.backup_id}: removed, it is older than what is kept")


def list_(json: bool = _JSON) -> None:
    """List the backups, oldest first, and say whether the WAL after them is being archived."""
    from tidegate.backup import shelf, wal
    from tidegate.commands._display import print_json, print_table
    from tidegate.people.request import kept
    from tidegate.settings import get_settings
    from tidegate.stack import warehouse

    settings = get_settings()
    server = warehouse.mine(settings)
    known, requests = shelf.backups(settings), kept(settings)
    state = wal.look(server) if server.running() else None
    trouble = (
        state.trouble(wal.rpo(settings).base)
        if state
        else "the warehouse does not run, so nothing is archived: `tidegate up` starts it"
    )
    if json:
        print_json({"backups": known, "archive": state, "trouble": trouble})
        return
    columns = ("backup", "tool", "ended", "took", "size", "wal from", "verified", "based on")
    print_table(columns, [_row(backup) for backup in known])
    for request in requests:
        if holding := [backup for backup in known if backup.started_at < request.began_at]:
            typer.echo(
                f"erasure {request.erasure_id}: {len(holding)} backups still hold that person's data, until "
                f"{holding[-1].backup_id} is removed ({settings.backups_kept} verified full ones are kept)"
            )
    if not known:
        typer.echo("no backup yet: `tidegate backup take` takes one")
    if state and not trouble:
        typer.echo(f"WAL: archived up to {state.last_archived_wal or 'nothing yet'}, {state.waiting} segments wait")
    elif trouble:
        typer.echo(f"WAL: {trouble}")


def verify(
    backup_id: str | None = typer.Argument(None, help="The backup's id, or its beginning; the newest when empty."),
    json: bool = _JSON,
) -> None:
    """Read all of a backup again, and see that no WAL is missing between it and now."""
    from tidegate.backup import shelf
    from tidegate.backup import take as backups
    from tidegate.commands._display import print_json
    from tidegate.settings import get_settings

    settings = get_settings()
    checked = backups.verify(settings, shelf.find(settings, backup_id))
    if json:
        print_json(checked)
    else:
        typer.echo(f"{checked.backup_id}: whole, and no WAL is missing since {checked.start_lsn}")


def restore(
    backup_id: str | None = typer.Argument(None, help="Which backup; the newest that leads there when empty."),
    to: str | None = typer.Option(None, "--to", help="The moment: a time, or a position in the WAL; the end if empty."),
    into: Path | None = typer.Option(None, "--into", help="An empty folder for the restored server."),
    in_place: bool = typer.Option(False, "--in-place", help="Replace the warehouse itself; the old one is archived."),
    yes_i_mean_it: bool = typer.Option(False, "--yes-i-mean-it", help="Said with --in-place."),
    json: bool = _JSON,
) -> None:
    """Bring the warehouse back as it was: beside the running one, on a port of its own, unless --in-place is said."""
    from tidegate.backup.moment import Moment
    from tidegate.backup.restore import restore as restored_beside
    from tidegate.commands._display import print_json
    from tidegate.errors import UsageError
    from tidegate.observe import logs
    from tidegate.people.request import kept
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import without_password

    settings, moment = get_settings(), Moment.read(to)
    logs.configure(settings)
    if in_place:
        if into is not None:
            raise UsageError("--in-place and --into exclude each other: found both, expected one")
        if not yes_i_mean_it:
            raise UsageError(
                f"this replaces the warehouse by what it was at {moment}; what was written since is then in the archived "
                "data directory only. Nothing was done: say --yes-i-mean-it"
            )
        _replace(settings, moment, backup_id, json)
        return
    found = restored_beside(settings, moment, into, backup_id=backup_id)
    dsn = without_password(found.dsn(settings))
    if json:
        facts = {"dsn": dsn, "backup_id": found.backup.backup_id, "moment": str(moment), "seconds": found.seconds}
        print_json({**facts, "folder": found.server.directory.parent, "stop": found.stop_command()})
        return
    typer.echo(f"{dsn}  (from {found.backup.backup_id}, up to {moment}, in {found.seconds:.1f} s)")
    typer.echo("password: the warehouse's own, in `tidegate env`")
    typer.echo(f"stop it:  {found.stop_command()}")
    typer.echo(f"then remove {found.server.directory.parent}")
    if since := [request for request in kept(settings) if request.began_at > found.backup.started_at]:
        typer.echo(f"it may hold the data of {len(since)} persons who were erased since: remove it soon")


def _replace(settings: Settings, moment: Moment, backup_id: str | None, json: bool) -> None:
    from tidegate.backup.in_place import replace
    from tidegate.commands._display import print_json

    done = replace(settings, moment, lambda said: typer.echo(said, err=True), backup_id=backup_id)
    if not json:
        typer.echo(f"the warehouse is as it was at {moment} (from {done.backup.backup_id})")
        if done.old:
            typer.echo(f"the one before lies in {done.old}; `tidegate backup take` starts anew from here")
    erased = _erase_again(settings)
    if json:
        facts = {"backup_id": done.backup.backup_id, "moment": str(moment), "old": done.old}
        print_json({**facts, "erased_again": erased})
    elif erased:
        typer.echo(f"erased again, whom the backup had brought back: {', '.join(erased)}")


def _erase_again(settings: Settings) -> list[str]:
    """Erase those again whose data the restored warehouse has; return the numbers of the requests."""
    from tidegate.contracts import load_all
    from tidegate.migrate import door
    from tidegate.people import erase, request
    from tidegate.stores.postgres import warehouse_url

    if not request.kept(settings):
        return []
    door.upgrade(warehouse_url(settings), settings.project)
    return list(erase.again(settings, load_all(settings)))


def _row(backup: Backup) -> tuple[Any, ...]:
    took, size = f"{backup.seconds:.1f} s", _mib(backup.size)
    return (
        backup.backup_id,
        backup.tool,
        backup.ended_at,
        took,
        size,
        backup.start_lsn,
        backup.verified_at,
        backup.based_on,
    )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
