"""A canary in each classified column, and the search for them in everything that a home and its servers hold."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pyarrow.parquet as pq

from tidegate.run import demo
from tidegate.run.bookings import bookings
from tidegate.settings import Settings

MONTH = "2013-01"
#: Column → its canary in a row that is accepted, and in one that is refused; those of confidential columns first.
ACCEPTED = {
    "email": "canary.accepted@mail.example",
    "phone": "+19990008881",
    "document_number": "Q88800011",
    "passenger_name": "Canarina Acceptedson",
    "birth_on": "1911-11-11",
}
REFUSED = {
    "email": "canary.refused-no-address",
    "phone": "+19990008882",
    "document_number": "Q88800022",
    "passenger_name": "Canarina Refusedson",
    "birth_on": "1912-12-12",
}
CONFIDENTIAL = ("email", "phone", "document_number")
SECRET = {values[name] for values in (ACCEPTED, REFUSED) for name in CONFIDENTIAL}
HINTED = {value for values in (ACCEPTED, REFUSED) for value in values.values()} - SECRET
#: The delivery as it came, and files that hold keys.
NOT_OURS = ("inbox", "secrets.json", "env")


def deliver(inbox: Path, seats: int = 40) -> Path:
    """Put a month of bookings into the inbox, with one booking that is accepted and one that is not."""
    text = bookings(demo.lines_by_month("flights")[MONTH], MONTH, seats).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    planted = [
        {**rows[0], "booking_id": f"{rows[0]['carrier']}-201301-99999{n}", **values}
        for n, values in enumerate((ACCEPTED, REFUSED))
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows, *planted])
    file = inbox / f"bookings/bookings-{MONTH}.csv.gz"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(out.getvalue().encode()))
    return file


@dataclass(frozen=True)
class Sighting:
    """One canary where it was seen: in a file below home, in the text of a program, in a table."""

    place: str
    canary: str


def seen_in(place: str, content: bytes) -> list[Sighting]:
    """Look for every canary as it is, in hexadecimal digits, and in base64."""
    found = []
    for canary in sorted(SECRET | HINTED):
        plain = canary.encode()
        forms = (plain, plain.hex().encode(), base64.b64encode(plain).rstrip(b"=")[:-1])
        if any(form in content for form in forms):
            found.append(Sighting(place, canary))
    return found


def sweep(home: Path) -> list[Sighting]:
    """Look into every file below home; packed files are unpacked, Parquet files are decoded, too."""
    found: list[Sighting] = []
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if not path.is_file() or path.is_symlink() or name.split("/")[0] in NOT_OURS:
            continue
        for content in contents(path):
            found += seen_in(name, content)
    return list(dict.fromkeys(found))


def contents(path: Path) -> Iterator[bytes]:
    try:
        yield path.read_bytes()
    except FileNotFoundError:
        return  # a server's file of the moment
    if path.suffix == ".parquet":
        yield "\n".join(map(str, pq.read_table(path).to_pylist())).replace("datetime.date(", "").encode()
        yield pq.read_table(path).to_pandas().to_csv().encode()
    elif path.suffix == ".gz":
        yield gzip.decompress(path.read_bytes())
    elif path.suffix == ".zst":
        yield subprocess.run(["zstd", "-dqc", path], capture_output=True, check=True).stdout


def tables(url: str) -> list[Sighting]:
    """Look into every table and view of a database, row by row as text, whatever policies say; a superuser asks."""
    found: list[Sighting] = []
    with psycopg.connect(url) as connection:
        names = connection.execute(
            "SELECT n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class AS c "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'm') "
            "AND n.nspname NOT IN ('information_schema', 'pg_toast')"
        ).fetchall()
        for schema, table, name in names:
            if schema == "pg_catalog" and table not in ("pg_stats", "pg_statistic_ext_data", "pg_stat_activity"):
                continue
            rows = connection.execute(f"SELECT t::text FROM {name} AS t").fetchall()  # type: ignore[call-overload]
            found += seen_in(f"{schema}.{table}", "\n".join(str(row[0]) for row in rows).encode())
    return found


def settle(url: str) -> None:
    """Let the server write what it holds in memory, and hand its WAL over."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        connection.execute("SELECT pg_switch_wal()")


def superuser(settings: Settings, database: str = "warehouse") -> str:
    from tidegate.stack import warehouse

    return warehouse.reach(settings).dsn(database)


def warehouse_files(settings: Settings) -> str:
    """The folder of the warehouse's own data files, as the name of a place begins."""
    with psycopg.connect(superuser(settings)) as connection:
        (oid,) = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone() or (0,)
    return f"postgres/base/{oid}/"
