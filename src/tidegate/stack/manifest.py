"""dbt's manifest, kept as new as the models: Airflow draws the models' tasks from it and parses none itself.

It is written by `python -m tidegate.dbt` in a process of its own, beside servers that are starting.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate.errors import TerminalError
from tidegate.settings import Settings
from tidegate.stack.process import inherited

_ROOTS = ("models", "macros", "dbt_project.yml")


def path(settings: Settings) -> Path:
    """Return where the manifest lies."""
    return settings.home / "dbt" / "target" / "manifest.json"


def is_current(settings: Settings) -> bool:
    """Return whether the manifest is newer than everything that it is made from."""
    found = path(settings)
    if not found.is_file():
        return False
    sources = [file for root in _ROOTS for file in (settings.project / root, *(settings.project / root).rglob("*"))]
    # Folders count: removing a model changes its folder's time only.
    return found.stat().st_mtime > max(file.stat().st_mtime for file in sources)


@contextmanager
def renewed(settings: Settings) -> Iterator[None]:
    """Write the manifest while the block runs, if it is not current; it is there when the block has ended.

    Raises TerminalError when dbt cannot read the project.
    """
    if is_current(settings):
        yield
        return
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tidegate.dbt"],
        env=inherited() | {"TIDEGATE_HOME": str(settings.home), "TIDEGATE_PROJECT": str(settings.project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield
            told = process.communicate()[0]
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise TerminalError(f"dbt cannot read the models: {told.strip()}")
