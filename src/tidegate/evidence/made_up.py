"""A warehouse of a probe's own, beside the rehearsal's: migrated, empty, with a home and a key of its own, gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from tidegate.evidence.probe import Ground
from tidegate.migrate import door
from tidegate.sealing import Keyring
from tidegate.sealing.keys import generate
from tidegate.settings import Settings


@contextmanager
def warehouse(ground: Ground, name: str) -> Iterator[Settings]:
    """Have an empty warehouse, a database of this name, for as long as the block runs; what is delivered to it lies apart."""
    place = ground.rehearsal
    with place.scratch(name) as dsn, tempfile.TemporaryDirectory() as folder:
        door.upgrade(dsn, ground.settings.project)
        apart = {
            "home": Path(folder), "inbox": Path(folder) / "inbox", "landing_url": None,
            "encryption_keys": SecretStr(str(Keyring((generate("k1"),)))),
        }  # fmt: skip
        yield place.settings(ground.settings, dsn).model_copy(update=apart)
