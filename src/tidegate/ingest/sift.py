"""Sift a delivery by its contract: accepted rows to one typed Parquet file, refused rows to a list with reasons.

The common case, a clean delivery, is one streaming pass in columns with flat memory. Only when something was
refused is the delivery read a second time (`examine`).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.contracts import Contract
from tidegate.errors import SourceError, UnavailableError, UsageError, first_line
from tidegate.ingest import check, lines
from tidegate.ingest.delivery import Delivery
from tidegate.ingest.engine import engine_under, write
from tidegate.ingest.examine import Refused, examine
from tidegate.ingest.laid import Laid
from tidegate.ingest.layout import lay
from tidegate.stores.duckdb import identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Sifted:
    """What came of a delivery; `parquet` holds exactly the accepted rows."""

    parquet: Path
    delivered: int
    accepted: int
    refused: list[Refused] = field(repr=False)


def sift(contract: Contract, delivery: Delivery, partition: str, scratch: Path, memory: str) -> Sifted:
    """Check every row of `delivery` against the contract and write the accepted ones to Parquet under `scratch`.

    Raises:
        SourceError: a file cannot hold this dataset at all.
        UnavailableError: there is less memory than it takes.
        OSError: the disk is full; whoever made the folder knows what to say of it.
    """
    target = scratch / "accepted.parquet"
    with _understood(contract, delivery), engine_under(scratch, memory) as engine:
        laid = [lay(engine, contract, file) for file in delivery.files]
        accepted = write(engine, _good_rows(contract, partition, laid), target)
        if accepted == _records_at_most(engine, laid) and not _has_duplicates(engine, contract, target):
            return Sifted(target, accepted, accepted, [])
        accepted, refused = examine(engine, contract, partition, laid, target)
        return Sifted(target, accepted + len(refused), accepted, refused)


def partitions(contract: Contract, delivery: Delivery, scratch: Path, memory: str) -> list[str]:
    """Return the partitions that the rows of a delivery name, sorted; rows without a readable one don't count.

    Raises as `sift` does.
    """
    found: set[str] = set()
    with _understood(contract, delivery), engine_under(scratch, memory) as engine:
        for laid in (lay(engine, contract, file) for file in delivery.files):
            query = f"SELECT DISTINCT {check.partition_name(contract)} FROM ({laid.rows})"
            found |= {str(row[0]) for row in engine.execute(query).fetchall() if row[0]}
    return sorted(name for name in found if _is_partition(contract, name))


def _is_partition(contract: Contract, name: str) -> bool:
    try:
        contract.parts_of(name)
    except UsageError:
        return False
    return True


@contextmanager
def _understood(contract: Contract, delivery: Delivery) -> Iterator[None]:
    """Say what it means for a delivery that DuckDB fails."""
    import duckdb

    try:
        yield
    except duckdb.IOException as error:
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, first_line(error)) from error
        raise SourceError(f"{delivery.name}: cannot be read ({first_line(error)})") from error
    except duckdb.OutOfMemoryException as error:
        raise UnavailableError(f"{delivery.name}: {first_line(error)}; raise TIDEGATE_DUCKDB_MEMORY") from error
    except duckdb.Error as error:
        for file in delivery.files:
            lines.require_one_ending(file)
        raise SourceError(f"{delivery.name}: cannot be read as {contract.dataset} ({first_line(error)})") from error


def _good_rows(contract: Contract, partition: str, laid: Sequence[Laid]) -> str:
    """Return a SELECT of the rows that break no row rule."""
    columns, parts = ", ".join(identifier(column.name) for column in contract.columns), []
    for file in laid:
        broken = check.any_broken(contract, partition, texts=file.texts)
        parts.append(
            f'SELECT {columns} FROM ({file.rows}) WHERE NOT (coalesce("broken$", true) OR coalesce({broken}, false))'
        )
    return " UNION ALL ".join(parts)


def _records_at_most(engine: DuckDBPyConnection, laid: Sequence[Laid]) -> int:
    """Bound the count of records from what reading the files has already shown."""
    total = 0
    for file in laid:
        if file.lines:
            total += file.file.newlines - file.header_lines
        else:
            row = engine.execute(f"SELECT count(*) FROM {file.source}").fetchone()
            total += int(row[0]) if row else 0
    return total


def _has_duplicates(engine: DuckDBPyConnection, contract: Contract, rows: Path) -> bool:
    return any(
        engine.execute(
            f"SELECT 1 FROM read_parquet({literal(str(rows))}) WHERE {present} GROUP BY {key} HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        for _, key, present in check.keys(contract)
    )
