"""Bring sealed values under the newest key, a batch at a time; killed anywhere, run again it goes on where it was.

A row, a file or a refused row is under the old key or under the new one, never between: what is done is told by the
values themselves, and kept nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import groupby
from typing import Any

import structlog
from psycopg import errors, sql

from tidegate.contracts import access, load
from tidegate.errors import BusyError
from tidegate.gates.ledger import Batch
from tidegate.gates.tables import BatchTable
from tidegate.ingest.quarantine import SEALED, Locks
from tidegate.ingest.refused_messages import Locks as MessageLocks
from tidegate.ingest.refused_messages import parts_of, rewrite
from tidegate.ingest.spool import spool
from tidegate.rotation import places
from tidegate.sealing import Keyring, Seal, columns
from tidegate.sealing.register import introduce
from tidegate.sealing.values import armour, from_armour
from tidegate.settings import Settings
from tidegate.stores import objects
from tidegate.stores.postgres import Connection, connect, exclusive, impatient, number

log = structlog.get_logger(__name__)

#: Pages of a table (8 KiB each) that are renewed in one transaction; erasing or replacing rows waits for no more.
_PAGES = 256
Say = Callable[[str], None]


def rotate(settings: Settings, keys: Keyring, dataset: str | None, say: Say) -> Counter[str]:
    """Seal under the newest key whatever is not, in tables, landed files and the quarantine; return the counts.

    Readers go on reading: rows are renewed as any update does it, some megabytes at a time. Keys that nothing needs
    after it are marked as retired.

    Raises:
        SealError: a value's key is not at hand, or a value is damaged; what was renewed before stays so.
        BusyError: batches are being worked on; all others are done.
    """
    done, busy = Counter[str](), list[str]()
    with connect(settings) as connection:
        introduce(connection, keys)
        connection.commit()
        tables = places.tables(connection, dataset)
        batches = {batch.batch_id: batch for batch in places.landed(settings, connection, dataset)}
        connection.commit()
        by_batch = {batch_id: list(group) for batch_id, group in groupby(tables, key=lambda table: table.batch_id)}
        for batch_id, batch in batches.items():
            try:
                with exclusive(connection, f"batch {batch_id}"):
                    rows = sum(_renew_table(connection, settings, keys, table) for table in by_batch.get(batch_id, []))
                    values = _renew_landed(settings, keys, batch)
            except BusyError:
                busy.append(batch_id)
                continue
            done += Counter({"rows": rows, "values in landed files": values})
            if rows or values:
                say(
                    f"{batch.dataset} {batch.partition}: batch {batch_id}: {rows} rows, {values} values of its landed file"
                )
        for table in (table for table in tables if not table.batch_id):
            try:
                with exclusive(connection, table.turn):
                    done["rows"] += _renew_table(connection, settings, keys, table)
            except BusyError:
                busy.append(table.name)
        done["refused rows"] += _renew_refused(connection, keys, dataset)
        done["refused messages"] += _renew_messages(connection, keys, dataset)
    _vacuum(settings, tables)
    if busy:
        raise BusyError(
            f"{len(busy)} batches are being worked on ({', '.join(busy[:3])}), and keep their keys: run it again; all others "
            f"are under {keys.newest.id}"
        )
    retire(settings, keys)
    return done


def retire(settings: Settings, keys: Keyring) -> list[str]:
    """Mark the keys that nothing needs any more, and return the names of all that are so."""
    free = [use.key for use in places.census(settings, keys) if not use.needed_by and use.standing != "seals"]
    with connect(settings) as connection:
        connection.execute(
            "UPDATE ops.encryption_key SET retired_at = now() WHERE key_id = ANY(%s) AND retired_at IS NULL", [free]
        )
    return free


def _renew_table(connection: Connection, settings: Settings, keys: Keyring, table: BatchTable) -> int:
    """Renew the rows of one table, some pages in each transaction; return how many."""
    seals = {name: Seal(keys, columns.place(table.dataset, name)) for name in table.sealed}
    connection.commit()
    _admit(connection, settings, table)
    pages = number(connection, "SELECT pg_relation_size(%s::oid) / current_setting('block_size')::int", [table.oid])
    connection.commit()
    done = 0
    for first in range(0, pages, _PAGES):
        for attempt in range(3):
            try:
                with connection.transaction():
                    connection.execute("SELECT ops.enter_all()")
                    done += _renew_pages(connection, table, seals, first)
                break
            except errors.UndefinedTable:
                # It was moved, to where it is published or archived, between being named and being read.
                if attempt == 2:
                    raise
    return done


def _renew_pages(connection: Connection, table: BatchTable, seals: dict[str, Seal], first: int) -> int:
    name, head = places.named(connection, table), next(iter(seals.values())).head
    names = [sql.Identifier(column) for column in seals]
    old = sql.SQL(" OR ").join(
        sql.SQL("substring({}::bytea FROM 1 FOR {}) <> {}").format(column, sql.Literal(len(head)), sql.Literal(head))
        for column in names
    )
    rows: list[dict[str, Any]] = (
        connection.cursor(binary=True)
        .execute(
            sql.SQL(
                "SELECT ctid::text AS place, {columns} FROM {table} WHERE ctid >= {first} AND ctid < {end} AND ({old}) "
                "FOR NO KEY UPDATE"
            ).format(
                columns=sql.SQL(", ").join(sql.SQL("{0}::bytea AS {0}").format(column) for column in names),
                table=name,
                first=sql.Literal(f"({first},0)"),
                end=sql.Literal(f"({first + _PAGES},0)"),
                old=old,
            )
        )
        .fetchall()
    )
    if not rows:
        return 0
    renewed = [seal.renew(row[column] for row in rows) for column, seal in seals.items()]
    given = [sql.Identifier(f"c{n}") for n in range(len(names))]
    connection.execute(
        sql.SQL(
            "UPDATE {table} AS t SET {changes} FROM unnest(%s::tid[]{arrays}) AS v (place{given}) WHERE t.ctid = v.place"
        ).format(
            table=name,
            changes=sql.SQL(", ").join(sql.SQL("{} = v.{}").format(*pair) for pair in zip(names, given, strict=True)),
            arrays=sql.SQL(", %b::bytea[]") * len(names),
            given=sql.SQL("").join(sql.SQL(", {}").format(one) for one in given),
        ),
        [[row["place"] for row in rows], *renewed],
    )
    return len(rows)


def _admit(connection: Connection, settings: Settings, table: BatchTable) -> None:
    """Let the owner change the rows of all tenants, in a table whose policies are older than that being asked."""
    old = connection.execute(
        "SELECT n.nspname AS schema, c.relname AS name FROM pg_policy AS p JOIN pg_class AS c ON c.oid = polrelid "
        "JOIN pg_namespace AS n ON n.oid = relnamespace WHERE c.oid = %s AND polname = 'every_tenant' AND polcmd <> '*'",
        [table.oid],
    ).fetchone()
    connection.commit()
    contract = load(settings, table.dataset) if old else None
    if old and contract and contract.tenant:
        with impatient(connection):
            for statement in access.guard(contract, old["schema"], old["name"]):
                connection.execute(statement)


def _renew_landed(settings: Settings, keys: Keyring, batch: Batch) -> int:
    """Replace a landed file in one step; return how many of its values were under another key."""
    with objects.opened(batch.landing_url) as stream:
        old = {key: count for key, count in columns.counts(stream).items() if key != keys.newest.id}
        if not old:
            return 0
        with spool(settings.home, batch.dataset) as folder:
            renewed = folder / "renewed.parquet"
            columns.renew(keys, batch.dataset, stream, renewed)
            objects.put(renewed, batch.landing_url)
    return sum(old.values())


def _renew_refused(connection: Connection, keys: Keyring, dataset: str | None) -> int:
    done = 0
    for rows in places.refused(connection, dataset):
        for name, group in groupby(sorted(rows, key=lambda row: row["dataset"]), key=lambda row: row["dataset"]):
            members, locks = list(group), Locks.of(keys, name)
            values, records = (
                _renewed(seal, [row[part] for row in members])
                for part, seal in (("value", locks.value), ("record", locks.record))
            )
            changed = [
                (value, record, row["id"])
                for value, record, row in zip(values, records, members, strict=True)
                if (value, record) != (row["value"], row["record"])
            ]
            with connection.transaction():
                connection.cursor().executemany(
                    "UPDATE quarantine.refused_row SET value = %s, record = jsonb_build_object(%s::text, %s::text) "
                    "WHERE refused_row_id = %s",
                    [(value, SEALED, record, row) for value, record, row in changed],
                )
            connection.commit()
            done += len(changed)
    return done


def _renew_messages(connection: Connection, keys: Keyring, dataset: str | None) -> int:
    done = 0
    for some in places.refused_of_topics(connection, dataset):
        with connection.transaction():
            for message in some:
                there = parts_of(message)
                if (renewed := MessageLocks.of(keys, message.dataset).renew(there)) != there:
                    rewrite(connection, message.refused_message_id, renewed)
                    done += 1
        connection.commit()
    return done


def _renewed(seal: Seal, texts: list[str | None]) -> list[str | None]:
    sealed = seal.renew(None if text is None else from_armour(text) or b"" for text in texts)
    return [None if value is None else armour(value) for value in sealed]


def _vacuum(settings: Settings, tables: list[BatchTable]) -> None:
    """Free the room of the rows as they were before."""
    with connect(settings, autocommit=True) as connection:
        for table in tables:
            name = places.named(connection, table)
            connection.execute(sql.SQL("VACUUM {}").format(name))
