"""`tidegate up | down | status | logs | psql | env`: the embedded stack by hand."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(up)
    app.command()(down)


def up() -> None:
    """Start what does not run yet and mend what is broken; safe to repeat."""
    from tidegate.settings import get_settings
    from tidegate.stack import lifecycle

    lifecycle.up(get_settings(), typer.echo)


def down() -> None:
    """Stop the servers that this checkout has started; data stay."""
    from tidegate.settings import get_settings
    from tidegate.stack import lifecycle

    lifecycle.down(get_settings(), typer.echo)
