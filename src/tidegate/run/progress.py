"""How a run shows that it goes on: bars on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Where a run tells how far it is."""

    def say(self, text: str) -> None:
        """Tell that something happened."""

    def count(self, what: str, done: int, total: int, failed: int = 0) -> None:
        """Tell how much of `what` is done."""


class Lines:
    """Plain lines, with the seconds since the start; the same count is told once."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._told: dict[str, tuple[int, int, int]] = {}

    def say(self, text: str) -> None:
        """Print a line."""
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    def count(self, what: str, done: int, total: int, failed: int = 0) -> None:
        """Print a line when the count has changed."""
        if self._told.get(what) != (done, total, failed):
            self._told[what] = (done, total, failed)
            self.say(f"{what}: {done} of {total}" + (f", {failed} failed" if failed else ""))


class Bars:
    """Bars that grow, with the lines above them."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self.live = Progress(
            TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("[red]{task.fields[trouble]}"),
        )  # fmt: skip
        self._tasks: dict[str, int] = {}

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.live.console.print(text, markup=False, highlight=False)

    def count(self, what: str, done: int, total: int, failed: int = 0) -> None:
        """Draw the bar of `what`."""
        trouble = f"{failed} failed" if failed else ""
        if what not in self._tasks:
            self._tasks[what] = self.live.add_task(what, total=total, trouble=trouble)
        self.live.update(self._tasks[what], completed=done, total=total, trouble=trouble)  # type: ignore[arg-type]


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield bars on a terminal, lines elsewhere."""
    if not sys.stdout.isatty():
        yield Lines()
        return
    bars = Bars()
    with bars.live:
        yield bars
