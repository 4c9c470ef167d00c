"""One embedded warehouse with passengers in it, for all tests of rehearsals."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.whole import WAREHOUSE_ALONE, Typed

from tidegate.errors import HeldError
from tidegate.rehearsal import rehearsal
from tidegate.rehearsal.rehearsal import Rehearsal
from tidegate.run.bookings import deliver
from tidegate.wave import ingest

MONTH, HELD = "2013-01", "2013-02"


@pytest.fixture(scope="package")
def original(reachable_folder: Path) -> Iterator[Typed]:
    """The warehouse, with 200 published bookings, and a batch that is held for one that was refused."""
    stack = Typed(reachable_folder / "original", WAREHOUSE_ALONE)
    settings = stack.up()
    deliver(settings, [MONTH, HELD], 200)
    ingest(settings, "bookings", MONTH)
    file = next(settings.inbox_path.rglob(f"bookings-{HELD}.csv.gz"))
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    fields = lines[1].split(",")
    crooked = reachable_folder / "crooked.csv"
    crooked.write_text(
        "\n".join([lines[0], ",".join([*fields[:6], "Grace Canary", "grace@nowhere", *fields[8:]]), *lines[2:]])
    )
    with pytest.raises(HeldError):
        ingest(settings, "bookings", HELD, crooked)
    # As autovacuum does in its own time: what is known about the columns are values of some passengers.
    with psycopg.connect(stack.superuser, autocommit=True) as connection:
        connection.execute("ANALYZE")
    yield stack
    rehearsal.down(stack.settings, lambda _: None)
    stack.down()


@pytest.fixture(scope="package")
def rehearsed(original: Typed) -> Rehearsal:
    """A rehearsal of it."""
    return rehearsal.up(original.settings, lambda _: None)
