"""Every write of classified rows and every change of the schema leaves one line, what is taken back leaves none."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import psycopg
import pytest
from psycopg import errors, sql
from tests.audit.conftest import Watched
from tests.conftest import OWNER
from tests.shop import MARCH, orders

from tidegate.contracts import access, load
from tidegate.errors import HeldError
from tidegate.gates import audit_chain
from tidegate.publish.batches import undo

Fact = tuple[str, str, int | None]
ROW = "(%s, '2024-03-05', 'canary-customer', 1, NULL, true, NULL, '2024-03', 'x')"


def partition(watched: Watched) -> str:
    (found,) = watched.shop.query(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'raw.orders'::regclass"
    )
    return str(found["name"])


def whole(watched: Watched) -> audit_chain.Report:
    settings = watched.shop.settings
    return audit_chain.verify(settings, [load(settings, "orders")])


class Doer:
    """Does things at random and knows which lines they should leave."""

    def __init__(self, watched: Watched, seed: int) -> None:
        self.chance, self.watched, self.number = random.Random(seed), watched, 1000 * (seed + 1)
        self.tables = ["raw.orders", partition(watched)]
        self.made: list[str] = []

    def insert(self, c: psycopg.Connection[Any]) -> Fact:
        table, n = self.chance.choice(self.tables), self.chance.randint(1, 4)
        values = ", ".join([ROW] * n)
        self.number += n
        numbers = list(range(self.number - n, self.number))
        c.execute(f"INSERT INTO {table} VALUES {values}", numbers)  # type: ignore[call-overload]
        return "insert", table, n

    def copy(self, c: psycopg.Connection[Any]) -> Fact:
        table, n = self.chance.choice(self.tables), self.chance.randint(0, 50)
        with c.cursor() as cursor, cursor.copy(f"COPY {table} (order_id, ordered_on, customer, amount_euro, paid, _partition, _batch_id) FROM STDIN") as copy:  # fmt: skip  # type: ignore[call-overload]
            for _ in range(n):
                copy.write_row((self.number, "2024-03-06", "canary-customer", 1, True, "2024-03", "x"))
                self.number += 1
        return "insert", table, n

    def update(self, c: psycopg.Connection[Any]) -> Fact:
        table = self.chance.choice(self.tables)
        done = c.execute(
            f"UPDATE {table} SET customer = 'canary-other' WHERE order_id %% 7 = %s", [self.chance.randint(0, 9)]
        )  # type: ignore[call-overload]
        return "update", table, done.rowcount

    def delete(self, c: psycopg.Connection[Any]) -> Fact:
        table = self.chance.choice(self.tables)
        done = c.execute(f"DELETE FROM {table} WHERE order_id > 3 AND order_id %% 5 = %s", [self.chance.randint(0, 9)])  # type: ignore[call-overload]
        return "delete", table, done.rowcount

    def truncate(self, c: psycopg.Connection[Any]) -> Fact:
        c.execute(f"TRUNCATE {self.tables[1]}")  # type: ignore[call-overload]
        return "truncate", self.tables[1], None

    def create(self, c: psycopg.Connection[Any]) -> Fact:
        self.number += 1
        name = f"public.t{self.number}"
        c.execute(f"CREATE TABLE {name} AS SELECT 1 AS n")  # type: ignore[call-overload]
        return "ddl", name, None

    def alter(self, c: psycopg.Connection[Any]) -> Fact:
        self.number += 1
        c.execute(f"CREATE SEQUENCE public.s{self.number}")  # type: ignore[call-overload]
        return "ddl", f"public.s{self.number}", None

    def enter(self, c: psycopg.Connection[Any]) -> Fact:
        c.execute("SELECT ops.enter_all()")
        return "enter_all", "every tenant", None

    def any(self) -> Callable[[psycopg.Connection[Any]], Fact]:
        return self.chance.choice(
            [self.insert, self.copy, self.update, self.delete, self.truncate, self.create, self.alter, self.enter]
        )


@pytest.mark.parametrize("seed", range(5))
def test_n_actions_leave_n_lines_and_those_taken_back_none(watched: Watched, seed: int) -> None:
    doer, since, expected = Doer(watched, seed), watched.last(), []
    with watched.as_(OWNER) as connection:
        for _ in range(30):
            facts: list[Fact] = []
            committed = doer.chance.random() < 0.6
            with connection.transaction(force_rollback=not committed):
                for _ in range(doer.chance.randint(1, 3)):
                    kept = doer.chance.random() < 0.8
                    with connection.transaction(force_rollback=not kept):
                        fact = doer.any()(connection)
                    facts += [fact] if kept and fact[2] != 0 else []
            expected += facts if committed else []
    assert len(expected) > 10
    assert watched.facts(since) == expected
    assert "canary" not in str(watched.lines(since))
    assert whole(watched).whole


def test_a_line_says_who_did_it_as_whom_from_where(watched: Watched) -> None:
    watched.shop.ingest([*MARCH, *orders(700, 701)])
    since = watched.last()
    with watched.as_("admin", application_name="a console") as connection:
        connection.execute("SET ROLE migration")
        connection.execute("UPDATE raw.orders SET paid = paid WHERE order_id = 1")
    with watched.as_("migration") as connection:
        connection.execute("UPDATE raw.orders SET paid = paid WHERE order_id = 1")
    first, second = watched.lines(since)
    assert (first["login"], first["role_name"], first["application_name"]) == ("admin", "migration", "a console")
    assert (second["login"], second["role_name"]) == ("migration", OWNER)
    assert str(first["client_address"]) == "127.0.0.1"
    assert first["transaction_id"] != second["transaction_id"]


def test_loading_a_batch_leaves_a_line_for_the_copy_and_one_for_what_readers_see(watched: Watched) -> None:
    since = watched.last()
    batch = watched.shop.ingest([*MARCH, *orders(10, 400)])
    written = [fact for fact in watched.facts(since) if fact[0] not in ("ddl", "drop")]
    staged, shown = f"staging.{batch.table}", f"raw.{batch.table}"
    # The gate looks for keys among the rows of all tenants.
    assert written == [("insert", staged, None), ("enter_all", "every tenant", None), ("publish", shown, 394)]
    since = watched.last()
    undo(watched.shop.settings, load(watched.shop.settings, "orders"), batch.batch_id, by="test", why="to see its line")
    assert [fact for fact in watched.facts(since) if fact[0] != "ddl"] == [("undo", shown, 394)]


def test_a_table_is_watched_from_its_copy_to_the_archive(watched: Watched) -> None:
    batch = watched.shop.ingest([*MARCH, *orders(500, 510)])
    watched.shop.ingest([*MARCH, *orders(500, 512)])
    since = watched.last()
    with watched.as_(OWNER) as connection:
        connection.execute(f"DELETE FROM archive.{batch.table} WHERE order_id = 500")  # type: ignore[call-overload]
        assert watched.facts(since) == [("delete", f"archive.{batch.table}", 1)]
        assert whole(watched).unwatched == ()
        for table in (f"archive.{batch.table}", "raw.orders"):
            with connection.transaction() as taken:
                connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER audit_update")  # type: ignore[call-overload]
                assert audit_chain.unwatched(connection_of(connection), [load(watched.shop.settings, "orders")]) == (
                    table,
                )
                raise psycopg.Rollback(taken)


def connection_of(connection: psycopg.Connection[Any]) -> psycopg.Connection[dict[str, Any]]:
    connection.row_factory = psycopg.rows.dict_row
    return connection


def test_refused_rows_that_are_written_and_changed_leave_lines(watched: Watched) -> None:
    since = watched.last()
    with pytest.raises(HeldError):
        watched.shop.ingest(["one,2024-04-01,canary-customer,1,,true,", *orders(1, 2, "2024-04")], "2024-04")
    with watched.as_(OWNER) as connection:
        connection.execute("UPDATE quarantine.refused_row SET state = 'dismissed' WHERE partition = '2024-04'")
        connection.execute("UPDATE quarantine.refused_row SET state = 'dismissed' WHERE partition = 'no such'")
        with pytest.raises(errors.NotNullViolation):
            connection.execute("INSERT INTO quarantine.refused_row (batch_id) VALUES ('x')")
    written = [fact for fact in watched.facts(since) if fact[1] == "quarantine.refused_row"]
    assert written == [("insert", "quarantine.refused_row", 1), ("update", "quarantine.refused_row", 1)]


@pytest.mark.parametrize("role", ["tidegate", "migration", "admin", "postgres", "analyst"])
def test_a_change_of_the_schema_leaves_a_line_whoever_makes_it(watched: Watched, role: str) -> None:
    since = watched.last()
    connection = watched.superuser() if role == "postgres" else watched.as_(role)
    with connection:
        if role == "analyst":
            connection.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO readonly")
            expected = [("ddl", "ALTER DEFAULT PRIVILEGES")]
        else:
            view = sql.Identifier("public", f"of_{role}")
            connection.execute(sql.SQL("CREATE VIEW {} AS SELECT 1 AS n").format(view))
            connection.execute(sql.SQL("ALTER VIEW {} RENAME n TO m").format(view))
            connection.execute(sql.SQL("GRANT SELECT ON {} TO readonly").format(view))
            connection.execute(sql.SQL("DROP VIEW {}").format(view))
            expected = [("ddl", "CREATE VIEW"), ("ddl", "ALTER VIEW"), ("ddl", "GRANT"), ("drop", "DROP VIEW")]
    found = watched.lines(since)
    assert [(line["action"], line["detail"]) for line in found] == expected
    assert {line["login"] for line in found} == {role}
    assert whole(watched).ddl


def test_what_an_alter_table_drops_is_no_line_of_its_own(watched: Watched) -> None:
    with watched.as_(OWNER) as connection:
        connection.execute("CREATE TABLE public.dropping (a int PRIMARY KEY, b int)")
        since = watched.last()
        connection.execute("ALTER TABLE public.dropping DROP COLUMN b")
        connection.execute("DROP TABLE IF EXISTS public.nothing")
        connection.execute("DROP TABLE public.dropping")
    assert [(line["action"], line["detail"]) for line in watched.lines(since)] == [
        ("ddl", "ALTER TABLE"),
        ("drop", "DROP TABLE"),
    ]


def test_writers_at_once_neither_stop_nor_lose_each_other(watched: Watched) -> None:
    writers, rounds, mine, failed = 8, 25, 900, list[psycopg.Error]()
    watched.shop.ingest([*MARCH, *orders(mine, mine + writers)])
    with watched.as_(OWNER) as connection:
        for name in ("of_0", "of_1"):
            connection.execute(f"CREATE TABLE raw.{name} AS SELECT * FROM raw.orders")  # type: ignore[call-overload]
            for statement in access.watch(load(watched.shop.settings, "orders"), "raw", name):
                connection.execute(statement)
    since = watched.last()

    def write(number: int) -> None:
        try:
            with watched.as_(OWNER) as connection:
                for turn in range(rounds):
                    # Two tables, in both orders: what would stop one another if each line were chained at once.
                    with connection.transaction():
                        for table in ("raw.orders", f"raw.of_{number % 2}")[:: 1 if (turn + number) % 2 else -1]:
                            connection.execute(f"UPDATE {table} SET paid = paid WHERE order_id = %s", [mine + number])  # type: ignore[call-overload]
        except psycopg.Error as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=[number]) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(watched.lines(since)) == writers * rounds * 2
    assert whole(watched).whole


def test_a_writer_that_is_not_done_keeps_nobody_waiting(watched: Watched) -> None:
    with watched.as_(OWNER) as slow, watched.as_(OWNER) as quick, slow.transaction():
        slow.execute("UPDATE raw.orders SET paid = paid WHERE order_id = 1")
        quick.execute("SET lock_timeout = '2s'")
        quick.execute("UPDATE raw.orders SET paid = paid WHERE order_id = 2")
    assert whole(watched).whole


def test_a_snapshot_that_cannot_see_the_end_of_the_chain_is_told_to_try_again(watched: Watched) -> None:
    watched.shop.ingest([*MARCH, *orders(700, 702)])
    since = watched.last()
    with watched.as_(OWNER) as late, watched.as_(OWNER) as early:
        late.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        late.execute("UPDATE raw.orders SET paid = paid WHERE order_id = 1")
        early.execute("UPDATE raw.orders SET paid = paid WHERE order_id = 2")
        with pytest.raises(errors.SerializationFailure):
            late.execute("COMMIT")
    assert len(watched.lines(since)) == 1
    assert whole(watched).whole


def test_after_a_kill_what_was_committed_has_its_line_and_nothing_else_has(watched: Watched) -> None:
    since, acknowledged = watched.last(), set()
    watched.shop.query("DELETE FROM raw.orders WHERE order_id > 100000")

    def write(first: int) -> None:
        with contextlib.suppress(psycopg.Error, psycopg.Rollback), watched.as_(OWNER) as connection:
            for number in range(first, first + 10_000):
                connection.execute(f"SET application_name = 'writer {number}'")  # type: ignore[call-overload]
                with connection.transaction():
                    connection.execute(f"INSERT INTO raw.orders VALUES {ROW}", [number])
                    if number % 3 == 0:
                        raise psycopg.Rollback
                acknowledged.add(number)

    threads = [threading.Thread(target=write, args=[100_000 * n]) for n in (2, 3, 4)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 200:
        time.sleep(0.01)
    process = watched.server.running()
    assert process is not None
    victims = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
    for victim in victims:
        victim.kill()
    psutil.wait_procs(victims, timeout=10)
    for thread in threads:
        thread.join()
    watched.server.start()
    rows = {row["order_id"] for row in watched.shop.query("SELECT order_id FROM raw.orders WHERE order_id > 100000")}
    written = [line for line in watched.lines(since) if line["application_name"].startswith("writer")]
    assert len(written) == len(rows)
    assert {int(line["application_name"].split()[1]) for line in written} == rows
    assert {number for number in acknowledged if number % 3} <= rows
    assert whole(watched).whole
    assert whole(watched).ddl


def test_a_direct_read_of_a_classified_column_is_logged_without_its_value(watched: Watched) -> None:
    watched.shop.ingest([*MARCH, *orders(600, 601)])
    where = watched.log.stat().st_size
    with watched.as_("app") as connection:
        connection.execute("SELECT order_id FROM raw.orders").fetchall()
        connection.execute("SELECT customer FROM raw.orders WHERE customer = 'canary-asked'").fetchall()
        connection.execute("SELECT customer FROM raw.orders WHERE customer = %s", ["canary-asked"]).fetchall()
    with watched.as_(OWNER) as connection:
        connection.execute(f"SELECT customer FROM {partition(watched)}").fetchall()  # type: ignore[call-overload]
    with watched.log.open() as log:
        log.seek(where)
        told = log.read()
    reads = [line for line in told.splitlines() if "AUDIT: OBJECT" in line]
    assert [("app@" in line, ",READ,SELECT,TABLE,raw.orders," in line) for line in reads[:2]] == [(True, True)] * 2
    assert len(reads) == 3
    assert f"{OWNER}@" in reads[2]
    assert "canary" not in told
