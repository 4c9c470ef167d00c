"""One person is found wherever their rows lie, and after the erasure nowhere; nobody else's rows have changed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.access.conftest import House
from tests.conftest import OWNER, PASSWORD
from tests.contracts.command import run

from tidegate.contracts import Contract, load, load_all
from tidegate.errors import HeldError, UsageError
from tidegate.gates import audit_chain
from tidegate.people import erase, places, request
from tidegate.people.person import Person
from tidegate.people.tombstone import stone
from tidegate.sealing import keyring
from tidegate.settings import load_settings
from tidegate.stores.postgres import connect
from tidegate.wave import ingest

CANARY = {
    "passenger_name": "Canary Zyxwvut",
    "email": "canary.zyxwvut@example.org",
    "phone": "+12015550199",
    "birth_on": "1931-07-13",
    "document_number": "Q91827364",
}
FACTS = "SELECT count(*), sum(fare_usd), count(DISTINCT booking_id), sum(flight), min(carrier) FROM raw.bookings"
OTHERS = f"SELECT * FROM raw.bookings WHERE passenger_name NOT IN ('{CANARY['passenger_name']}', 'erased') ORDER BY booking_id"


def delivered(house: House, month: str) -> list[dict[str, str]]:
    file = house.shop.settings.inbox_path / f"bookings/bookings-{month}.csv.gz"
    return list(csv.DictReader(io.StringIO(gzip.decompress(file.read_bytes()).decode())))


def deliver(house: House, month: str, rows: list[dict[str, str]], name: str, broken: str = "") -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    ingest(house.shop.settings, "bookings", month, house.shop.file(text.getvalue() + broken, f"{name}.csv"))


@pytest.fixture(scope="module")
def canary(house: House) -> House:
    """The person stands in a published batch, one that was replaced, one that is held, and among refused rows."""
    january, february = delivered(house, "2013-01"), delivered(house, "2013-02")
    for row in (*january[:2], february[0]):
        row.update(CANARY)
    deliver(house, "2013-01", january, "with the person")
    deliver(house, "2013-01", january[:250], "with the person, fewer")
    deliver(house, "2013-02", february, "with the person once")
    march = [{**row, "flight_on": row["flight_on"].replace("2013-01", "2013-03")} for row in january[:5]]
    march[1]["fare_usd"] = "-1"
    # Of a line with too few fields nobody knows what is what.
    with pytest.raises(HeldError):
        deliver(house, "2013-03", march, "held", f"UA-201303-000009,{CANARY['email']},x\n")
    house.administrate("ANALYZE")
    return house


def contract(house: House) -> Contract:
    return load(house.shop.settings, "bookings")


def person(house: House, *words: str) -> Person:
    settings = house.shop.settings
    return Person.called(words or (f"email={CANARY['email']}",), load_all(settings), keyring(settings).newest)


def held_of(house: House) -> dict[str, int]:
    """How many rows of the person lie where, found out value by value."""
    settings, found = house.shop.settings, dict[str, int]()
    with connect(settings) as connection:
        connection.execute("SELECT ops.enter_all()")
        for batch in places.batches(connection, contract(house)):
            table = places.table_of(connection, batch)
            assert table is not None
            rows = places.rows_of(connection, settings, contract(house), table, person(house))
            found[table.schema] = found.get(table.schema, 0) + len(rows)
            landed = list(places.landed_rows(settings, contract(house), batch, person(house)))
            found["landing"] = found.get("landing", 0) + len(landed)
        found["quarantine"] = len(places.refused_rows(connection, settings, contract(house), person(house)))
    return found


def everything(house: House) -> bytes:
    """All that is kept, opened: a dump of every row, every landed file, every refused row."""
    settings = house.shop.settings
    parts: list[Any] = []
    for name in (
        row["n"]
        for row in house.administrate(
            "SELECT oid::regclass::text AS n FROM pg_class WHERE relkind = 'r' AND oid > 16384"
        )
    ):
        parts += house.administrate(f"SELECT t::text AS t FROM {name} AS t")
    with connect(settings) as connection:
        connection.execute("SELECT ops.enter_all()")
        nobody = Person((), (), "", b"")
        for batch in places.batches(connection, contract(house)):
            table = places.table_of(connection, batch)
            assert table is not None
            parts += places.rows_of(connection, settings, contract(house), table, nobody)
            parts += places.landed_rows(settings, contract(house), batch, nobody)
            parts.append(Path(batch.landing_url.removeprefix("file://")).read_bytes())
        parts += places.refused_rows(connection, settings, contract(house), nobody)
    # What the planner knows of a column are values of it.
    parts += house.administrate("SELECT most_common_vals::text AS v, histogram_bounds::text AS h FROM pg_stats")
    return "\n".join(map(str, parts)).encode()


def test_a_person_is_named_by_personal_columns_alone(canary: House) -> None:
    with pytest.raises(
        UsageError, match="found 'fare_usd', expected COLUMN=VALUE with a personal column: birth_on, doc"
    ):
        person(canary, "fare_usd=1")
    with pytest.raises(UsageError, match="found 'something without `=`'"):
        person(canary, CANARY["email"])
    assert CANARY["email"] not in repr(person(canary))


def test_the_export_holds_every_row_and_says_where_it_lies(canary: House, tmp_path: Path) -> None:
    out = tmp_path / "person.json"
    since = canary.administrate("SELECT max(audit_id) AS n FROM ops.audit")[0]["n"]
    done = run("person", "export", f"email={CANARY['email']}", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert out.stat().st_mode & 0o777 == 0o600
    rows = json.loads(out.read_text())["datasets"]["bookings"]
    kept_in = [place.partition(",")[0] for row in rows for place in row["kept_in"]]
    assert {place: kept_in.count(place) for place in kept_in} == held_of(canary)
    assert held_of(canary) == {"raw": 3, "archive": 2, "staging": 1, "landing": 6, "quarantine": 2}
    values = [row["values"] for row in rows if "line" not in row["values"]]
    assert all(str(row[name]) == value for row in values for name, value in CANARY.items())
    lines = canary.administrate(
        f"SELECT object, row_count FROM ops.audit WHERE audit_id > {since} AND action = 'export'"
    )
    assert {(line["object"], line["row_count"]) for line in lines} == {
        (f"{place}.bookings", n) for place, n in held_of(canary).items()
    }
    assert "anary" not in str(canary.administrate("SELECT * FROM ops.audit"))


@pytest.fixture(scope="module")
def before(canary: House) -> Iterator[dict[str, Any]]:
    """What was so before the erasure, and a copy of the warehouse as a backup would have it."""
    canary.close()
    canary._open.clear()
    copy = f"{canary.database}_then"
    facts = {"facts": canary.administrate(FACTS), "others": canary.administrate(OTHERS)}
    with psycopg.connect(canary.server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {copy} TEMPLATE {canary.database} OWNER {OWNER}")  # type: ignore[call-overload]
        yield {**facts, "copy": copy}
        connection.execute(f"DROP DATABASE {copy} WITH (FORCE)")  # type: ignore[call-overload]


DIES = """
import os, signal
from tidegate.people import erase, places, request
from tidegate.stores import objects
from tidegate import cli
count = iter(range(100))
def dies(real, after):
    def once(*given, **named):
        if next(count) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)
    return once
{patch}
cli.main(["person", "erase", "email={email}", "--why", "asked by letter", "--yes-i-mean-it"])
"""


@pytest.mark.parametrize(
    "patch",
    [
        "request.count = dies(request.count, 2)",
        "objects.put = dies(objects.put, 1)",
        "erase._erase_refused = dies(erase._erase_refused, 0)",
        "request.finish = dies(request.finish, 0)",
    ],
)
def test_an_erasure_that_is_killed_loses_nothing_of_others(canary: House, before: dict[str, Any], patch: str) -> None:
    words = [sys.executable, "-c", DIES.format(patch=patch, email=CANARY["email"])]
    done = subprocess.run(words, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert canary.administrate(FACTS) == before["facts"]
    assert canary.administrate(OTHERS) == before["others"]
    with connect(canary.shop.settings) as connection:
        assert len(request.unfinished(canary.shop.settings, connection)) == 1


def test_run_again_it_goes_on_and_nothing_is_left_of_the_person(canary: House, before: dict[str, Any]) -> None:
    refused = run("person", "erase", f"email={CANARY['email']}", "--why", "asked by letter")
    assert (refused.exit_code, "say --yes-i-mean-it" in refused.output) == (1, True)
    done = run("person", "erase", f"email={CANARY['email']}", "--why", "asked by letter", "--yes-i-mean-it", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output[done.output.index("{") :]) == {
        "raw": 3,
        "archive": 2,
        "staging": 1,
        "landing": 6,
        "quarantine": 2,
    }
    assert set(held_of(canary).values()) == {0}
    kept = everything(canary)
    assert b"passenger_name" in kept
    for value in CANARY.values():
        assert value.encode() not in kept, value
    assert canary.administrate(FACTS) == before["facts"]
    assert canary.administrate(OTHERS) == before["others"]
    (row,) = canary.administrate("SELECT * FROM ops.erasure")
    assert (row["why"], row["columns"], row["finished_at"] is not None) == ("asked by letter", ["email"], True)
    assert audit_chain.verify(canary.shop.settings, [contract(canary)]).whole
    again = run("person", "erase", f"email={CANARY['email']}", "--why", "asked by letter", "--yes-i-mean-it")
    assert again.output.splitlines()[-1] == "nothing is kept of that person"
    assert len(canary.administrate("SELECT * FROM ops.erasure")) == 1


def test_what_stands_there_instead_keeps_every_rule_of_the_contract(canary: House) -> None:
    (row,) = canary.administrate(
        "SELECT DISTINCT passenger_name, birth_on, phone FROM raw.bookings WHERE passenger_name = 'erased'"
    )
    assert (row["passenger_name"], str(row["birth_on"]), row["phone"]) == ("erased", "1900-01-01", None)
    stones = {name: stone(contract(canary), contract(canary).column(name)) for name in CANARY}
    assert stones["document_number"] == "X00000000"
    assert stones["email"] == "x@x.x"
    for name, value in stones.items():
        rules = [rule.value for rule in contract(canary).column(name).rules if rule.kind == "pattern"]
        assert all(value is None or re.search(rule, value) for rule in rules)


def test_a_restore_brings_nobody_back(canary: House, before: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    url = canary.server.dsn(before["copy"], OWNER, PASSWORD)
    monkeypatch.setenv("TIDEGATE_WAREHOUSE_URL", url)
    settings = load_settings()
    query = f"SELECT count(*) FROM raw.bookings WHERE passenger_name = '{CANARY['passenger_name']}'"
    with psycopg.connect(canary.server.dsn(before["copy"]), autocommit=True) as restored:
        assert restored.execute(query).fetchone() == (3,)  # type: ignore[call-overload]
        (rows,) = erase.again(settings, load_all(settings)).values()
        assert rows == {"raw": 3, "archive": 2, "staging": 1, "quarantine": 2}
        assert restored.execute(query).fetchone() == (0,)  # type: ignore[call-overload]
        assert restored.execute("SELECT count(*) FROM ops.erasure WHERE finished_at IS NOT NULL").fetchone() == (1,)
    assert erase.again(settings, load_all(settings)) == {}
