"""Where rows of a dataset lie: the tables of its batches and its stream, landed files, the quarantine; read there as values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from psycopg import sql

from tidegate.contracts import Contract
from tidegate.gates import ledger
from tidegate.gates.ledger import Batch
from tidegate.gates.tables import BatchTable, of_batches
from tidegate.ingest import quarantine, refused_messages
from tidegate.ingest.quarantine import RefusedRow
from tidegate.ingest.refused_messages import RefusedMessage
from tidegate.people.person import Person, personal
from tidegate.sealing import Seal, columns, keyring
from tidegate.settings import Settings
from tidegate.stores import objects
from tidegate.stores.postgres import Connection

_ROWS = 20_000


def seals(settings: Settings, dataset: str, names: Iterable[str]) -> dict[str, Seal]:
    """Return what opens and seals each of the columns; raises NoKeyError where there are some and no key."""
    return {name: Seal(keyring(settings), columns.place(dataset, name)) for name in names}


def batches(connection: Connection, contract: Contract) -> list[Batch]:
    """Return every batch of the dataset that ever landed."""
    return ledger.batches(connection, dataset=contract.dataset)


def table_of(connection: Connection, batch: Batch) -> BatchTable | None:
    """Return the table of a batch, whichever schema it stands in; None if it has none."""
    return next(iter(of_batches(connection, batch_id=batch.batch_id)), None)


def rows_of(
    connection: Connection, settings: Settings, contract: Contract, place: BatchTable, person: Person
) -> list[dict[str, Any]]:
    """Return the person's rows of a table, opened, each with its `ctid`; call it in a transaction that sees all tenants."""
    if not set(person.columns) <= place.columns.keys():
        return []
    opening = seals(settings, contract.dataset, place.sealed)
    shown = [
        sql.SQL("{0}::bytea AS {0}" if column.name in opening else "{0}").format(sql.Identifier(column.name))
        for column in contract.columns
        if column.name in place.columns
    ]
    query = sql.SQL("SELECT ctid::text AS ctid, {} FROM {}").format(sql.SQL(", ").join(shown), place.sql)
    found: list[dict[str, Any]] = []
    with connection.cursor(name="person") as cursor:
        cursor.itersize = _ROWS
        cursor.execute(query)
        for row in cursor:
            keys = {name: _opened(opening, name, row[name]) for name in person.columns}
            if person.is_in(keys):
                found.append({name: _opened(opening, name, value) for name, value in row.items()})
    return found


def _opened(opening: dict[str, Seal], name: str, value: Any) -> Any:
    if name not in opening or value is None:
        return value
    (plain,) = opening[name].open([bytes(value)])
    return None if plain is None else plain.decode()


def landed_rows(settings: Settings, contract: Contract, batch: Batch, person: Person) -> Iterator[dict[str, Any]]:
    """Yield the person's rows of a batch's landed file, opened.

    Raises:
        TerminalError: the file is not there, or the store refuses it.
        UnavailableError: the store does not answer.
    """
    import pyarrow.parquet as pq

    with objects.opened(batch.landing_url) as stream:
        parquet = pq.ParquetFile(stream)
        opening = seals(settings, contract.dataset, columns.sealed_in(parquet.schema_arrow))
        if not set(person.columns) <= set(parquet.schema_arrow.names):
            return
        for group in parquet.iter_batches(batch_size=_ROWS):
            for number in matching(group, opening, person):
                row = group.slice(number, 1).to_pylist()[0]
                yield {name: _opened(opening, name, value) for name, value in row.items()}


def matching(group: Any, opening: dict[str, Seal], person: Person) -> list[int]:
    """Return the numbers of the person's rows in a record batch."""
    values = [group.column(name).to_pylist() for name in person.columns]
    for n, name in enumerate(person.columns):
        if name in opening:
            values[n] = [None if v is None else v.decode() for v in opening[name].open(values[n])]
    # By number: of no columns there would be no rows to go through.
    rows = (
        {name: of[number] for name, of in zip(person.columns, values, strict=True)} for number in range(group.num_rows)
    )
    return [number for number, row in enumerate(rows) if person.is_in(row)]


def copies(connection: Connection, contracts: Iterable[Contract]) -> list[str]:
    """Return marts with a column that is called as a personal one is: they are made anew from the tables, not erased."""
    names = sorted({name for contract in contracts for name in personal(contract)})
    rows = connection.execute(
        "SELECT DISTINCT c.oid::regclass::text AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace "
        "JOIN pg_attribute AS a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped "
        "WHERE nspname ~ '^marts' AND relkind IN ('r', 'm') AND attname = ANY(%s) ORDER BY 1",
        [names],
    )
    return [row["name"] for row in rows]


def refused_rows(connection: Connection, settings: Settings, contract: Contract, person: Person) -> list[RefusedRow]:
    """Return the refused rows in which the person is named, in whichever column, as they were delivered."""
    rows = quarantine.opened(settings, quarantine.rows(connection, dataset=contract.dataset))
    texts = ([*row.record.values(), row.value] for row in rows)
    named = (person.is_anywhere_in([str(text) for text in given if text is not None]) for given in texts)
    return [row for row, is_named in zip(rows, named, strict=True) if is_named]


def refused_of_topic(
    connection: Connection, settings: Settings, contract: Contract, person: Person
) -> list[RefusedMessage]:
    """Return the refused messages in which the person is named, wherever in them, as they came."""
    found = refused_messages.opened(settings, refused_messages.messages(connection, dataset=contract.dataset))
    return [message for message in found if person.is_anywhere_in(_texts(message))]


def _texts(message: RefusedMessage) -> list[str]:
    """Return whatever a message says that may be a value: its parts as text, and the values of its object."""
    value = (message.message_value or b"").decode(errors="backslashreplace")
    key = (message.message_key or b"").decode(errors="backslashreplace")
    headers = [str(part) for pair in message.headers for part in pair]
    return [value, key, *headers, *map(str, members(message).values()), message.value or ""]


def members(message: RefusedMessage) -> dict[str, Any]:
    """Return the values of the object that a message is; of one that is none, nothing."""
    try:
        document = json.loads(message.message_value or b"")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
