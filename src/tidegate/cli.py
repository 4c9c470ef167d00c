"""The command `tidegate`: finds the commands, and turns errors into one sentence and an exit status.

A command lives in a module of `tidegate.commands` with a function `register(app)`; nothing is listed here.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

import typer

from tidegate import commands
from tidegate.errors import TidegateError
from tidegate.settings import aws_variables


def build() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="tidegate",
        help="An Airflow data platform in which every wave of data passes a gate.",
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

    for module in sorted(pkgutil.iter_modules(commands.__path__), key=lambda found: found.name):
        if module.name.startswith("_"):
            continue  # shared by commands, none itself
        importlib.import_module(f"{commands.__name__}.{module.name}").register(app)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed with a sentence on stderr, 2 a command line that cannot be read."""
    words = sys.argv[1:] if arguments is None else arguments
    # Clients of S3 read the environment and nothing else; so do the servers that this process starts.
    os.environ.update(aws_variables())
    try:
        build()(args=words, prog_name="tidegate")
    except TidegateError as error:
        if "--debug" in words:
            raise
        # The sender of a file has named it: nothing of it may reach the terminal as a command.
        told = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in str(error))
        sys.stderr.write(f"tidegate: {told}\n")
        sys.exit(1)
