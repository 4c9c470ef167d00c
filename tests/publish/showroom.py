"""Marts without dbt: a candidate that is made as dbt makes one, and people who look at what is published."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from tests.shop import Shop

from tidegate.publish import marts

#: One glance at the whole set: how many rows each mart has, and of which builds they are.
GLANCE = """
SELECT (SELECT count(*) FROM marts.fct_flight), (SELECT sum(flight_count)::bigint FROM marts.mart_by_carrier),
    (SELECT string_agg(DISTINCT made_for, ' ') FROM (
        SELECT made_for FROM marts.fct_flight UNION ALL SELECT made_for FROM marts.mart_by_carrier) both_marts)
"""
Glance = tuple[int, int, str]


def url(shop: Shop) -> str:
    assert shop.settings.warehouse_url is not None
    return shop.settings.warehouse_url.get_secret_value()


@dataclass
class Showroom:
    """A shop whose marts count `rows` flights; each change of the models' code is another build."""

    shop: Shop
    rows: int = 0

    def furnish(self, label: str, rows: int) -> str:
        """Change the code and the data, and make the candidate; return its build."""
        model = self.shop.root / "models/label.sql"
        model.parent.mkdir(exist_ok=True)
        model.write_text(f"select '{label}'")
        self.shop.query("CREATE TABLE IF NOT EXISTS raw.flights (n int)")
        self.shop.query("DELETE FROM raw.flights")
        self.shop.query("INSERT INTO raw.flights SELECT generate_series(1, %s)", [rows])
        build_id = marts.prepare(self.shop.settings)
        self.make("fct_flight", f"SELECT n, '{label}'::text AS made_for FROM raw.flights")
        self.make(
            "mart_by_carrier",
            f"SELECT n % 7 AS carrier, count(*) AS flight_count, '{label}'::text AS made_for FROM raw.flights GROUP BY 1",
        )
        return build_id

    def make(self, name: str, query: str) -> None:
        """Replace a table of the candidate as dbt does."""
        self.shop.query(f"CREATE TABLE marts_next.{name}__dbt_tmp AS {query}")
        self.shop.query(f"DROP TABLE IF EXISTS marts_next.{name} CASCADE")
        self.shop.query(f"ALTER TABLE marts_next.{name}__dbt_tmp RENAME TO {name}")

    def publish(self, label: str, rows: int) -> str:
        """Build, judge and publish."""
        build_id = self.furnish(label, rows)
        assert marts.judge(self.shop.settings, build_id) == "judged"
        marts.publish(self.shop.settings, build_id)
        return build_id

    def glance(self) -> Glance:
        with psycopg.connect(url(self.shop)) as connection:
            return look(connection)


def look(connection: psycopg.Connection) -> Glance:
    row = connection.execute(GLANCE).fetchone()
    assert row is not None
    return row


@dataclass
class Crowd:
    """Readers in threads of their own: what they saw, in order, and how long they were kept waiting at most."""

    seen: list[list[Any]] = field(default_factory=list)
    troubles: list[BaseException] = field(default_factory=list)
    longest_wait: float = 0.0

    def distinct(self) -> list[Any]:
        """What readers saw, without repetition, in the order of the first who saw it."""
        return list(dict.fromkeys(glance for seen in self.seen for glance in seen))


@contextmanager
def crowd(shop: Shop, *queries: tuple[str, bool]) -> Iterator[Crowd]:
    """Let one reader for each (query, prepared on the server) look again and again while the block runs."""
    told, stop = Crowd(), threading.Event()

    def read(query: str, prepared: bool, seen: list[Any]) -> None:
        try:
            with psycopg.connect(url(shop), autocommit=True) as connection:
                while not stop.is_set():
                    began = time.monotonic()
                    seen.append(connection.execute(query, prepare=prepared).fetchall()[0])
                    told.longest_wait = max(told.longest_wait, time.monotonic() - began)
        except BaseException as trouble:
            told.troubles.append(trouble)

    readers = []
    for query, prepared in queries:
        told.seen.append([])
        readers.append(threading.Thread(target=read, args=(query, prepared, told.seen[-1])))
    for reader in readers:
        reader.start()
    while not all(told.seen) and not told.troubles:
        time.sleep(0.01)
    try:
        yield told
        # Everybody looks once more after the block's end.
        looked = [len(seen) for seen in told.seen]
        while any(len(s) < n + 2 for s, n in zip(told.seen, looked, strict=True)) and not told.troubles:
            time.sleep(0.01)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
