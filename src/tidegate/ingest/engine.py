"""DuckDB at work on one delivery: how large it may get, and where it spills; what it is asked stands elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.stores.duckdb import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@contextmanager
def engine_under(scratch: Path, memory: str) -> Iterator[DuckDBPyConnection]:
    """Open DuckDB with bounded memory, spilling under `scratch`; instants without an offset are UTC."""
    import duckdb

    scratch.mkdir(parents=True, exist_ok=True)
    config = {"memory_limit": memory, "temp_directory": str(scratch / "spill"), "preserve_insertion_order": False}
    with duckdb.connect(str(scratch / "sift.duckdb"), config=config) as engine:
        engine.execute("SET TimeZone = 'UTC'")
        yield engine


def write(engine: DuckDBPyConnection, query: str, target: Path) -> int:
    """Write what a query finds to the Parquet file `target`, in place of what it held; return the count of rows."""
    written = engine.execute(
        f"COPY ({query}) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
    ).fetchone()
    return int(written[0]) if written else 0
