"""The confidential columns of a landed Parquet file: sealed before it lands, opened for who works on its rows again.

A file is streamed batch by batch; a column that is sealed is of type binary there, whatever its contract's type.
"""

from __future__ import annotations

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
_Values = list[bytes | None]


def place(contract: Contract, column: str) -> str:
    """Name the place that a column's values are bound to."""
    return f"{contract.dataset}.{column}"


def seal(keys: Keyring, contract: Contract, source: Any, target: Path) -> None:
    """Write `target`, the rows of `source` with every confidential column sealed; its values are sealed as their text."""
    import pyarrow as pa

    def closed(seal: Seal, column: pa.Array) -> pa.Array:
        texts = column.cast(pa.string()).cast(pa.binary())
        return pa.array(seal.close(texts.to_pylist()), pa.binary())

    _rewrite(keys, contract, source, target, pa.binary(), closed)


def open_(keys: Keyring, contract: Contract, source: Any, target: Path) -> None:
    """Write `target`, the rows of `source` with every confidential column as text; raises as `Seal.open` does."""
    import pyarrow as pa

    _require_sealed(contract, source)

    def opened(seal: Seal, column: pa.Array) -> pa.Array:
        return pa.array(seal.open(column.to_pylist()), pa.binary()).cast(pa.string())

    _rewrite(keys, contract, source, target, pa.string(), opened)


def renew(keys: Keyring, contract: Contract, source: Any, target: Path) -> None:
    """Write `target`, the rows of `source` under the newest key; raises as `Seal.open` does."""
    import pyarrow as pa

    _require_sealed(contract, source)

    def renewed(seal: Seal, column: pa.Array) -> pa.Array:
        return pa.array(seal.renew(column.to_pylist()), pa.binary())

    _rewrite(keys, contract, source, target, pa.binary(), renewed)


def counts(contract: Contract, source: Any) -> dict[str, int]:
    """Return how many values of a landed file each key has sealed; the empty name counts those that are not sealed."""
    import pyarrow.parquet as pq

    parquet, found = pq.ParquetFile(source), dict[str, int]()
    names = [name for name in contract.sealed if name in parquet.schema_arrow.names]
    for rows in parquet.iter_batches(batch_size=_ROWS, columns=names) if names else ():
        for column in rows.columns:
            for value in column.to_pylist():
                if value is not None:
                    name = (key_of(value) if isinstance(value, bytes) else None) or ""
                    found[name] = found.get(name, 0) + 1
    return found


def require_sealed(contract: Contract, schema: pa.Schema, what: str) -> None:
    """Refuse a landed file that holds a confidential column in plain: it landed before the contract called it so.

    Raises:
        ContractError: with what to do.
    """
    import pyarrow as pa

    for name in contract.sealed:
        if name in schema.names and schema.field(name).type != pa.binary():
            raise ContractError(
                f"{what} landed when {contract.dataset}.{name} was not confidential, and holds it in plain: raise the "
                f"version of {contract.reference} and take the delivery in again (`tidegate ingest`)"
            )


def _require_sealed(contract: Contract, source: Any) -> None:
    import pyarrow.parquet as pq

    require_sealed(contract, pq.ParquetFile(source).schema_arrow, "a file that")


def _rewrite(
    keys: Keyring,
    contract: Contract,
    source: Any,
    target: Path,
    sealed_type: pa.DataType,
    change: Callable[[Seal, pa.Array], pa.Array],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(source)
    fields = list(parquet.schema_arrow)
    seals = {n: Seal(keys, place(contract, f.name)) for n, f in enumerate(fields) if f.name in contract.sealed}
    schema = pa.schema([pa.field(f.name, sealed_type) if n in seals else f for n, f in enumerate(fields)])
    plain = [f.name for n, f in enumerate(fields) if n not in seals]
    # What is sealed cannot be squeezed, and no two values of it are alike.
    codecs = {f.name: "zstd" if f.name in plain else "none" for f in fields}
    with pq.ParquetWriter(
        target, schema, compression=codecs, compression_level=dict.fromkeys(plain, 1), use_dictionary=plain,
        write_statistics=plain,
    ) as writer:  # fmt: skip
        for rows in parquet.iter_batches(batch_size=_ROWS):
            columns = [change(seals[n], column) if n in seals else column for n, column in enumerate(rows.columns)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
