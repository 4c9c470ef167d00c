"""The types a contract may use, spelled for each engine; no other module maps types."""

from __future__ import annotations

import re

#: ODCS logical type → PostgreSQL type when the contract gives no physicalType.
DEFAULT_POSTGRES = {
    "string": "text",
    "integer": "bigint",
    "number": "double precision",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamptz",
    "time": "time",
}

#: PostgreSQL type → DuckDB type whose Arrow form binary COPY stores exactly in that PostgreSQL type.
DUCKDB = {
    "text": "VARCHAR",
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
    "time": "TIME",
}
#: Type of a column whose values are sealed, whatever they are inside (migration 0013 makes it).
SEALED = "ops.sealed"
_ALIASES = {
    "int": "integer",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "double": "double precision",
    "bool": "boolean",
    "varchar": "text",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "time without time zone": "time",
}
#: Logical type → the PostgreSQL types that can hold it.
COMPATIBLE = {
    "string": {"text"},
    "integer": {"smallint", "integer", "bigint", "numeric"},
    "number": {"real", "double precision", "numeric", "smallint", "integer", "bigint"},
    "boolean": {"boolean"},
    "date": {"date"},
    "timestamp": {"timestamp", "timestamptz"},
    "time": {"time"},
}
INTEGERS = {"smallint", "integer", "bigint"}
FLOATS = {"real", "double precision"}
_NUMERIC = re.compile(r"^(?:numeric|decimal)\((\d+)(?:,\s*(\d+))?\)$")
_MAX_PRECISION = 38


def postgres_type(logical: str, physical: str | None) -> str | None:
    """Return the canonical PostgreSQL type for a property, or None if the pair is not supported."""
    if physical is None:
        return DEFAULT_POSTGRES.get(logical)
    spelled = canonical(" ".join(physical.lower().split()))
    numeric = _NUMERIC.match(spelled)
    if numeric:
        precision, scale = int(numeric[1]), int(numeric[2] or 0)
        fits = 0 < precision <= _MAX_PRECISION and scale <= precision
        return f"numeric({precision},{scale})" if fits and "numeric" in COMPATIBLE.get(logical, ()) else None
    return spelled if spelled in DUCKDB and spelled in COMPATIBLE.get(logical, ()) else None


def canonical(spelled: str) -> str:
    """Return a PostgreSQL type as we spell it, whichever of its names it comes by."""
    return _ALIASES.get(spelled, spelled)


def duckdb_type(postgres: str) -> str:
    """Return the DuckDB type for a canonical PostgreSQL type."""
    return postgres.replace("numeric", "DECIMAL") if postgres.startswith("numeric") else DUCKDB[postgres]


def supported() -> str:
    """List the PostgreSQL types a contract may name, for error messages."""
    return ", ".join([*DUCKDB, "numeric(precision,scale)"])


#: From narrow to wide.
_LADDERS = (("smallint", "integer", "bigint"), ("real", "double precision"))
#: Decimal digits that a value of an integer type may have.
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}


def widens(before: str, after: str) -> bool:
    """Return whether PostgreSQL type `after` is another type that holds every value of `before` unchanged."""
    for ladder in _LADDERS:
        if before in ladder and after in ladder:
            return ladder.index(before) < ladder.index(after)
    wide, narrow = _whole_and_scale(after), _whole_and_scale(before)
    if wide is None or before == after:
        return False
    if before in _DIGITS:
        return wide[0] >= _DIGITS[before]
    return narrow is not None and wide[0] >= narrow[0] and wide[1] >= narrow[1]


def _whole_and_scale(spelled: str) -> tuple[int, int] | None:
    """Return a numeric type's digits before and after its point."""
    numeric = _NUMERIC.match(spelled)
    return (int(numeric[1]) - int(numeric[2] or 0), int(numeric[2] or 0)) if numeric else None
