"""The command line in this process: what `tidegate` would print and how it would end."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

from tidegate import cli


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, and everything that it printed."""

    exit_code: int
    output: str


def run(*words: str) -> Ended:
    """Run one command."""
    printed = io.StringIO()
    status: object = 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            cli.main(list(words))
        except SystemExit as ended:
            status = ended.code
    return Ended(int(str(status or 0)), printed.getvalue())
