"""A new key comes, everything is brought under it while people read, the old one goes: nothing is lost on the way."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from tests.access.conftest import House, house
from tests.access.test_lasting import deliver, delivered, revise

from tidegate.errors import BusyError, NoKeyError, WrongKeyError
from tidegate.ingest import quarantine
from tidegate.rotation import places
from tidegate.rotation.rotate import rotate
from tidegate.sealing import Keyring, Seal, keyring
from tidegate.sealing.keys import generate
from tidegate.settings import load_settings
from tidegate.stores.postgres import connect, exclusive

__all__ = ["house"]

PROGRAM = Path(sys.executable).with_name("tidegate")
COLUMNS = ("email", "phone", "document_number")


@pytest.fixture(scope="module", autouse=True)
def _wrong_rows(house: House) -> None:
    """Seven refused rows, and a batch that was replaced."""
    revise(
        house,
        "1.0.1",
        ("slaProperties:", "customProperties:\n  - {property: maxRefusedShare, value: 0.5}\nslaProperties:"),
    )
    rows = delivered(house, "2013-02")
    for row in rows[:7]:
        row["document_number"] = f"wrong {row['document_number']}"
    deliver(house, "2013-02", rows, "with seven wrong")


@pytest.fixture
def keys(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyring]:
    """A new key before those that sealed what there is; those open it again when the test has ended."""
    old = keyring(house.shop.settings)
    found = use(house, monkeypatch, Keyring((generate(f"n{uuid.uuid4().hex[:6]}"), *old.keys)))
    yield found
    everything = use(house, monkeypatch, Keyring((*old.keys, found.newest)))
    rotate(house.shop.settings, everything, None, print)
    monkeypatch.undo()
    house.shop.settings = load_settings()


def use(house: House, patch: pytest.MonkeyPatch, keys: Keyring) -> Keyring:
    patch.setenv("TIDEGATE_ENCRYPTION_KEYS", str(keys))
    house.shop.settings = load_settings()
    return keys


def opened(house: House, keys: Keyring) -> list[tuple[str, ...]]:
    """Every published booking with its confidential values in plain, whichever key each needs."""
    rows = house.administrate("SELECT booking_id, email, phone, document_number FROM raw.bookings ORDER BY 1")
    columns = [Seal(keys, f"bookings.{name}").open(row[name] for row in rows) for name in COLUMNS]
    return [(row["booking_id"], *values) for row, *values in zip(rows, *columns, strict=True)]


def needs(house: House, keys: Keyring) -> dict[str, tuple[int, int, int]]:
    found = places.census(house.shop.settings, keys)
    return {use.key: (use.in_tables, use.in_landing, use.in_quarantine) for use in found if use.needed_by}


def tidegate(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_rotation_that_is_killed_loses_nothing_and_goes_on(
    house: House, keys: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, (old, counted) = opened(house, keys), next(iter(needs(house, keys).items()))
    assert list(needs(house, keys)) == [old]
    assert all(counted)
    batches = house.administrate("SELECT count(*) AS n FROM ops.batch WHERE dataset = 'bookings'")[0]["n"]
    said = 0
    for _ in range(batches):
        # Killed as soon as one more batch is done.
        with tidegate("keys", "rotate") as process:
            assert process.stdout is not None
            said += "batch" in process.stdout.readline()
            process.kill()
        assert opened(house, keys) == before
    assert said >= 2
    with tidegate("keys", "rotate") as process:
        told, wrong = process.communicate()
    assert wrong == ""
    assert f"nothing here needs {old} any more; backups that were taken before still do" in told
    new = keys.newest.id
    assert needs(house, keys) == {new: counted}
    # The old key can go: all is readable without it, the quarantine too.
    alone = use(house, monkeypatch, Keyring((keys.newest,)))
    assert opened(house, alone) == before
    with connect(house.shop.settings) as connection:
        refused = quarantine.opened(house.shop.settings, quarantine.rows(connection, dataset="bookings"))
    assert len(refused) == 7
    assert all(re.fullmatch(r"wrong [A-Z]\d{8}", row.value or "") for row in refused)
    assert all(row.record["document_number"] == row.value for row in refused)
    retired = house.administrate("SELECT key_id FROM ops.encryption_key WHERE retired_at IS NOT NULL")
    assert retired == [{"key_id": old}]
    with tidegate("keys", "list") as process:
        rows = [line.split("\t") for line in process.communicate()[0].splitlines()]
    assert [(row[0], row[1], row[4:]) for row in rows[1:3]] == [
        (new, "seals", [str(count) for count in counted]),
        (old, "missing", ["0", "0", "0"]),
    ]


def test_readers_wait_for_nothing_while_keys_are_rotated_and_tenants_stay_apart(house: House, keys: Keyring) -> None:
    counts, waits, ended = set[int](), list[float](), threading.Event()

    def read() -> None:
        with house.connect("app_UA", options="-c lock_timeout=500") as connection:
            while not ended.is_set():
                started = time.perf_counter()
                rows = connection.execute("SELECT DISTINCT carrier, count(*) OVER () FROM raw.bookings").fetchall()
                waits.append(time.perf_counter() - started)
                counts.update(count for _, count in rows)
                assert {carrier for carrier, _ in rows} == {"UA"}

    with ThreadPoolExecutor() as pool:
        reader = pool.submit(read)
        rotate(house.shop.settings, keys, "bookings", print)
        ended.set()
        reader.result()
    assert len(counts) == 1
    assert len(waits) > 3
    assert house.unguarded() == []


def test_a_table_whose_policies_are_older_is_rotated_too(house: House, keys: Keyring) -> None:
    partition = house.partitions()[0]
    house.administrate(f"DROP POLICY every_tenant ON {partition}")
    house.administrate(
        f"CREATE POLICY every_tenant ON {partition} FOR SELECT TO tidegate USING ((SELECT ops.sees_all()))"
    )
    rotate(house.shop.settings, keys, "bookings", print)
    assert list(needs(house, keys)) == [keys.newest.id]


def test_a_batch_that_is_worked_on_keeps_its_key_until_the_next_rotation(house: House, keys: Keyring) -> None:
    batch = house.administrate("SELECT batch_id FROM ops.batch WHERE dataset = 'bookings' ORDER BY created_at LIMIT 1")
    with (
        connect(house.shop.settings) as connection,
        exclusive(connection, f"batch {batch[0]['batch_id']}"),
        pytest.raises(
            BusyError, match=rf"1 batches are being worked on \({batch[0]['batch_id']}\), and keep their keys"
        ),
    ):
        rotate(house.shop.settings, keys, None, print)
    assert set(needs(house, keys)) == {key.id for key in keys.keys}
    rotate(house.shop.settings, keys, None, print)
    assert list(needs(house, keys)) == [keys.newest.id]


def test_another_key_of_a_name_that_has_sealed_is_refused_before_it_seals_anything(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = needs(house, keyring(house.shop.settings))
    with monkeypatch.context() as patch:
        wrong = use(house, patch, Keyring((generate("k1"),)))
        rows = delivered(house, "2013-01")[:9]
        for work in (
            lambda: deliver(house, "2013-01", rows, "nine"),
            lambda: rotate(house.shop.settings, wrong, None, print),
        ):
            with pytest.raises(WrongKeyError, match="not the one that sealed what this warehouse holds"):
                work()
        patch.delenv("TIDEGATE_ENCRYPTION_KEYS")
        house.shop.settings = load_settings()
        with pytest.raises(NoKeyError, match="confidential columns are sealed, and there is no key"):
            deliver(house, "2013-01", rows, "nine")
    house.shop.settings = load_settings()
    assert needs(house, keyring(house.shop.settings)) == before


def test_the_database_takes_no_value_that_is_not_sealed(house: House) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="is_sealed"):
        house.administrate(f"UPDATE {house.partitions()[0]} SET email = 'ada@example.com'::bytea")
