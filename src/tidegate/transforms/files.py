"""The Parquet files around a Spark run: spelled so that every engine reads them, counted, gathered into one.

Spark itself is not known here: DuckDB reads the files without it, and so checks what the engine made of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tidegate.errors import SourceError, UsageError, first_line
from tidegate.settings import Settings
from tidegate.stores.duckdb import literal

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# JVM Spark takes these for patterns and wants a backslash before them, Sail wants them percent-encoded, and a
# path that Sail does not find holds no rows without an error: there is no spelling that both read.
_AMBIGUOUS = frozenset("*?[]{}\\%")


def spell(place: str | Path) -> str:
    """Return `place` as an absolute URL in the one spelling that Sail and JVM Spark both read.

    Raises UsageError when the path holds a character that the engines read differently.
    """
    text = str(place)
    if urlsplit(text).scheme == "file":
        text = unquote(urlsplit(text).path)
    if "://" not in text:
        text = f"file://{Path(text).absolute()}"
    odd = sorted(_AMBIGUOUS & set(text))
    if odd:
        raise UsageError(
            f"{text} holds {' '.join(odd)}, which Spark engines take for a pattern or an escape: "
            "move the folder (TIDEGATE_HOME, TIDEGATE_LANDING_URL) to a path without it"
        )
    return text


def count_rows(settings: Settings, urls: Sequence[str]) -> int:
    """Return how many rows the Parquet files `urls` hold, by their footers.

    Raises SourceError when one of them is missing or is no Parquet file.
    """
    import duckdb

    with _duckdb(settings, urls) as database:
        try:
            sums = database.execute(
                "SELECT coalesce(sum(num_rows), 0)::BIGINT FROM parquet_file_metadata($urls)",
                {"urls": list(urls)},
            )
            return int(sums.fetchall()[0][0])
        except (duckdb.Error, OSError) as broken:
            raise SourceError(
                f"an input of the transform cannot be read: {first_line(broken)}. Expected a landed Parquet file; "
                "ingest its batch again"
            ) from broken


def gather(settings: Settings, parts: str, target: str, empty: pa.Table) -> int:
    """Write the rows of `parts`/*.parquet into the one file `target`, sorted, and return their number.

    Sorted by all columns, so that the same rows are the same bytes, whichever engine wrote them in whatever
    pieces: the content's hash then names the batch. `empty` gives the columns when there is no part, which is
    how Sail writes no rows. The target appears whole or not at all, where the store can rename.
    """
    rows = "SELECT * FROM empty"
    store, path = _store(parts)
    if store.glob(f"{path}/*.parquet"):
        # By name, so that the statistics of all parts decide whether a column is written as nullable.
        rows = f"SELECT * FROM read_parquet({literal(parts + '/*.parquet')}, union_by_name = true)"
    unfinished = target + ".unfinished"
    store.makedirs(_store(target)[1].rpartition("/")[0], exist_ok=True)  # no part, no folder
    with _duckdb(settings, [parts]) as database:
        database.register("empty", empty)
        written = database.execute(
            f"COPY ({rows} ORDER BY ALL) TO {literal(unfinished)} (FORMAT parquet, COMPRESSION zstd)"
        )
        number = int(written.fetchall()[0][0])
    store.mv(_store(unfinished)[1], _store(target)[1])
    return number


def remove(folder: str) -> None:
    """Remove the scratch folder `folder` and what lies in it, when it exists."""
    store, path = _store(folder)
    if store.exists(path):
        store.rm(path, recursive=True)


def _store(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    store, path = url_to_fs(url)
    return store, str(path)


@contextmanager
def _duckdb(settings: Settings, urls: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
    import duckdb

    scratch = settings.home / "spark" / "gather"
    scratch.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"memory_limit": settings.duckdb_memory, "temp_directory": str(scratch)}
    with duckdb.connect(config=options) as database:
        for url in urls:
            if not url.startswith("file://"):
                # s3://, gs://, …: with the credentials that fsspec finds, and no DuckDB extension to download
                database.register_filesystem(_store(url)[0])
                break
        yield database
