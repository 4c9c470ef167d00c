"""The confidential columns of a landed Parquet file: sealed before it lands, opened for who works on its rows again.

A file is streamed batch by batch; a column that is sealed is of type binary there, whatever its contract's type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.contracts import Contract
from tidegate.errors import ContractError
from tidegate.sealing.keys import Keyring
from tidegate.sealing.values import Seal, key_of

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 65_536


def place(dataset: str, column: str) -> str:
    """Name the place that a column's values are bound to."""
    return f"{dataset}.{column}"


def sealed_in(schema: pa.Schema) -> list[str]:
    """Return the columns of a landed file that are sealed: no contract's type is binary."""
    import pyarrow as pa

    return [field.name for field in schema if field.type == pa.binary()]


def seal(keys: Keyring, contract: Contract, source: Any, target: Path) -> None:
    """Write `target`, the rows of `source` with every confidential column sealed; its values are sealed as their text."""
    import pyarrow as pa

    seals = {name: Seal(keys, place(contract.dataset, name)) for name in contract.sealed}
    _rewrite(source, target, seals, pa.binary(), _closed)


def seal_rows(keys: Keyring, contract: Contract, rows: pa.Table) -> pa.Table:
    """Return rows of the contract's columns, and of others, with every confidential one sealed, as `seal` does of a file."""
    import pyarrow as pa

    for name in contract.sealed:
        closed = _closed(Seal(keys, place(contract.dataset, name)), rows.column(name))
        rows = rows.set_column(rows.schema.get_field_index(name), pa.field(name, pa.binary()), closed)
    return rows


def _closed(seal: Seal, column: pa.Array | pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    texts = column.cast(pa.string()).cast(pa.binary())
    return pa.array(seal.close(texts.to_pylist()), pa.binary())


def open_(keys: Keyring, dataset: str, source: Any, target: Path) -> None:
    """Write `target`, the rows of `source` with every sealed column as text; raises as `Seal.open` does."""
    import pyarrow as pa

    def opened(seal: Seal, column: pa.Array) -> pa.Array:
        return pa.array(seal.open(column.to_pylist()), pa.binary()).cast(pa.string())

    _rewrite(source, target, _seals(keys, dataset, source), pa.string(), opened)


def renew(keys: Keyring, dataset: str, source: Any, target: Path) -> None:
    """Write `target`, the rows of `source` under the newest key; raises as `Seal.open` does."""
    import pyarrow as pa

    def renewed(seal: Seal, column: pa.Array) -> pa.Array:
        return pa.array(seal.renew(column.to_pylist()), pa.binary())

    _rewrite(source, target, _seals(keys, dataset, source), pa.binary(), renewed)


def counts(source: Any) -> Counter[str]:
    """Return how many values of a landed file each key has sealed; the empty name counts those that are damaged."""
    import pyarrow.parquet as pq

    parquet, found = pq.ParquetFile(source), Counter[str]()
    names = sealed_in(parquet.schema_arrow)
    for rows in parquet.iter_batches(batch_size=_ROWS, columns=names) if names else ():
        for column in rows.columns:
            found.update(key_of(value) or "" for value in column.drop_null().to_pylist())
    return found


def require_sealed(contract: Contract, schema: pa.Schema, what: str) -> None:
    """Refuse a landed file that holds a confidential column in plain: it landed before the contract called it so.

    Raises:
        ContractError: with what to do.
    """
    sealed = sealed_in(schema)
    for name in contract.sealed:
        if name in schema.names and name not in sealed:
            raise ContractError(
                f"{what} landed when {contract.dataset}.{name} was not confidential, and holds it in plain: raise the "
                f"version of {contract.reference} and take the delivery in again (`tidegate ingest`)"
            )


def _seals(keys: Keyring, dataset: str, source: Any) -> dict[str, Seal]:
    import pyarrow.parquet as pq

    return {name: Seal(keys, place(dataset, name)) for name in sealed_in(pq.ParquetFile(source).schema_arrow)}


def _rewrite(
    source: Any,
    target: Path,
    seals: dict[str, Seal],
    sealed_type: pa.DataType,
    change: Callable[[Seal, pa.Array], pa.Array],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(source)
    schema = pa.schema([pa.field(f.name, sealed_type) if f.name in seals else f for f in parquet.schema_arrow])
    plain = [name for name in schema.names if name not in seals]
    # What is sealed cannot be squeezed, and no two values of it are alike.
    with pq.ParquetWriter(
        target,
        schema,
        compression={name: "zstd" if name in plain else "none" for name in schema.names},
        compression_level=dict.fromkeys(plain, 1),
        use_dictionary=plain,
        write_statistics=plain,
    ) as writer:
        for rows in parquet.iter_batches(batch_size=_ROWS):
            columns = [
                change(seals[name], column) if name in seals else column
                for name, column in zip(schema.names, rows.columns, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
