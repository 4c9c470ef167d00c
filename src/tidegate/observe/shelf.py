"""Where sites to read stand, and how one takes the place of an older one; what is written there is not known here."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate.settings import Settings


def folder(settings: Settings, site: str) -> Path:
    """Return the folder of a site; its first page is `index.html`."""
    return settings.home / "docs" / site


@contextmanager
def renewed(site: Path) -> Iterator[Path]:
    """Yield an empty folder, which takes the place of the folder `site` when the block ends well.

    Builders of one site, `tidegate docs` and a DAG, wait for each other; the kernel lets the next one in when
    one dies.
    """
    partial = site.with_suffix(".partial")
    site.parent.mkdir(parents=True, exist_ok=True)
    with site.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        shutil.rmtree(site, ignore_errors=True)
        partial.replace(site)
