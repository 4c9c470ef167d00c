"""dbt's documentation of the models that readers see, as a site of one page; off the hot path."""

from __future__ import annotations

import shutil
from pathlib import Path

from tidegate import dbt
from tidegate.observe import shelf
from tidegate.settings import Settings


def folder(settings: Settings) -> Path:
    """Return where the site stands."""
    return shelf.folder(settings, "dbt")


def build(settings: Settings) -> Path:
    """Build the site anew and return its page.

    Raises:
        UnavailableError: the warehouse does not answer.
        TerminalError: the models cannot be compiled.
    """
    site = folder(settings)
    with shelf.renewed(site) as partial:
        shutil.copyfile(dbt.docs(settings), partial / "index.html")
    return site / "index.html"
