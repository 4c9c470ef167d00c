"""The commands `tidegate` and `team`: finds their commands, and turns errors into one sentence and an exit status.

A command lives in a module of `tidegate.commands` (those of `team` in its package of that name) with a function
`register(app)`; nothing is listed here.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from types import ModuleType

import typer

from tidegate import commands
from tidegate.commands import team as team_commands
from tidegate.errors import TidegateError
from tidegate.settings import aws_variables


def build() -> typer.Typer:
    """Return the whole command line of `tidegate`."""
    return _build("tidegate", "An Airflow data platform in which every wave of data passes a gate.", commands)


def build_team() -> typer.Typer:
    """Return the whole command line of `team`."""
    return _build("team", "Teams that take a strategy document to a release, in waves that pass gates.", team_commands)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed with a sentence on stderr, 2 a command line that cannot be read."""
    _run("tidegate", build(), sys.argv[1:] if arguments is None else arguments)


def team(arguments: list[str] | None = None) -> None:
    """Run one command of `team` and exit as `main` does."""
    _run("team", build_team(), sys.argv[1:] if arguments is None else arguments)


def _build(name: str, purpose: str, package: ModuleType) -> typer.Typer:
    app = typer.Typer(
        name=name,
        help=purpose,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def _options(
        debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    ) -> None:
        pass

    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
        if module.name.startswith("_") or module.ispkg:
            continue  # shared by commands, none itself; or another program's
        importlib.import_module(f"{package.__name__}.{module.name}").register(app)
    return app


def _run(name: str, app: typer.Typer, words: list[str]) -> None:
    # Clients of S3 read the environment and nothing else; so do the servers that this process starts.
    os.environ.update(aws_variables())
    try:
        app(args=words, prog_name=name)
    except TidegateError as error:
        if "--debug" in words:
            raise
        # The sender of a file has named it: nothing of it may reach the terminal as a command.
        told = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in str(error))
        sys.stderr.write(f"{name}: {told}\n")
        sys.exit(1)
