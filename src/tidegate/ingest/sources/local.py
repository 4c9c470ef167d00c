"""Files and globs under the inbox, or at an absolute path."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from tidegate.contracts import Contract, Source
from tidegate.contracts.model import PARTITION
from tidegate.errors import SourceError
from tidegate.ingest.delivery import Delivery, receive
from tidegate.settings import Settings


def fetch(settings: Settings, contract: Contract, source: Source, partition: str, spool: Path) -> Delivery:
    """Deliver every file that the source's path names for the partition, in name order.

    Raises:
        SourceError: there is no such file.
    """
    found = delivered(settings, source, partition)
    if not found:
        place = settings.inbox_path / source.location.replace(PARTITION, partition)
        raise SourceError(
            f"{contract.dataset} {partition}: nothing delivered at {place}; put the file there, "
            "or hand it over with --file"
        )
    return Delivery(tuple(receive(path, path.name, spool) for path in found))


def delivered(settings: Settings, source: Source, partition: str) -> list[Path]:
    """Return the files that lie in the inbox for one partition, in name order."""
    # The partition is a value, not a pattern.
    pattern = source.location.replace(PARTITION, glob.escape(partition))
    return [Path(name) for name in sorted(glob.glob(str(settings.inbox_path / pattern)))]


def available(settings: Settings, source: Source) -> list[str]:
    """Return the partitions that the inbox holds, sorted; empty where the path names no partition."""
    if source.type != "local" or PARTITION not in source.location:
        return []
    location = str(settings.inbox_path / source.location)
    before, after = location.split(PARTITION, 1)
    # What the partition is cannot be read from a glob: another pattern beside it may match as much as it likes.
    form = re.compile(_form(before) + "([^/]+)" + _form(after.replace(PARTITION, "*")) + r"\Z")
    names = glob.glob(location.replace(PARTITION, "*"))
    return sorted({match[1] for name in names if (match := form.match(name))})


def _form(pattern: str) -> str:
    """Return a glob's pattern as a regular expression of one path's part after the other."""
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(sign, re.escape(sign)) for sign in pattern)
