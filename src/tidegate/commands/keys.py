"""`tidegate keys`: the keys of confidential columns: which there are, a new one, and everything brought under it."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    keys = typer.Typer(help="The keys that confidential columns are sealed under.")
    app.add_typer(keys, name="keys", no_args_is_help=True)
    keys.command("list")(list_)
    for command in (new, rotate, drop):
        keys.command()(command)


def list_(json: bool = typer.Option(False, "--json", help="As JSON, for scripts.")) -> None:
    """Show every key, whether it is at hand, and how many values need it; reads all that is sealed."""
    from tidegate.commands._display import print_json, print_table
    from tidegate.errors import NoKeyError
    from tidegate.rotation import places
    from tidegate.sealing.keys import keyring
    from tidegate.settings import get_settings

    settings = get_settings()
    try:
        keys = keyring(settings)
    except NoKeyError:
        keys = None
    found = places.census(settings, keys)
    if json:
        print_json(found)
        return
    print_table(
        ("key", "standing", "first used", "retired", "in tables", "in landed files", "in quarantine"),
        [
            (
                use.key or "(damaged)", use.standing, use.made_at, use.retired_at, use.in_tables, use.in_landing,
                use.in_quarantine,
            )
            for use in found
        ],
    )  # fmt: skip


def new() -> None:
    """Make a key that seals from now on; of a warehouse of your own, print it for you to put into the environment."""
    from tidegate.rotation import places
    from tidegate.sealing.keys import VARIABLE, generate, keyring
    from tidegate.settings import get_settings
    from tidegate.stack import key_file

    settings = get_settings()
    at_hand = keyring(settings) if settings.encryption_keys and settings.encryption_keys.get_secret_value() else None
    taken = {use.key for use in places.census(settings, at_hand)} if settings.warehouse_url else set()
    key = generate(next(name for name in (f"k{n}" for n in range(1, len(taken) + 2)) if name not in taken))
    if key_file.is_mine(settings):
        key_file.add(settings, key)
        typer.echo(f"{key.id} seals from now on; `tidegate keys rotate` brings under it what is sealed already")
        return
    typer.echo(f"put this first in {VARIABLE}, wherever tidegate runs, before any other and a comma:", err=True)
    typer.echo(str(key))
    typer.echo("and keep it in a safe place: what is sealed under it is lost with it", err=True)


def rotate(dataset: str | None = typer.Option(None, "--dataset", help="Only of this dataset.")) -> None:
    """Bring everything that is sealed under the newest key; killed, or run again, it goes on where it was."""
    from tidegate.contracts import load
    from tidegate.rotation import rotate as rotation
    from tidegate.sealing.keys import keyring
    from tidegate.settings import get_settings

    settings = get_settings()
    keys = keyring(settings)
    if dataset is not None:
        load(settings, dataset)
    done = rotation.rotate(settings, keys, dataset, typer.echo)
    told = ", ".join(f"{count} {what}" for what, count in sorted(done.items()) if count) or "nothing was under another"
    typer.echo(f"under {keys.newest.id} now: {told}")
    free = [key.id for key in keys.keys if key.id in rotation.retire(settings, keys)]
    if free:
        typer.echo(f"nothing here needs {', '.join(free)} any more; backups that were taken before still do")


def drop(
    key: str = typer.Argument(help="The key's name."),
    meant: bool = typer.Option(False, "--yes-i-mean-it", help="Do it, although what only this key opens is lost."),
) -> None:
    """Let go of an old key of the embedded warehouse, once nothing needs it."""
    from tidegate.errors import UsageError
    from tidegate.rotation import places
    from tidegate.sealing.keys import VARIABLE, keyring
    from tidegate.settings import get_settings
    from tidegate.stack import key_file

    settings = get_settings()
    if not key_file.is_mine(settings):
        raise UsageError(f"the keys are in an environment of your own: take {key} out of {VARIABLE} there")
    needed = next((use.needed_by for use in places.census(settings, keyring(settings)) if use.key == key), 0)
    if needed:
        raise UsageError(f"{needed} values need {key}: `tidegate keys rotate` first brings them under the newest key")
    if not meant:
        raise UsageError(
            f"backups that were taken before the rotation need {key}: copy it from secrets.json to where it is safe, for as "
            "long as they are kept, and say --yes-i-mean-it"
        )
    key_file.drop(settings, key)
    typer.echo(f"{key} is gone")
