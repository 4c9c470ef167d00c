"""How each file format is laid before DuckDB: as one SELECT that yields every contract column as text or value."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from tidegate.contracts import Column, Contract
from tidegate.errors import SourceError, first_line
from tidegate.ingest.delivery import DeliveredFile
from tidegate.ingest.laid import Laid
from tidegate.ingest.lines import LONGEST
from tidegate.stores.duckdb import identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_HEAD = 1 << 20


def lay(engine: DuckDBPyConnection, contract: Contract, file: DeliveredFile) -> Laid:
    """Look at the file's head and lay it out by its format.

    Raises:
        SourceError: the file cannot hold this dataset at all (other columns, not UTF-8, not the format).
    """
    match _format(contract, file):
        case "parquet":
            return _parquet(engine, contract, file)
        case "json" | "jsonl" | "ndjson":
            return _json_lines(contract, file)
        case _:
            return _csv(contract, file)


def _format(contract: Contract, file: DeliveredFile) -> str:
    by_suffix = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv"}
    # A file handed over by --file may be in another format than the contract's usual deliveries.
    return by_suffix.get(file.path.suffix) or contract.source.format.lower()


def _csv(contract: Contract, file: DeliveredFile) -> Laid:
    delimiter, quote, nulls = contract.source.delimiter, contract.source.quote, contract.source.nulls
    delivered = _header(file, delimiter, quote)
    _same_columns(contract, file, delivered, delimiter)
    columns = "{" + ", ".join(f"{literal(name)}: 'VARCHAR'" for name in delivered) + "}"
    reading = (
        f"read_csv({literal(str(file.path))}, columns={columns}, header=true, auto_detect=false, "
        f"delim={literal(delimiter)}, quote={literal(quote)}, escape={literal(quote)}, "
        f"nullstr=[{', '.join(literal(v) for v in nulls)}], ignore_errors=true, "
        f"max_line_size={LONGEST}"
    )
    values: dict[str, tuple[str | None, str]] = {}
    for column in contract.columns:
        text = identifier(column.name)
        typed = text if column.duckdb_type == "VARCHAR" else f"try_cast({text} AS {column.duckdb_type})"
        values[column.name] = (text, typed)
    return Laid(file, f"{reading})", f"{reading}, parallel=false)", values, header_lines=1, lines=True)


def _header(file: DeliveredFile, delimiter: str, quote: str) -> list[str]:
    with file.path.open("rb") as stream:
        head = stream.read(_HEAD)
    head = head.removeprefix(b"\xef\xbb\xbf")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceError(f"{file.name}:1: found UTF-16, expected UTF-8: save the file as UTF-8 and deliver it again")
    first = head.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n", 1)[0]
    try:
        text = first.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{file.name}:1: the header is not UTF-8 (byte {error.start + 1}); save the file as UTF-8 and deliver it again"
        ) from None
    if not text.strip():
        raise SourceError(
            f"{file.name}:1: the first line is blank; expected the names of the columns there, {delimiter!r} between them"
        )
    if "\0" in text:
        raise SourceError(
            f"{file.name}:1: the header holds a NUL byte; expected text in UTF-8: ask its sender to deliver the file again"
        )
    try:
        return next(csv.reader(io.StringIO(text), delimiter=delimiter, quotechar=quote, strict=True), [])
    except csv.Error as error:
        raise SourceError(
            f"{file.name}:1: the header cannot be read ({error}); expected names with {delimiter!r} between them"
        ) from None


def _same_columns(contract: Contract, file: DeliveredFile, delivered: list[str], delimiter: str | None = None) -> None:
    """Refuse a file whose columns are not the contract's; their order does not matter."""
    expected = [column.name for column in contract.columns]
    twice = sorted({name for name in delivered if delivered.count(name) > 1})
    missing = [name for name in expected if name not in delivered]
    extra = [name for name in delivered if name not in expected]
    if not (twice or missing or extra):
        return
    if delimiter and len(delivered) == 1 and len(expected) > 1:
        other = next((d for d in ";\t|," if d != delimiter and d in delivered[0]), None)
        seems = f"; it seems to be delimited by {other!r}" if other else ""
        raise SourceError(
            f"{file.name}:1: no delimiter {delimiter!r} in the header{seems}. Expected {', '.join(expected)} "
            f"({contract.reference}, version {contract.version}): deliver the file so, or set the server's delimiter "
            "in the contract"
        )
    found = [
        f"{_columns(twice)} more than once" if twice else "",
        f"{_columns(missing)} missing" if missing else "",
        f"{_columns(extra)} not in the contract" if extra else "",
    ]
    place = f"{file.name}:1" if delimiter else file.name
    raise SourceError(
        f"{place}: {'; '.join(filter(None, found))}. Expected {', '.join(expected)} "
        f"({contract.reference}, version {contract.version}): deliver these, or change the contract"
    )


def _columns(names: list[str]) -> str:
    # A name with a blank or an unseen character in it is shown as what it is.
    shown = ", ".join(name if name.isidentifier() else repr(name) for name in names)
    return f"column {shown} is" if len(names) == 1 else f"columns {shown} are"


def _parquet(engine: DuckDBPyConnection, contract: Contract, file: DeliveredFile) -> Laid:
    import duckdb

    reading = f"read_parquet({literal(str(file.path))})"
    try:
        described = engine.execute(f"DESCRIBE SELECT * FROM {reading}").fetchall()
    except duckdb.Error as error:
        said = first_line(error).replace(str(file.path), "it")
        raise SourceError(
            f"{file.name}: not a readable Parquet file ({said}); ask its sender to deliver it again"
        ) from error
    found = {row[0]: row[1] for row in described}
    _same_columns(contract, file, list(found))
    values: dict[str, tuple[str | None, str]] = {}
    for column in contract.columns:
        name, wanted = identifier(column.name), column.duckdb_type
        aliases = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
        if found[column.name] in (wanted, aliases.get(wanted)):
            values[column.name] = (None, name)
        else:
            text = f"CAST({name} AS VARCHAR)"
            values[column.name] = (text, text if wanted == "VARCHAR" else f"try_cast({text} AS {wanted})")
    return Laid(file, reading, reading, values, header_lines=0, lines=False)


def _json_lines(contract: Contract, file: DeliveredFile) -> Laid:
    reading = (
        f"(SELECT *, {json_texts(contract)} FROM (SELECT line, try_cast(line AS JSON) AS document FROM read_csv("
        f"{literal(str(file.path))}, columns={{'line': 'VARCHAR'}}, header=false, auto_detect=false, delim='', quote='', escape='', "
        f"ignore_errors=true, max_line_size={LONGEST})))"
    )
    return Laid(
        file, reading, reading, json_values(contract), header_lines=0, lines=True, check=no_object(contract),
        blank="coalesce(trim(line), '') = ''",
    )  # fmt: skip


def json_texts(contract: Contract) -> str:
    """Return the column `texts`: of `document`, a JSON object, what it has for each column; read once for all of them."""
    return f"json_extract_string(document, [{', '.join(map(_json_path, contract.columns))}]) AS texts"


def json_values(contract: Contract) -> dict[str, tuple[str | None, str]]:
    """Return each column as (text, value), from `texts`, `document` and `line`, the text that it was read from."""
    values: dict[str, tuple[str | None, str]] = {}
    for place, column in enumerate(contract.columns, 1):
        text = _json_text(column, f"texts[{place}]")
        typed = text if column.duckdb_type == "VARCHAR" else f"try_cast({text} AS {column.duckdb_type})"
        values[column.name] = (text, typed)
    return values


def no_object(contract: Contract) -> str:
    """Return the condition that `document` is no JSON object, or has a key that no column has."""
    names = "[" + ", ".join(literal(c.name) for c in contract.columns) + "]"
    return f"document IS NULL OR json_type(document) <> 'OBJECT' OR NOT list_has_all({names}, json_keys(document))"


def _json_path(column: Column) -> str:
    return literal("$." + column.name)


def _json_text(column: Column, text: str) -> str:
    if not column.postgres_type.startswith("numeric"):
        return text
    # DuckDB holds a fraction as a double, which has 15 digits for certain; the line has all of them.
    digits = f"regexp_extract(line, {literal(f'"{column.name}"' + r'\s*:\s*([-+.0-9eE]+)')}, 1)"
    same = f"try_cast({digits} AS DOUBLE) = try_cast({text} AS DOUBLE)"
    return f"CASE WHEN json_type(document, {_json_path(column)}) = 'DOUBLE' AND {same} THEN {digits} ELSE {text} END"
