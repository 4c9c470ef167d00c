"""A table or a query in somebody's PostgreSQL: read in one statement into Parquet, by increments where there is a column.

An increment saves the source's work, not ours: new and changed rows join those of the published batch, and the
delivery is the whole partition as ever (see docs/decisions/).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from psycopg import sql

from tidegate.contracts import Contract, Source
from tidegate.errors import ContractError, SourceError, TidegateError, UnavailableError, first_line
from tidegate.gates import ledger
from tidegate.gates.ledger import Batch
from tidegate.ingest.delivery import DeliveredFile, Delivery
from tidegate.ingest.engine import engine_under
from tidegate.sealing import columns, keyring
from tidegate.settings import Settings, source_variable
from tidegate.stores import objects
from tidegate.stores.duckdb import identifier, literal
from tidegate.stores.postgres import connect, without_password
from tidegate.transport import require_tls

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Values come as the text that PostgreSQL prints, which these make exact; and nothing is written over there.
_SESSION = (
    "SET TRANSACTION READ ONLY",
    "SET TimeZone = 'UTC'",
    "SET DateStyle = 'ISO'",
    "SET extra_float_digits = 1",
)
#: Classes of SQLSTATE that may be gone next time: connection, rollback, resources, locks, shutdown, system.
_TRANSIENT = ("08", "40", "53", "55", "57", "58")
#: Refused at the door, where no SQLSTATE is told.
_REFUSED = re.compile(r"authentication failed|no password supplied|pg_hba|does not exist|permission denied")


def fetch(settings: Settings, contract: Contract, source: Source, partition: str, spool: Path) -> Delivery:
    """Deliver the rows of one partition, in no particular order.

    Raises:
        ContractError: the server's entry names neither table nor query, or no key to join an increment by.
        SourceError: the source refuses us, or the query.
        UnavailableError: the source does not answer.
    """
    column = str(source.options.get("incrementalColumn") or "")
    base = _published(settings, contract, source, partition, column) if column else None
    with engine_under(spool, settings.duckdb_memory) as engine:
        kept = _bring(settings, contract, base, spool) if base else None
        since = _newest(engine, kept, column) if kept else None
        read = spool / "read.parquet"
        _read(settings, source, _query(contract, source, partition, column, since), read)
        if base is None or kept is None:
            return Delivery((_file(read, source.name, _digest(engine, read)),))
        return _joined(engine, contract, source, base, kept, read)


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


def _bring(settings: Settings, contract: Contract, batch: Batch, spool: Path) -> Path:
    target = spool / "published.parquet"
    if contract.sealed:
        with objects.opened(batch.landing_url) as stream:
            columns.open_(keyring(settings), contract.dataset, stream, target)
    else:
        objects.get(batch.landing_url, target)
    return target


def _newest(engine: DuckDBPyConnection, kept: Path, column: str) -> str | None:
    """Return the largest value that has been published, as text that PostgreSQL reads back exactly."""
    row = engine.execute(f"SELECT CAST(max({identifier(column)}) AS VARCHAR) FROM {_parquet(kept)}").fetchone()
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
    # As text: what PostgreSQL prints is exact in every type, and is what the quarantine should show.
    columns = sql.SQL(", ").join(sql.SQL("{0}::text AS {0}").format(sql.Identifier(c.name)) for c in contract.columns)
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
    parts = contract.parts_of(partition)
    if (calendar := contract.calendar_column) is not None:
        # A range, and not a form, is what the source may have an index for, or partitions of its own.
        start, end = (partitioning.start_of(p) for p in (partition, partitioning.following(partition)))
        bounds = (
            sql.Literal(t.isoformat() if calendar.postgres_type == "timestamptz" else t.date()) for t in (start, end)
        )
        name = sql.Identifier(calendar.name)
        return [sql.SQL("{0} >= {1} AND {0} < {2}").format(name, *bounds)]
    return [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(part))
        for name, part in zip(partitioning.columns, parts, strict=True)
    ]


def _address(settings: Settings, source: Source) -> str:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    private = settings.source_url(source.name)
    if private is None:
        # Without an address of ours, libpq finds the password where its user keeps it (~/.pgpass).
        host, port = source.options.get("host", "localhost"), source.options.get("port", 5432)
        url = f"postgresql://{host}:{port}/{quote(str(source.options.get('database', 'postgres')))}"
        require_tls(f"{source_variable(source.name)} is not set, and the contract", url, settings.trusted_hosts)
        return url
    url = private.get_secret_value()
    try:
        # What libpq says of an address that it cannot read repeats a part of it, the password perhaps.
        readable = url.startswith(("postgresql://", "postgres://")) and urlsplit(url).port != 0
        readable = readable and bool(conninfo_to_dict(url))
    except (ProgrammingError, ValueError):
        readable = False
    if not readable:
        raise ContractError(
            f"{source_variable(source.name)} is no address of a PostgreSQL: expected postgresql://user:password@host:port/"
            "database, special characters in it percent-encoded"
        )
    return url


def _read(settings: Settings, source: Source, statement: str, target: Path) -> None:
    import adbc_driver_manager
    import adbc_driver_postgresql.dbapi as adbc
    import pyarrow as pa
    import pyarrow.parquet as pq

    url = _address(settings, source)
    try:
        with adbc.connect(url) as connection, connection.cursor() as cursor:
            for setting in _SESSION:
                cursor.execute(setting)
            cursor.execute(statement)
            with (
                cursor.fetch_record_batch() as reader,
                pq.ParquetWriter(target, reader.schema, compression="zstd") as writer,
            ):
                for batch in reader:
                    writer.write_batch(batch)
    except (adbc_driver_manager.Error, pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of our own disk: what the source says while it sends rows has no number
        raise _refusal(source, f"{source.name} at {without_password(url)}", error) from error


def _refusal(source: Source, place: str, error: Exception) -> TidegateError:
    """Tell whether the source is not there, does not let us in, or cannot do what the contract asks of it."""
    found = re.search(r"(ERROR|FATAL): +(.*)", str(error))
    kind, said = found.groups() if found else ("", first_line(error))
    state = getattr(error, "sqlstate", None) or ""
    if not state and _REFUSED.search(said):
        return SourceError(
            f"{place} refuses us ({said}); put an address with credentials into {source_variable(source.name)}"
        )
    if kind == "ERROR" and not state.startswith(_TRANSIENT) and "cancel" not in said:
        return SourceError(
            f"{place} refuses the query ({said}); check table, query and column names of that server in the contract"
        )
    return UnavailableError(f"{place} does not answer ({said}); try again later")


def _joined(
    engine: DuckDBPyConnection, contract: Contract, source: Source, base: Batch, kept: Path, read: Path
) -> Delivery:
    """Put the increment over the published rows; a delivery that brings nothing new is that of the published batch."""
    types = {column.name: column.duckdb_type for column in contract.columns}
    typed = ", ".join(f"try_cast({identifier(n)} AS {t}) AS {identifier(n)}" for n, t in types.items())
    new = f"SELECT {typed} FROM {_parquet(read)}"
    old = f"SELECT {', '.join(map(identifier, types))} FROM {_parquet(kept)}"
    row = engine.execute(f"SELECT count(*) FROM ({new} EXCEPT {old})").fetchone()
    digest = _digest(engine, read)
    # A refused row is not among the published ones, and is read again each time; it makes no second batch.
    repeated = _increment(base.previous_batch_id, digest, (kept, ""), (read, "")).sha256 == base.source_sha256
    if repeated or not row or row[0] == 0:
        return Delivery((_file(kept, base.source_name, base.source_sha256),))
    rest = kept.with_name("rest.parquet")
    same = " AND ".join(f"old.{identifier(name)} = new.{identifier(name)}" for name in contract.key)
    engine.execute(
        f"COPY (SELECT old.* FROM ({old}) old ANTI JOIN ({new}) new ON {same}) TO {literal(str(rest))} (FORMAT parquet)"
    )
    return _increment(base.batch_id, digest, (rest, f"batch {base.batch_id}"), (read, source.name))


def _increment(batch_id: str | None, digest: str, *files: tuple[Path, str]) -> Delivery:
    both = hashlib.sha256(f"{batch_id}{digest}".encode()).hexdigest()
    return Delivery(tuple(_file(path, name, both) for path, name in files))


def _digest(engine: DuckDBPyConnection, parquet: Path) -> str:
    """Hash the rows whatever their order: a table that is read twice is the same delivery."""
    row = engine.execute(
        "SELECT count(*), bit_xor(md5_number(t)), sum(CAST(md5_number_lower(t) AS HUGEINT)) "
        f"FROM (SELECT CAST(to_json(r) AS VARCHAR) AS t FROM {_parquet(parquet)} r)"
    ).fetchone()
    return hashlib.sha256(str(row).encode()).hexdigest()


def _parquet(path: Path) -> str:
    return f"read_parquet({literal(str(path))})"


def _file(path: Path, name: str, sha256: str) -> DeliveredFile:
    return DeliveredFile(path, name, sha256, 0, path.stat().st_size)
