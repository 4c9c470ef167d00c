"""Sail, JVM Spark in one process, and a standalone cluster write the same rows, down to the byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import pytest
from tests.transforms.demo_year import Landing
from tests.transforms.servers import standalone_cluster

from tidegate import transforms
from tidegate.settings import Settings, load_settings

MONTH = 2  # holds the absurd gust of wind, and hours without an observation


@pytest.fixture(params=["local[2]", "standalone"])
def jvm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    project = Path(__file__).parents[2]
    if request.param == "standalone":
        with standalone_cluster(tmp_path) as master:
            yield load_settings(project=project, home=tmp_path / "home", spark_master=master, spark_remote=None)
    else:
        yield load_settings(project=project, home=tmp_path / "home", spark_master=request.param, spark_remote=None)


def test_every_engine_writes_the_same_rows(
    sail: Settings, jvm: Settings, landing: Landing, database: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    landed = {"flights": landing.flights(MONTH), "weather": landing.weather(MONTH)}
    assert transforms.names(sail) == ["aircraft_leg", "flight_weather"]
    for name in transforms.names(sail):
        inputs = {dataset: landed[dataset] for dataset in transforms.load(sail, name).inputs}
        on_sail = transforms.run(sail, name, inputs, tmp_path / "sail")
        on_jvm = transforms.run(jvm, name, inputs, tmp_path / "jvm")
        assert on_sail.rows == on_jvm.rows > 24_000
        for left, right in ((on_sail, on_jvm), (on_jvm, on_sail)):
            differing = database.execute(
                "FROM read_parquet($left) EXCEPT ALL FROM read_parquet($right)",
                {"left": left.path, "right": right.path},
            )
            assert differing.fetchmany(3) == []
        written = [Path(urlsplit(output.path).path).read_bytes() for output in (on_sail, on_jvm)]
        assert written[0] == written[1], f"{name}: the same rows as other bytes would be another batch"
