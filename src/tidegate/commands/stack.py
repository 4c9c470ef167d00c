"""`tidegate up | down | status | logs | psql | env`: the embedded stack by hand."""

from __future__ import annotations

import shlex
import time
from collections import deque
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(logs)
    app.command(context_settings={"ignore_unknown_options": True})(psql)
    app.command()(env)


def up(
    more: Annotated[
        list[str] | None, typer.Option("--with", help="A server besides: redis, kafka, or replica. Remembered.")
    ] = None,
    less: Annotated[list[str] | None, typer.Option("--without", help="One that is no longer wanted.")] = None,
) -> None:
    """Start what does not run yet and mend what is broken; safe to repeat."""
    from tidegate.settings import get_settings
    from tidegate.stack import lifecycle

    lifecycle.up(get_settings(), typer.echo, more=more or (), less=less or ())


def down() -> None:
    """Stop the servers that this checkout has started; data stay."""
    from tidegate.settings import get_settings
    from tidegate.stack import lifecycle

    lifecycle.down(get_settings(), typer.echo)


def status(as_json: bool = typer.Option(False, "--json", help="For programs: one JSON object.")) -> None:
    """Show each server's state, address, pid and version."""
    from tidegate.commands._display import print_json
    from tidegate.settings import get_settings
    from tidegate.stack.status import look

    found = look(get_settings())
    if as_json:
        print_json(found)
        return
    for name, service in found.services.items():
        pid = f"pid {service.pid}" if service.pid else ""
        typer.echo(f"{name:22}{service.state:10}{pid:14}{service.version or '':10}{service.address or ''}".rstrip())
    typer.echo(f"warehouse: {found.warehouse_dsn or 'none yet, run `tidegate up`'}")
    typer.echo(f"audit: {found.audit}")
    for name, address in (("pooled", found.pool_dsn), ("replica", found.replica_dsn)):
        if address:
            typer.echo(f"{name}: {address}")


def logs(
    service: str = typer.Argument(help="A server's name, as `tidegate status` shows it."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on printing what comes."),
    lines: int = typer.Option(100, "--lines", "-n", min=0, help="How many of the last lines to print first."),
) -> None:
    """Print the end of a server's log."""
    from tidegate.errors import StackError
    from tidegate.settings import get_settings
    from tidegate.stack.status import SERVICES, log_of

    if service not in SERVICES:
        raise typer.BadParameter(f"no service is called {service!r}; there are: {', '.join(SERVICES)}.")
    log = log_of(get_settings(), service)
    if not log.exists():
        raise StackError(f"{service} has no log yet at {log}: run `tidegate up` first.")
    with log.open(errors="replace") as file:
        for line in deque(file, maxlen=lines):
            typer.echo(line, nl=False)
        while follow:
            text = file.read()
            typer.echo(text, nl=False) if text else time.sleep(0.2)


def psql(
    arguments: Annotated[list[str] | None, typer.Argument(help="Words for psql, after `--`.")] = None,
    role: str = typer.Option(None, "--role", help="As app, migration, readonly, analyst or admin; else as the owner."),
    tenant: str = typer.Option(None, "--tenant", help="The tenant (a carrier's code) whose rows that role is to see."),
    pooled: bool = typer.Option(False, "--pooled", help="Through the pool, as applications do."),
    replica: bool = typer.Option(False, "--replica", help="At the replica, which is read only."),
) -> None:
    """Open psql on the warehouse."""
    from tidegate.errors import UsageError
    from tidegate.settings import get_settings
    from tidegate.stack import shell

    if pooled and replica:
        raise UsageError("--pooled and --replica exclude each other: found both, expected one")
    place: shell.Place = "pool" if pooled else "replica" if replica else "primary"
    shell.psql(get_settings(), arguments or [], role, tenant, place)


def env() -> None:
    """Print what a shell needs: `eval "$(tidegate env)"`; it holds passwords."""
    from tidegate.settings import get_settings
    from tidegate.stack.shell import shell_environment

    for name, value in sorted(shell_environment(get_settings()).items()):
        typer.echo(f"export {name}={shlex.quote(value)}")
