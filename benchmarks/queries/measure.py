"""The important queries (`queries/`), and lookups in bookings, by what stands between the client and the rows.

    .venv/bin/python -m benchmarks.queries.measure [--rounds 5]

- important: each query of `queries/` directly, with prepared statements, and through PgBouncer. None of them reads a
  classified column or a tenant's rows.
- bookings: one booking by its key, and one carrier's bookings of a day, in 240,000 rows. With the confidential columns
  in plain or sealed (opening them in the client counts); without row-level security, with it for a login that is bound
  to the tenant, and for a program that enters the tenant in each transaction (four statements instead of one);
  directly and through PgBouncer. `published` is the table as it is: 24,000 rows in a partition for each month, sealed,
  tenants apart, reads logged by pgaudit.

Each draws 200 parameters, the same ones; with each of them all ask in turn, round after round. `p50_ms` and `p95_ms` are
over the draws, of which each counts as the fastest of its rounds: so they tell of the data and the way, not of what
else the machine had to do at that moment. `p95_of_all_ms` is over every single question.
Where nothing is said, statements are not prepared, as PgBouncer needs it.
Written beside this file: results.json. Compare ratios only, and only within one run.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from benchmarks import warehouse as demo
from benchmarks.machine import describe
from tidegate.contracts import Contract, access, load
from tidegate.evidence import queries as important
from tidegate.sealing import Seal, keyring
from tidegate.sealing.columns import place
from tidegate.settings import Settings
from tidegate.stack import pool, roles, warehouse
from tidegate.stack.secret import Secrets
from tidegate.stores.postgres import Connection

HERE = Path(__file__).parent
RUNS, TIMES, TENANT = 200, 10, "UA"
DATASET = "bookings"
SHOWN = "booking_id, flight, passenger_name, email, phone, document_number, fare_usd"
LOOKUPS = {
    "one booking": "SELECT {shown} FROM {table} WHERE booking_id = %(booking_id)s",
    "a day's bookings": "SELECT {shown} FROM {table} WHERE carrier = %(carrier)s AND flight_on = %(flight_on)s",
}
ENTRIES = ("no row-level security", "a bound login", "a tenant entered")


@dataclass(frozen=True)
class Way:
    """One way to the rows of bookings."""

    table: str
    sealed: bool
    entry: str
    path: str

    def told(self) -> dict[str, Any]:
        """Return it as results tell it."""
        published = self.table == "raw.bookings"
        return {"sealed": self.sealed, "entry": self.entry, "path": self.path, "published": published}


def prepare(settings: Settings, contract: Contract) -> None:
    """Make four tables of bookings in the schema `bench`: in plain or sealed, guarded or not."""
    seals = _seals(settings, contract)
    with demo.superuser(settings) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA bench; GRANT USAGE ON SCHEMA bench TO app; ALTER SCHEMA bench OWNER TO tidegate")
        cursor.execute("CREATE TABLE bench.sealed AS SELECT * FROM raw.bookings")
        rows = cursor.execute("SELECT * FROM raw.bookings").fetchall()
        names = [column.name for column in cursor.description or ()]
        for name, seal in seals.items():
            at = names.index(name)
            opened = seal.open([row[at] for row in rows])
            rows = [
                (*row[:at], value and value.decode(), *row[at + 1 :]) for row, value in zip(rows, opened, strict=True)
            ]
        cursor.execute("CREATE TABLE bench.plain (LIKE raw.bookings)")
        for name in seals:
            cursor.execute(
                sql.SQL("ALTER TABLE bench.plain ALTER {0} TYPE text USING NULL").format(sql.Identifier(name))
            )
        with cursor.copy("COPY bench.plain FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        for kind in ("plain", "sealed"):
            table = sql.Identifier("bench", kind)
            shown = sql.SQL(", ").join(sql.Identifier(n) for n in names if n != "booking_id")
            cursor.execute(
                sql.SQL("INSERT INTO {0} (booking_id, {1}) SELECT booking_id || '-' || g, {1} FROM {0}, generate_series(2, %s) AS g").format(table, shown),
                [TIMES],
            )  # fmt: skip
            guarded = sql.Identifier("bench", f"{kind}_guarded")
            cursor.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(guarded, table))
            for name in (kind, f"{kind}_guarded"):
                found = sql.Identifier("bench", name)
                cursor.execute(
                    sql.SQL("CREATE INDEX ON {0} (booking_id); CREATE INDEX ON {0} (carrier, flight_on)").format(found)
                )
                cursor.execute(sql.SQL("ALTER TABLE {0} OWNER TO tidegate; GRANT SELECT ON {0} TO app").format(found))
            with connection.transaction():
                cursor.execute("SET LOCAL ROLE tidegate")
                for statement in access.guard(contract, "bench", f"{kind}_guarded"):
                    cursor.execute(statement)
        cursor.execute("VACUUM ANALYZE")


def ways() -> list[Way]:
    """Return every way, the plainest first."""
    paths = ("direct", "pool")
    made = [
        Way(f"bench.{kind}{'' if entry == ENTRIES[0] else '_guarded'}", kind == "sealed", entry, path)
        for path in paths
        for entry in ENTRIES
        for kind in ("plain", "sealed")
    ]
    return made + [Way("raw.bookings", True, ENTRIES[1], path) for path in paths]


def of_bookings(settings: Settings, rounds: int) -> list[dict[str, Any]]:
    """Let the ways take turns; return the figures of each lookup by each way."""
    contract = load(settings, DATASET)
    prepare(settings, contract)
    seals = _seals(settings, contract)
    logins = {entry: roles.credentials(settings, "app", TENANT if entry == ENTRIES[1] else None) for entry in ENTRIES}
    server, before = warehouse.reach(settings), pool.mine(settings)
    pool.learn(settings, server)
    with demo.superuser(settings) as connection:
        connection.row_factory = dict_row
        query = (
            f"SELECT booking_id, carrier, flight_on FROM raw.bookings WHERE carrier = '{TENANT}' ORDER BY booking_id"
        )
        known = connection.execute(query).fetchall()
    drawn = random.Random(DATASET).choices(known, k=RUNS)  # noqa: S311 nothing secret
    found = []
    with ExitStack() as open_:
        connections = {}
        for way in ways():
            who = logins[way.entry]
            dsn = (before if way.path == "pool" else server).dsn("warehouse", who["PGUSER"], who["PGPASSWORD"])
            connections[way] = open_.enter_context(_connect(dsn))
        for lookup, text in LOOKUPS.items():
            looks = {
                way: _look(connection, way, text.format(shown=SHOWN, table=way.table), seals)
                for way, connection in connections.items()
            }
            counts = {way: sum(look(parameters) for parameters in drawn) for way, look in looks.items()}
            for way, figures in _in_turn(looks, drawn, rounds).items():
                found.append({"lookup": lookup, **way.told(), "rows": round(counts[way] / RUNS, 1), **figures})
    for one in found:
        plainest = next(other for other in found if other["lookup"] == one["lookup"])
        one["p95_ratio"] = round(one["p95_ms"] / plainest["p95_ms"], 2)
    return found


def of_important(settings: Settings, rounds: int) -> list[dict[str, Any]]:
    """Let the paths take turns; return the figures of each important query by each path."""
    server, password = warehouse.reach(settings), Secrets.load(settings.home).warehouse_password
    direct = server.dsn("warehouse", warehouse.OWNER, password)
    pooled = pool.mine(settings).dsn("warehouse", warehouse.OWNER, password)
    found = []
    with _connect(direct) as plain, _connect(direct, prepare=True) as prepared, _connect(pooled) as through:
        paths: dict[str, Connection] = {"direct": plain, "prepared": prepared, "pool": through}
        for query in important.read(settings.project):
            drawn = important.draw(plain, query, RUNS)
            looks = {path: _look(connection, None, query.statement, {}) for path, connection in paths.items()}
            figures = _in_turn(looks, drawn, rounds)
            base = figures["direct"]["p95_ms"]
            for path, told in figures.items():
                ratio = round(told["p95_ms"] / base, 2)
                found.append(
                    {"query": query.name, "path": path, "target_ms": query.target_ms, **told, "p95_ratio": ratio}
                )
    return found


def _look(
    connection: Connection, way: Way | None, statement: str, seals: dict[str, Seal]
) -> Callable[[dict[str, Any]], int]:
    """Return the function that asks once, opens what is sealed, and returns how many rows there were."""
    query = statement.encode()

    def plainly(parameters: dict[str, Any]) -> int:
        return len(connection.execute(query, parameters).fetchall())

    def opening(parameters: dict[str, Any]) -> int:
        rows = connection.execute(query, parameters).fetchall()
        for name, seal in seals.items():
            for row, value in zip(rows, seal.open([row[name] for row in rows]), strict=True):
                row[name] = value and value.decode()
        return len(rows)

    ask = opening if way and way.sealed else plainly

    def entering(parameters: dict[str, Any]) -> int:
        with connection.transaction():
            connection.execute("SELECT ops.enter(%s)", [TENANT])
            return ask(parameters)

    return entering if way and way.entry == ENTRIES[2] else ask


def _in_turn[T](
    looks: dict[T, Callable[[dict[str, Any]], int]], drawn: list[dict[str, Any]], rounds: int
) -> dict[T, dict[str, float]]:
    """Let all ask with each draw in turn, round after round; return the figures of each, after one that nobody counts."""
    times: dict[T, list[list[float]]] = {name: [[] for _ in drawn] for name in looks}
    for number in range(rounds + 1):
        for at, parameters in enumerate(drawn):
            for name, look in looks.items():
                began = time.perf_counter()
                look(parameters)
                if number:
                    times[name][at].append(1000 * (time.perf_counter() - began))
    return {name: _figures(found) for name, found in times.items()}


def _figures(times: list[list[float]]) -> dict[str, float]:
    best, every = sorted(map(min, times)), sorted(one for rounds in times for one in rounds)
    return {
        "p50_ms": round(statistics.median(best), 3),
        "p95_ms": round(best[int(0.95 * len(best))], 3),
        "p95_of_all_ms": round(every[int(0.95 * len(every))], 3),
    }


def _connect(dsn: str, *, prepare: bool = False) -> Connection:
    return psycopg.connect(dsn, autocommit=True, row_factory=dict_row, prepare_threshold=5 if prepare else None)


def _seals(settings: Settings, contract: Contract) -> dict[str, Seal]:
    return {name: Seal(keyring(settings), place(DATASET, name)) for name in contract.sealed}


def main() -> None:
    """Measure, write results.json, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    described = describe()
    with demo.of_the_year() as settings:
        found = {"important": of_important(settings, rounds), "bookings": of_bookings(settings, rounds)}
    (HERE / "results.json").write_text(json.dumps({"machine": described, "rounds": rounds, **found}, indent=1) + "\n")
    for one in (*found["important"], *found["bookings"]):
        print(one)


if __name__ == "__main__":
    main()
