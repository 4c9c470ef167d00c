"""A table or a query in somebody's PostgreSQL: read in one statement into Parquet, by increments where there is a column.

An increment saves the source's work, not ours: new and changed rows join those of the published batch, and the
delivery is the whole partition as ever (see docs/decisions/).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

from psycopg import sql

from tidegate.contracts import Contract, Source
from tidegate.errors import ContractError, SourceError, UnavailableError
from tidegate.gates import ledger
from tidegate.gates.ledger import Batch
from tidegate.ingest.check import partition_parts
from tidegate.ingest.delivery import DeliveredFile, Delivery
from tidegate.ingest.layout import identifier, literal
from tidegate.settings import Settings
from tidegate.stores.postgres import connect, without_password

_FORMATS = {"year": "YYYY", "month": "YYYY-MM", "day": "YYYY-MM-DD"}


def fetch(settings: Settings, contract: Contract, source: Source, partition: str, spool: Path) -> Delivery:
    """Deliver the rows of one partition, in no particular order.

    Raises:
        ContractError: the server's entry names neither table nor query, or no key to join an increment by.
        SourceError: the source refuses the query.
        UnavailableError: the source does not answer.
    """
    spool.mkdir(parents=True, exist_ok=True)
    column = str(source.options.get("incrementalColumn") or "")
    base = _published(settings, contract, source, partition, column) if column else None
    kept = _bring(base, spool) if base else None
    since = _newest(kept, column) if kept else None
    read = spool / "read.parquet"
    _read(settings, source, _query(contract, source, partition, column if since is not None else "", since), read)
    if base is None or kept is None:
        return Delivery((_file(read, source.name, _digest(read)),))
    return _joined(contract, source, base, kept, read)


def _published(settings: Settings, contract: Contract, source: Source, partition: str, column: str) -> Batch | None:
    if not contract.key or column not in {c.name for c in contract.columns}:
        raise ContractError(
            f"{contract.reference}: server {source.name!r}: incrementalColumn {column!r} must be a column of the contract, "
            "and the contract needs a primary key to tell changed rows from new ones"
        )
    with connect(settings) as connection:
        batch = ledger.published_batch(connection, contract.dataset, partition)
    # Under another version the columns may differ: read everything once.
    return batch if batch and batch.contract_version == contract.version else None


def _bring(batch: Batch, spool: Path) -> Path:
    from upath import UPath

    target = spool / "published.parquet"
    with UPath(batch.landing_url).open("rb") as theirs, target.open("wb") as ours:
        while chunk := theirs.read(1 << 20):
            ours.write(chunk)
    return target


def _newest(kept: Path, column: str) -> str | None:
    """Return the largest value that has been published, as text that PostgreSQL reads back exactly."""
    row = _duckdb(f"SELECT CAST(max({identifier(column)}) AS VARCHAR) FROM {_parquet(kept)}")
    return str(row[0]) if row and row[0] is not None else None


def _query(contract: Contract, source: Source, partition: str, column: str, since: str | None) -> str:
    table, query = source.options.get("table"), source.options.get("query")
    if bool(table) == bool(query):
        raise ContractError(
            f"{contract.reference}: server {source.name!r} needs a custom property `table`, or else `query`"
        )
    if table:
        origin: sql.Composable = sql.Identifier(str(source.options.get("schema") or "public"), str(table))
    else:
        origin = sql.SQL("({}\n) AS delivery").format(sql.SQL(str(query).rstrip().rstrip(";")))
    columns = sql.SQL(", ").join(sql.Identifier(c.name) for c in contract.columns)
    conditions = [sql.SQL("TRUE"), *_in_partition(contract, partition)]
    if since is not None:
        # Not `>`: rows that were written in the same instant may have come later.
        conditions.append(sql.SQL("{} >= {}").format(sql.Identifier(column), sql.Literal(since)))
    statement = sql.SQL("SELECT {} FROM {} WHERE {}").format(columns, origin, sql.SQL(" AND ").join(conditions))
    return statement.as_string(None)


def _in_partition(contract: Contract, partition: str) -> list[sql.Composed]:
    partitioning = contract.partitioning
    if partitioning is None:
        return []
    parts = partition_parts(contract, partitioning, partition)
    first = contract.column(partitioning.columns[0])
    if len(partitioning.columns) == 1 and first.logical_type in ("date", "timestamp"):
        zone = sql.SQL(" AT TIME ZONE 'UTC'" if first.postgres_type == "timestamptz" else "")
        name = sql.Identifier(first.name)
        form = sql.Literal(_FORMATS[partitioning.grain or "month"])
        return [sql.SQL("to_char({}{}, {}) = {}").format(name, zone, form, sql.Literal(partition))]
    return [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(part))
        for name, part in zip(partitioning.columns, parts, strict=True)
    ]


def _address(settings: Settings, source: Source) -> str:
    private = settings.source_url(source.name)
    if private:
        return private.get_secret_value()
    # Without an address of ours, libpq finds the password where its user keeps it (~/.pgpass).
    host, port = source.options.get("host", "localhost"), source.options.get("port", 5432)
    return f"postgresql://{host}:{port}/{quote(str(source.options.get('database', 'postgres')))}"


def _read(settings: Settings, source: Source, statement: str, target: Path) -> None:
    import adbc_driver_manager
    import adbc_driver_postgresql.dbapi as adbc
    import pyarrow as pa
    import pyarrow.parquet as pq

    url = _address(settings, source)
    try:
        with adbc.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            with cursor.fetch_record_batch() as reader:
                # What Arrow has no type for (numeric) comes as opaque text: exact, and typed by the contract.
                plain = pa.schema([pa.field(f.name, getattr(f.type, "storage_type", f.type)) for f in reader.schema])
                with pq.ParquetWriter(target, plain, compression="zstd") as writer:
                    for batch in reader:
                        arrays = [getattr(column, "storage", column) for column in batch.columns]
                        writer.write_batch(pa.record_batch(arrays, schema=plain))
    except adbc_driver_manager.Error as error:
        said = " ".join(str(error).split())
        state = getattr(error, "sqlstate", None) or ""
        if state[:2] in ("42", "22", "28", "3D"):
            raise SourceError(
                f"{source.name} at {without_password(url)} refuses the query ({said}); check the server's table, query and "
                f"credentials (TIDEGATE_SOURCE_{source.name.upper()}_URL)"
            ) from error
        raise UnavailableError(
            f"{source.name} at {without_password(url)} does not answer ({said}); try again later"
        ) from error


def _joined(contract: Contract, source: Source, base: Batch, kept: Path, read: Path) -> Delivery:
    """Put the increment over the published rows; a delivery that brings nothing new is that of the published batch."""
    types = {column.name: column.duckdb_type for column in contract.columns}
    typed = ", ".join(f"try_cast({identifier(n)} AS {t}) AS {identifier(n)}" for n, t in types.items())
    new = f"SELECT {typed} FROM {_parquet(read)}"
    old = f"SELECT {', '.join(map(identifier, types))} FROM {_parquet(kept)}"
    row = _duckdb(f"SELECT count(*) FROM ({new} EXCEPT {old})")
    if not row or row[0] == 0:
        return Delivery((_file(kept, base.source, base.source_sha256),))
    rest = kept.with_name("rest.parquet")
    same = " AND ".join(f"old.{identifier(name)} = new.{identifier(name)}" for name in contract.key)
    _duckdb(
        f"COPY (SELECT old.* FROM ({old}) old ANTI JOIN ({new}) new ON {same}) TO {literal(str(rest))} (FORMAT parquet)"
    )
    digest = hashlib.sha256(f"{base.batch_id}{_digest(read)}".encode()).hexdigest()
    files = (_file(rest, f"batch {base.batch_id}", digest), _file(read, source.name, digest))
    return Delivery(files)


def _digest(parquet: Path) -> str:
    """Hash the rows whatever their order: a table that is read twice is the same delivery."""
    row = _duckdb(
        f"SELECT md5(coalesce(string_agg(h, '' ORDER BY h), '')) FROM (SELECT md5(CAST(r AS VARCHAR)) AS h FROM {_parquet(parquet)} r)"
    )
    assert row is not None
    return hashlib.sha256(str(row[0]).encode()).hexdigest()


def _parquet(path: Path) -> str:
    return f"read_parquet({literal(str(path))})"


def _duckdb(statement: str) -> tuple[Any, ...] | None:
    import duckdb

    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        row: tuple[Any, ...] | None = engine.execute(statement).fetchone()
        return row


def _file(path: Path, name: str, sha256: str) -> DeliveredFile:
    return DeliveredFile(path, name, sha256, 0, path.stat().st_size)
