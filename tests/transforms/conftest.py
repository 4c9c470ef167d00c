"""Real engines for the transforms' tests, and the demo year as landed Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from tests.transforms.demo_year import FLIGHT_COLUMNS, WEATHER_COLUMNS, Landing, land
from tests.transforms.servers import sail_server

from tidegate.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def _short_lived_jvms() -> Iterator[None]:
    """A JVM that lives for one transform never earns back what its optimising compiler costs: 40 in 100 of all CPU.

    Nor does it have to check the byte code that Spark was delivered in: 15 in 100 of what is left.
    """
    with pytest.MonkeyPatch.context() as patch:
        unchecked = "-XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
        patch.setenv("JAVA_TOOL_OPTIONS", f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC {unchecked}")
        yield


@pytest.fixture(scope="session")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


@pytest.fixture(scope="session")
def landing(tmp_path_factory: pytest.TempPathFactory, database: duckdb.DuckDBPyConnection) -> Landing:
    # a space and an accent, as in the checkouts of real people
    return land(database, tmp_path_factory.mktemp("landing of été"))


@pytest.fixture(scope="session")
def write(tmp_path_factory: pytest.TempPathFactory, database: duckdb.DuckDBPyConnection) -> Callable[..., Path]:
    """Return write(dataset, *rows): a Parquet file of these rows; columns that a row leaves out are null."""
    folder = tmp_path_factory.mktemp("cases")
    kinds = {"flights": FLIGHT_COLUMNS, "weather": WEATHER_COLUMNS}

    def write(dataset: str, *rows: dict[str, object]) -> Path:
        columns = kinds[dataset]
        described = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        database.execute(f"CREATE OR REPLACE TEMP TABLE cases ({described})")
        for row in rows:
            assert set(row) <= set(columns)
            database.execute(
                f"INSERT INTO cases ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
                list(row.values()),
            )
        path = folder / f"{dataset}-{len(list(folder.iterdir()))}.parquet"
        database.execute(f"COPY cases TO '{path}'")
        return path

    return write


@pytest.fixture(scope="session")
def sail_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with sail_server(tmp_path_factory.mktemp("sail")) as (address, _):
        yield address


@pytest.fixture
def sail(sail_address: str, tmp_path: Path) -> Settings:
    return load_settings(project=ROOT, home=tmp_path / "home", spark_remote=sail_address, spark_master=None)
