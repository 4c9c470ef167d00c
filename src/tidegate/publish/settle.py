"""A stream's partition made a batch: its rows written to a file in the landing area, its table called as a batch's.

What can be archived, restored, erased and renewed is a batch with a landed file; from here on `partitions` has one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from psycopg import sql

from tidegate.contracts import Contract
from tidegate.errors import BusyError, UsageError
from tidegate.gates import ledger, tables
from tidegate.gates.ledger import Batch
from tidegate.ingest.spool import spool
from tidegate.publish import ahead, evolve
from tidegate.publish.batches import patiently
from tidegate.settings import Settings
from tidegate.stores import objects
from tidegate.stores.duckdb import identifier
from tidegate.stores.postgres import Connection, connect, exclusive, impatient, table, take_turn

if TYPE_CHECKING:
    import pyarrow as pa

log = structlog.get_logger(__name__)

_ROWS = 20_000


def settle(settings: Settings, contract: Contract, partition: str) -> Batch:
    """Write a stream's partition to a landed file, and record it as a published batch; readers notice nothing.

    Writers of the partition wait while the file is written. Rows may be added afterwards: then the file lacks them, which
    who archives it finds, and this is done again. The same rows are the same batch. Killed anywhere, nothing has changed
    but a file that nobody knows of, and that the next call replaces where the rows are the same.

    Raises:
        UsageError: the dataset is no stream, or no table stands for the partition.
        BusyError: readers or writers hold the table for longer than we may wait, or another process does the same.
        UnavailableError: the landing area cannot be used at the moment.
    """
    if contract.topic is None:
        raise UsageError(f"{contract.dataset} is no stream: its partitions are batches as they came")
    with (
        spool(settings.home, contract.dataset) as folder,
        connect(settings) as connection,
        # Nobody erases a person, or turns a key, between the file and the ledger's knowing of it.
        exclusive(connection, _subject(connection, contract, partition)),
    ):
        connection.commit()
        batch = patiently(lambda: _settle(settings, connection, contract, partition, folder / "rows.parquet"))
    log.info("partition settled", dataset=contract.dataset, batch_id=batch.batch_id, partition=partition)
    return batch


def _subject(connection: Connection, contract: Contract, partition: str) -> str:
    before = ledger.published_batch(connection, contract.dataset, partition)
    if before is not None:
        return f"batch {before.batch_id}"
    name = ahead.standing_table(connection, contract, partition)
    if name is None:
        raise UsageError(f"{contract.dataset} {partition}: no rows stand there, so there is nothing to archive")
    return tables.turn(contract.schema, name)


def _settle(settings: Settings, connection: Connection, contract: Contract, partition: str, file: Path) -> Batch:
    with impatient(connection):
        take_turn(connection, ahead.turn(contract.dataset, partition))
        evolve.ensure(connection, contract)
        name = ahead.standing_table(connection, contract, partition)
        if name is None:
            raise BusyError(f"{contract.dataset} {partition} was archived by another process meanwhile")
        place = table(contract.schema, name)
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(place))
        if contract.tenant is not None:
            connection.execute("SELECT ops.enter_all()")
        count = _export(connection, contract, place, file)
        batch = _batch(settings, contract, partition, file, count)
        before = ledger.published_batch(connection, contract.dataset, partition)
        if before is not None and before.batch_id == batch.batch_id:
            return before
        objects.put(file, batch.landing_url)
        if before is not None:
            # It was restored, and rows have come since: the table is the new batch's from now on.
            ledger.set_state(connection, before.batch_id, "superseded")
        ledger.record_batch(connection, batch)
        ledger.set_state(connection, batch.batch_id, "published", published_at=sql.SQL("coalesce(published_at, now())"))
        connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(place, sql.Identifier(batch.table)))
        return ledger.get_batch(connection, batch.batch_id)


def _batch(settings: Settings, contract: Contract, partition: str, file: Path, count: int) -> Batch:
    assert contract.topic is not None
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    told = "\n".join([contract.dataset, contract.version, partition, sha256])
    batch_id = hashlib.sha256(told.encode()).hexdigest()[:16]
    return Batch(
        batch_id=batch_id,
        dataset=contract.dataset,
        partition=partition,
        state="published",
        contract_version=contract.version,
        source_name=f"topic {contract.topic.name}",
        source_sha256=sha256,
        landing_url=str(objects.place(settings.landing) / contract.dataset / partition / f"{batch_id}.parquet"),
        delivered_count=count,
        accepted_count=count,
        refused_count=0,
        published_schema=contract.schema,
    )


def _export(connection: Connection, contract: Contract, place: sql.Composed, file: Path) -> int:
    """Write the table's rows in the order of their key, sealed values as they are; return how many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, count = _schema(contract), 0
    shown = [
        sql.SQL("{0}::bytea AS {0}" if column.sealed else "{0}").format(sql.Identifier(column.name))
        for column in contract.columns
    ]
    query = sql.SQL("SELECT {} FROM {} ORDER BY {}").format(
        sql.SQL(", ").join(shown), place, sql.SQL(", ").join(map(sql.Identifier, contract.key))
    )
    plain = [column.name for column in contract.columns if not column.sealed]
    # As `sealing.columns` writes them: what is sealed cannot be squeezed.
    codecs = {name: "zstd" if name in plain else "none" for name in schema.names}
    with (
        pq.ParquetWriter(file, schema, compression=codecs, use_dictionary=plain, write_statistics=plain) as writer,
        connection.cursor(name="settle", binary=True) as cursor,
    ):
        cursor.execute(query)
        while rows := cursor.fetchmany(_ROWS):
            count += len(rows)
            arrays = [pa.array([row[field.name] for row in rows], field.type) for field in schema]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
    return count


def _schema(contract: Contract) -> pa.Schema:
    """Return the types that DuckDB gives to a landed file of this contract."""
    import duckdb
    import pyarrow as pa

    casts = ", ".join(f"CAST(NULL AS {column.duckdb_type}) AS {identifier(column.name)}" for column in contract.columns)
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        types = engine.sql(f"SELECT {casts}").to_arrow_table().schema
    return pa.schema([field.with_type(pa.binary()) if field.name in contract.sealed else field for field in types])
