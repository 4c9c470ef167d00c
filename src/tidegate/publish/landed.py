"""A batch's landed file read back into the warehouse, and what rows say as one number, by which they are compared.

What is archived or restored by it is the business of `partitions`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from tidegate.contracts import Contract
from tidegate.errors import TerminalError, first_line
from tidegate.gates.ledger import Batch
from tidegate.people.person import personal
from tidegate.sealing import Seal, columns, keyring
from tidegate.settings import Settings
from tidegate.stores import objects
from tidegate.stores.postgres import Connection

#: A table of the session alone: it goes with the process, however that ends, and no copy of anybody's data is left.
UNPACKED = sql.SQL("pg_temp.unpacked")
_ROWS = 65_536


@dataclass(frozen=True)
class Content:
    """What a table holds: the count of its rows, and a checksum over all of them in whatever order."""

    rows: int
    checksum: str

    def __str__(self) -> str:
        return f"{self.rows} rows, checksum {self.checksum}"


def unpack(connection: Connection, batch: Batch) -> list[str]:
    """Copy a batch's landed file into `UNPACKED`, typed as the file is; return its columns.

    Raises:
        TerminalError: the file is gone, is damaged, or the store refuses it.
        UnavailableError: the store does not answer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pgpq import ArrowToPostgresBinaryEncoder

    with objects.opened(batch.landing_url) as stream:
        try:
            parquet = pq.ParquetFile(stream)
            schema = parquet.schema_arrow
            encoder = ArrowToPostgresBinaryEncoder(schema)
            types = [
                "timestamptz" if pa.types.is_timestamp(field.type) and field.type.tz else column.data_type.ddl()
                for field, column in zip(schema, encoder.schema().columns, strict=True)
            ]
            made = [
                sql.SQL("{} " + kind).format(sql.Identifier(n)) for n, kind in zip(schema.names, types, strict=True)
            ]
            connection.execute(sql.SQL("CREATE TEMP TABLE unpacked ({})").format(sql.SQL(", ").join(made)))
            names = sql.SQL(", ").join(map(sql.Identifier, schema.names))
            copy = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT BINARY)").format(UNPACKED, names)
            with connection.cursor() as cursor, cursor.copy(copy) as target:
                target.write(encoder.write_header())
                for rows in parquet.iter_batches(batch_size=_ROWS):
                    target.write(encoder.write_batch(rows))
                target.write(encoder.finish())
        except (pa.ArrowException, OSError, psycopg.DataError) as error:
            raise TerminalError(
                f"{batch.landing_url}, which batch {batch.batch_id} landed as, cannot be read back: {first_line(error)}; "
                "nothing was changed. Bring the file back from a copy of the landing area"
            ) from error
    return list(schema.names)


def as_published(names: Sequence[str], types: Mapping[str, str]) -> dict[str, sql.Composed]:
    """Return each published column as an expression over `UNPACKED`; the file knows nothing of those that came later."""
    return {
        name: sql.SQL("{}::" + kind).format(sql.Identifier(name) if name in names else sql.SQL("NULL"))
        for name, kind in types.items()
    }


def lasting(contract: Contract, names: Sequence[str]) -> list[str]:
    """Return the columns of which no lawful change of a landed file (an erasure, another key) touches a value."""
    return [name for name in names if name not in {*personal(contract), *contract.sealed}]


def content(
    connection: Connection, source: sql.Composable, shown: Mapping[str, sql.Composable], opening: Mapping[str, Seal]
) -> Content:
    """Return what `source` holds, columns in the order of `shown`.

    A sealed column counts by what is sealed in it, for no two values are alike.

    Raises:
        SealError: a value's key is not at hand, or a value is damaged.
    """
    # In another session, of another server, the same values have to read the same.
    connection.execute("SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'; SET LOCAL extra_float_digits = 1")
    plain = sql.SQL(", ").join(part for name, part in shown.items() if name not in opening)
    said = sql.SQL("hashtextextended(ROW({})::text, 0)").format(plain)
    if not opening:
        row = connection.execute(
            sql.SQL("SELECT count(*) AS rows, coalesce(sum({}), 0)::text AS checksum FROM {}").format(said, source)
        ).fetchone()
        assert row is not None
        return Content(row["rows"], row["checksum"])
    sealed = [sql.SQL("({})::bytea AS {}").format(shown[name], sql.Identifier(name)) for name in opening]
    query = sql.SQL("SELECT {} AS said, {} FROM {}").format(said, sql.SQL(", ").join(sealed), source)
    rows, total = 0, 0
    with connection.cursor(name="content", binary=True) as cursor:
        cursor.execute(query)
        while some := cursor.fetchmany(_ROWS):
            rows += len(some)
            total += sum(_digest(row) for row in _opened(some, opening))
    return Content(rows, str(total % 2**64))


def _opened(rows: Sequence[Mapping[str, Any]], opening: Mapping[str, Seal]) -> Sequence[tuple[Any, ...]]:
    values = [seal.open([row[name] for row in rows]) for name, seal in opening.items()]
    return list(zip((row["said"] for row in rows), *values, strict=True))


def _digest(row: tuple[Any, ...]) -> int:
    return int.from_bytes(hashlib.sha256(repr(row).encode()).digest()[:8])


def seals(settings: Settings, contract: Contract) -> dict[str, Seal]:
    """Return what opens each sealed column; raises NoKeyError where there are some and no key."""
    return {name: Seal(keyring(settings), columns.place(contract.dataset, name)) for name in contract.sealed}
