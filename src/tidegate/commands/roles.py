"""`tidegate roles`: new passwords for the logins of the embedded warehouse."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    roles = typer.Typer(help="The logins of the embedded warehouse.")
    app.add_typer(roles, name="roles", no_args_is_help=True)
    # A group of one command would swallow its name.
    roles.callback()(lambda: None)
    roles.command()(rotate)


def rotate(
    role: Annotated[list[str] | None, typer.Argument(help="Logins such as readonly, analyst_UA; all, if none.")] = None,
) -> None:
    """Give logins new, generated passwords that expire after 90 days; sessions that are open go on."""
    from tidegate.settings import get_settings
    from tidegate.stack import roles

    renewed = roles.rotate(get_settings(), role or ())
    typer.echo(f"new passwords, valid for {roles.LASTS.days} days: {', '.join(renewed)}")
