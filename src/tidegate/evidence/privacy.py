"""Whether a person who asks for it is erased wherever their rows lie, tried on somebody made up, in a warehouse made for it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from tidegate.contracts import Contract, load
from tidegate.errors import HeldError
from tidegate.evidence import made_up
from tidegate.evidence.probe import Finding, Ground
from tidegate.people import erase, places
from tidegate.people.export import export
from tidegate.people.person import Person, personal
from tidegate.run import demo
from tidegate.run.bookings import DATASET, bookings
from tidegate.sealing import keyring
from tidegate.settings import Settings
from tidegate.stores.postgres import connect, connect_to
from tidegate.wave import ingest

#: A month that is published, and one that is held for a row of the person's that was refused.
_PUBLISHED, _HELD = "2013-01", "2013-02"
_SEATS = 200


@dataclass(frozen=True)
class _Kept:
    """All that is kept, opened, by where: tables, landed files, rows that were refused."""

    tables: str
    landing: str
    quarantine: str

    def count(self, values: list[str]) -> dict[str, int]:
        return {place: sum(text.count(value) for value in values) for place, text in vars(self).items()}


def erasure(ground: Ground) -> Iterator[Finding]:
    """Export a made-up passenger, erase them, and look for them in tables, landed files and refused rows."""
    with made_up.warehouse(ground, "erasure") as settings:
        contract = load(settings, DATASET)
        row, others = _delivered(settings, contract)
        # What somebody else has, too, does not tell of this person.
        mine = [row[name] for name in personal(contract) if row[name] and row[name] not in others]
        person = Person.called([f"email={row['email']}"], [contract], keyring(settings).newest)
        superuser = ground.rehearsal.primary.dsn("erasure")
        found, kept = _exported(settings, contract, person), _kept(settings, contract, superuser)
        erased = erase.erase(settings, [contract], person, by="the probe", why="to see what is left")
        left, after = _exported(settings, contract, person), _kept(settings, contract, superuser)
    before_by, left_by = kept.count(mine), after.count(mine)
    figures = {
        "rows_before": found, "rows_left": left, "values_looked_for": len(mine), "values_before": sum(before_by.values()),
        "values_left": sum(left_by.values()), "rows_erased": sum(erased.values()),
    }  # fmt: skip
    text = "\n".join([
        f"{_SEATS} passengers of {_PUBLISHED} published, {_HELD} held; one of them was exported, erased, exported again",
        f"exported: {found} rows before, {left} after; erased: {erased}",
        *(f"{where}: {before_by[where]} values before, {left_by[where]} left" for where in before_by),
    ])  # fmt: skip
    # Where nothing was found before, nothing is shown by finding nothing afterwards.
    shown = found and all(before_by.values())
    bad = int(not shown or bool(left or figures["values_left"]))
    yield Finding("tests/security/erasure.log", text, figures, "tidegate person export; tidegate person erase", bad)


def _delivered(settings: Settings, contract: Contract) -> tuple[dict[str, str], set[str]]:
    """Deliver both months with one person in each; return their row, and every value that somebody else has."""
    flights = demo.lines_by_month("flights")
    months = {
        month: list(csv.DictReader(io.StringIO(bookings(flights[month], month, _SEATS).decode())))
        for month in (_PUBLISHED, _HELD)
    }
    mine = months[_PUBLISHED][0]
    known = {name: mine[name] for name in personal(contract)}
    months[_HELD][0] |= known
    months[_HELD][1] |= known | {"fare_usd": "-1"}
    for month, rows in months.items():
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        demo.write(demo.place(settings, contract, month), text.getvalue().encode())
    ingest(settings, DATASET, _PUBLISHED)
    with suppress(HeldError):
        ingest(settings, DATASET, _HELD)
    theirs = (row for rows in months.values() for row in rows if row["email"] != mine["email"])
    return mine, {value for row in theirs for value in row.values()}


def _exported(settings: Settings, contract: Contract, person: Person) -> int:
    document = export(settings, [contract], person)
    return sum(len(row["kept_in"]) for rows in document["datasets"].values() for row in rows)


def _kept(settings: Settings, contract: Contract, superuser: str) -> _Kept:
    tables, landing = [_as_they_lie(superuser)], []
    everybody = Person((), (), "", b"")
    with connect(settings) as connection:
        connection.execute("SELECT ops.enter_all()")
        for batch in places.batches(connection, contract):
            if (table := places.table_of(connection, batch)) is not None:
                tables.append(_text(places.rows_of(connection, settings, contract, table, everybody)))
            landing.append(_text(list(places.landed_rows(settings, contract, batch, everybody))))
        refused = places.refused_rows(connection, settings, contract, everybody)
    return _Kept("\n".join(tables), "\n".join(landing), _text(refused))


def _as_they_lie(superuser: str) -> str:
    """Return every row of every table, sealed where it is, as text."""
    with connect_to(superuser, autocommit=True) as connection:
        names = connection.execute(
            "SELECT nspname AS schema, relname AS table FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace "
            "WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        return "\n".join(
            row["told"]
            for name in names
            for row in connection.execute(
                sql.SQL("SELECT t::text AS told FROM {} AS t").format(sql.Identifier(name["schema"], name["table"]))
            ).fetchall()
        )


def _text(rows: list[Any]) -> str:
    return "\n".join(map(str, rows))
