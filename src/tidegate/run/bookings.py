"""Bookings as deliveries in the inbox, and as they are made: made-up passengers on the demo year's real flights, the same ones each time.

Names are drawn from short lists, addresses and numbers from ranges that are nobody's.
"""

from __future__ import annotations

import csv
import io
import random
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import date, timedelta

from tidegate.contracts import load
from tidegate.run import demo
from tidegate.settings import Settings

DATASET = "bookings"
#: The dataset of the same seats as messages, each when it is booked.
STREAM = "booking_event"
#: Oldest first; of one moment by their key.
ORDER = "booked_at, booking_id"
#: Rows a month; two thousand of some 28,000 flights' seats.
SEATS = 2000

_GIVEN = (
    "Ada Alan Amina Anton Beatriz Bela Carlos Chen Chidi Dana Elif Emil Fatima Finn Grace Hana Hugo Ida Ines Ivan "
    "Jonas Kofi Lea Linh Malik Mara Mei Milan Nadia Noor Olga Omar Paula Priya Rafael Rosa Samir Sofia Tomás Yara Zoë"
)
_FAMILY = (
    "Abara Almeida Bauer Berg Castillo Chowdhury Dlamini Eriksen Fischer García Haddad Hansen Ito Jansen Kaya Kowalski "
    "Lindqvist Lopes Mbeki Moreau Nakamura Nguyen Novák O'Neill Okafor Patel Petrov Quispe Rossi Santos Schäfer Sharma "
    "Silva Sørensen Tanaka Torres Vasquez Wang Weber Yilmaz Zhou"
)
_HEADER = (
    "booking_id", "carrier", "flight", "flight_on", "origin", "dest", "passenger_name", "email", "phone", "birth_on",
    "document_number", "fare_usd",
)  # fmt: skip


def deliver(settings: Settings, months: Sequence[str], seats: int = SEATS) -> int:
    """Put the bookings of `months` into the inbox where they are missing; return the number of files written.

    Raises SourceError when the package that carries the flights is not installed.
    """
    contract = load(settings, DATASET)
    places = {month: demo.place(settings, contract, month) for month in months}
    missing = {month: place for month, place in places.items() if not place.exists()}
    if missing:
        flights = demo.lines_by_month("flights")
        for month, place in missing.items():
            demo.write(place, bookings(flights[month], month, seats))
    return len(missing)


def bookings(flights: bytes, month: str, seats: int) -> bytes:
    """Return a month's bookings as CSV, made from that month's flights (CSV with a header); seeded by the month."""
    rows = list(csv.DictReader(io.StringIO(flights.decode())))
    chance = random.Random(f"{DATASET} {month}")  # noqa: S311 - the same people each time, no secret
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows(_seat(chance, flight, number) for number, flight in enumerate(chance.choices(rows, k=seats)))
    return text.getvalue().encode()


def made(first: date, last: date) -> str:
    """Return DuckDB's SELECT of the rows of table `bookings` that fly from `first` to `last`, each with `booked_at`.

    That is within the 60 days before the day of departure, at a moment that follows from the booking's number alone.
    """
    return f"""
SELECT *, CAST(flight_on AS TIMESTAMP) AT TIME ZONE 'UTC'
    - to_seconds(CAST(1 + md5_number_lower(booking_id) % {60 * 86400} AS BIGINT)) AS booked_at
FROM {DATASET} WHERE flight_on BETWEEN DATE '{first:%Y-%m-%d}' AND DATE '{last:%Y-%m-%d}'
"""


def _seat(chance: random.Random, flight: dict[str, str], number: int) -> Iterable[object]:
    given, family = chance.choice(_GIVEN.split()), chance.choice(_FAMILY.split())
    day = date(int(flight["year"]), int(flight["month"]), int(flight["day"]))
    mailbox = f"{given}.{family}.{chance.randrange(10_000)}".replace("'", "").lower()
    mailbox = unicodedata.normalize("NFKD", mailbox).encode("ascii", "ignore").decode()
    # 555-0100 to 555-0199 are kept free for stories.
    phone = f"+1{chance.randrange(201, 990)}55501{chance.randrange(100):02d}" if chance.random() < 0.8 else ""
    fare = 40 + 0.11 * float(flight["distance"]) * chance.lognormvariate(0, 0.4)
    return (
        f"{flight['carrier']}-{day:%Y%m}-{number:06d}", flight["carrier"], flight["flight"], day, flight["origin"],
        flight["dest"], f"{given} {family}", f"{mailbox}@example.com", phone,
        day - timedelta(days=chance.randrange(2 * 365, 90 * 365)),
        f"{chance.choice('ABCDEFGHJKLMNPRSTUVWXYZ')}{chance.randrange(10**8):08d}", f"{fare:.2f}",
    )  # fmt: skip
