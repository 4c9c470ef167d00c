"""Real flights of the demo year and the airports, as tables of DuckDB and lines for PostgreSQL."""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv

from tidegate.contracts.model import Contract
from tidegate.contracts.read import load_file
from tidegate.run import demo

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
FLIGHTS, AIRPORTS, CONTRACT = (
    load_file(SCHEMAS / f"{name}.odcs.yaml") for name in ("flights", "airports", "flight_event")
)


@cache
def lines(dataset: str) -> bytes:
    with demo.original(dataset) as found:
        return b"".join(found)


def columns(contract: Contract) -> str:
    return ", ".join(lines(contract.dataset).split(b"\n", 1)[0].decode().strip().replace('"', "").split(","))


def load_days(engine: duckdb.DuckDBPyConnection, first: date, last: date) -> None:
    """Create the tables `flights`, of those that were to depart from `first` to `last`, and `airports`."""
    engine.sql("SET TimeZone = 'UTC'")
    for contract in (FLIGHTS, AIRPORTS):
        text = pyarrow.csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
        table = pyarrow.csv.read_csv(pa.BufferReader(lines(contract.dataset)), convert_options=text)
        kinds = ", ".join(
            f"CAST({column.name} AS {column.duckdb_type}) AS {column.name}" for column in contract.columns
        )
        engine.register("found", table)
        engine.sql(f"CREATE TABLE {contract.dataset} AS SELECT {kinds} FROM found")
        engine.unregister("found")
    engine.sql(f"DELETE FROM flights WHERE make_date(year, month, day) NOT BETWEEN DATE '{first}' AND DATE '{last}'")
