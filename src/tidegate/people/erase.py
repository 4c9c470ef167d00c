"""Erase one person: rows and their other facts stay, what is personal in them goes, wherever it lies.

Killed anywhere, run again it goes on: what is still to be done is told by the values themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from psycopg import sql

from tidegate.contracts import Contract
from tidegate.errors import UsageError
from tidegate.gates import audit
from tidegate.gates.claim import claim
from tidegate.gates.ledger import Batch
from tidegate.gates.tables import BatchTable, of_batches, of_streams
from tidegate.ingest import quarantine, refused_messages
from tidegate.ingest.quarantine import SEALED, RefusedRow
from tidegate.ingest.refused_messages import Parts, RefusedMessage
from tidegate.ingest.spool import spool
from tidegate.people import places, request
from tidegate.people.person import Person, personal
from tidegate.people.request import Request
from tidegate.people.tombstone import TEXT, stone
from tidegate.sealing import Seal, columns
from tidegate.sealing.values import armour
from tidegate.settings import Settings
from tidegate.stores import objects
from tidegate.stores.postgres import Connection, connect, exclusive, table

log = structlog.get_logger(__name__)

_IS_THERE = "SELECT 1 FROM pg_class WHERE oid = to_regclass(format('%%I.%%I', %s::text, %s::text))"


def erase(settings: Settings, contracts: Sequence[Contract], person: Person, *, by: str, why: str) -> dict[str, int]:
    """Erase the person from every dataset; return how many rows, by place. Nothing found is nothing recorded.

    Raises:
        UsageError: no reason is given.
        ContractError: a column must not be empty, and no value can stand there instead; nothing was erased.
        BusyError: a batch is being worked on: run it again, the rest is done.
        SealError: a value is sealed, and its key is not at hand.
    """
    if not why.strip():
        raise UsageError("to erase somebody needs a reason: --why TEXT")
    with connect(settings) as connection:
        waiting = request.unfinished(settings, connection, person)
        for one in waiting[:1]:
            request.begin(settings, connection, one)
    return _carry_out(settings, contracts, person, waiting[0] if waiting else Request.new(settings, person, by, why))


def again(settings: Settings, contracts: Sequence[Contract]) -> dict[str, dict[str, int]]:
    """Carry out what was cut short, or what a restore has brought back; return the rows erased, by request and place."""
    with connect(settings) as connection:
        waiting = request.unfinished(settings, connection)
        for one in waiting:
            request.begin(settings, connection, one)
    return {one.erasure_id: _carry_out(settings, contracts, one.person(settings), one) for one in waiting}


def _carry_out(settings: Settings, contracts: Iterable[Contract], person: Person, wish: Request) -> dict[str, int]:
    concerned = [contract for contract in contracts if personal(contract) and person.is_known_to(contract)]
    for contract in concerned:
        _stones(contract)
    for contract in concerned:
        # First: a partition that is archived meanwhile is a batch by then.
        _erase_streamed(settings, contract, person, wish)
        with connect(settings) as connection:
            found = places.batches(connection, contract)
        for batch in found:
            _erase_batch(settings, contract, batch, person, wish)
        _erase_refused(settings, contract, person, wish)
        _erase_messages(settings, contract, person, wish)
    with connect(settings, autocommit=True) as connection:
        if request.has_begun(connection, wish):
            _clean(connection, concerned)
        return request.finish(connection, wish)


def _clean(connection: Connection, concerned: Sequence[Contract]) -> None:
    """Free the room of the rows as they were, and replace what the planner keeps: values of columns, of anybody."""
    for contract in concerned:
        for place in (*of_batches(connection, dataset=contract.dataset), *of_streams(connection, contract.dataset)):
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(place.sql))
        # The table of partitions has no rows of its own, and statistics of all of them.
        if connection.execute(_IS_THERE, [contract.schema, contract.table]).fetchone():
            connection.execute(sql.SQL("ANALYZE {}").format(table(contract.schema, contract.table)))
    connection.execute("VACUUM (ANALYZE) quarantine.refused_row, quarantine.refused_message")
    connection.execute("VACUUM pg_statistic")


def _stones(contract: Contract) -> dict[str, Any]:
    return {name: stone(contract, contract.column(name)) for name in personal(contract)}


def _erase_batch(settings: Settings, contract: Contract, batch: Batch, person: Person, wish: Request) -> None:
    # Nobody publishes, replays or seals anew what is being erased.
    with claim(settings, batch.batch_id) as mine:
        place = places.table_of(mine.connection, batch)
        mine.connection.commit()
        if place:
            _erase_table(mine.connection, settings, contract, place, person, wish)
        mine.check()
        mine.connection.commit()
        _erase_landed(settings, mine.connection, contract, batch, person, wish)


def _erase_streamed(settings: Settings, contract: Contract, person: Person, wish: Request) -> None:
    with connect(settings) as connection:
        found = of_streams(connection, contract.dataset)
        connection.commit()
        for place in found:
            # Rows may be added meanwhile; nobody else changes those that are there.
            with exclusive(connection, place.turn):
                if not connection.execute(_IS_THERE, [place.schema, place.name]).fetchone():
                    continue
                _erase_table(connection, settings, contract, place, person, wish)
                connection.commit()


def _erase_table(
    connection: Connection, settings: Settings, contract: Contract, place: BatchTable, person: Person, wish: Request
) -> None:
    connection.execute("SELECT ops.enter_all()")
    rows = places.rows_of(connection, settings, contract, place, person)
    if not rows:
        return
    request.begin(settings, connection, wish)
    opening = places.seals(settings, contract.dataset, place.sealed)
    # One by one: a value that may stand once only is another one each time.
    for row in rows:
        values = {name: value for name, value in _stones(contract).items() if name in place.columns}
        given = [_shut(opening.get(name), value) for name, value in values.items()]
        changes = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in values)
        connection.execute(
            sql.SQL("UPDATE {} SET {} WHERE ctid = %s::tid").format(place.sql, changes), [*given, row["ctid"]]
        )
    request.count(connection, wish, f"{place.schema}.{place.name}", len(rows))
    audit.note(connection, "erase", place.schema, place.name, len(rows), wish.erasure_id)
    log.info("person erased", dataset=contract.dataset, batch_id=place.batch_id, place=place.schema, rows=len(rows))


def _shut(seal: Seal | None, value: Any) -> Any:
    if seal is None or value is None:
        return value
    (closed,) = seal.close([str(value).encode()])
    return closed


def _erase_landed(
    settings: Settings, connection: Connection, contract: Contract, batch: Batch, person: Person, wish: Request
) -> None:
    """Replace a landed file in one step by one without the person: the one exception to its never being changed."""
    rows = sum(1 for _ in places.landed_rows(settings, contract, batch, person))
    if not rows:
        return
    request.begin(settings, connection, wish)
    request.count(connection, wish, f"landing.{batch.table}", rows)
    audit.note(connection, "erase", "landing", batch.table, rows, wish.erasure_id)
    # Before the file: of one that is replaced, nobody could count the rows again.
    connection.commit()
    with spool(settings.home, contract.dataset) as folder:
        erased = folder / "erased.parquet"
        with objects.opened(batch.landing_url) as stream:
            _rewrite(settings, contract, stream, erased, person)
        objects.put(erased, batch.landing_url)


def _rewrite(settings: Settings, contract: Contract, source: Any, target: Any, person: Person) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(source)
    schema = parquet.schema_arrow
    opening = places.seals(settings, contract.dataset, columns.sealed_in(schema))
    plain = [name for name in schema.names if name not in opening]
    codecs = {name: "zstd" if name in plain else "none" for name in schema.names}
    with pq.ParquetWriter(target, schema, compression=codecs, use_dictionary=plain, write_statistics=plain) as writer:
        for group in parquet.iter_batches():
            numbers = places.matching(group, opening, person)
            changed = {name: group.column(name).to_pylist() for name in personal(contract) if name in schema.names}
            for number in numbers:
                for name, value in _stones(contract).items():
                    if name in changed:
                        changed[name][number] = _shut(opening.get(name), value)
            arrays = [
                pa.array(changed[name], schema.field(name).type) if numbers and name in changed else column
                for name, column in zip(schema.names, group.columns, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _erase_refused(settings: Settings, contract: Contract, person: Person, wish: Request) -> None:
    locks = quarantine.locks(settings, contract)
    with connect(settings) as connection:
        rows = places.refused_rows(connection, settings, contract, person)
        if not rows:
            return
        request.begin(settings, connection, wish)
        for row in rows:
            text = json.dumps(_blank(contract, row))
            if locks is not None:
                (sealed,) = locks.record.close([text.encode()])
                text = json.dumps({SEALED: armour(sealed or b"")})
            # Nobody can repair what nobody knows any more.
            connection.execute(
                "UPDATE quarantine.refused_row SET value = NULL, record = %s::jsonb, closed_at = coalesce(closed_at, now()), "
                "state = CASE state WHEN 'open' THEN 'dismissed' ELSE state END WHERE refused_row_id = %s",
                [text, row.refused_row_id],
            )
        request.count(connection, wish, f"quarantine.{contract.dataset}", len(rows))
        audit.note(connection, "erase", "quarantine", contract.table, len(rows), wish.erasure_id)


def _erase_messages(settings: Settings, contract: Contract, person: Person, wish: Request) -> None:
    locks = refused_messages.locks(settings, contract)
    with connect(settings) as connection:
        found = places.refused_of_topic(connection, settings, contract, person)
        if not found:
            return
        request.begin(settings, connection, wish)
        for message in found:
            # Key and headers may be anything, and tell of nothing that a row has.
            parts = Parts(None, _without_person(contract, message), "[]", None)
            shut = parts if locks is None else locks.shut(parts)
            refused_messages.rewrite(connection, message.refused_message_id, shut, dismiss=True)
        request.count(connection, wish, f"quarantine.messages of {contract.dataset}", len(found))
        audit.note(connection, "erase", "quarantine", contract.table, len(found), wish.erasure_id)


def _without_person(contract: Contract, message: RefusedMessage) -> bytes:
    """Return a refused message without what is personal; of one that was no object, nothing stays."""
    known = {column.name for column in contract.columns}
    kept = known - set(personal(contract)) - {message.column_name}
    told = {name: value if name in kept else "" for name, value in places.members(message).items() if name in known}
    return json.dumps(told).encode() if told else TEXT.encode()


def _blank(contract: Contract, row: RefusedRow) -> dict[str, Any]:
    """Return a refused record without what is personal; of a line that was no record, or has shifted, nothing stays."""
    if row.is_line:
        return {"line": TEXT}
    kept = {column.name for column in contract.columns} - set(personal(contract)) - {row.column_name}
    return {name: value if name in kept else "" for name, value in row.record.items()}
