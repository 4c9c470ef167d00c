"""The runner's promises: typed refusals before Spark starts, whole files, the same bytes when run again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import pytest
from tests.transforms.demo_year import Landing
from tests.transforms.servers import sail_server

from tidegate.contracts.read import load as load_contract
from tidegate.errors import ContractError, SourceError, TerminalError, UnavailableError, UsageError
from tidegate.settings import Settings, load_settings
from tidegate.transforms import load, names, run


def content(url: str) -> bytes:
    return Path(urlsplit(url).path).read_bytes()


def project_with(folder: Path, body: str, remote: str | None) -> Settings:
    """A project whose only transform, `made`, has this body; it reads flights."""
    (folder / "transforms").mkdir()
    text = f'"""made: for a test."""\nINPUTS = ("flights",)\ndef transform(flights):\n    {body}\n'
    (folder / "transforms" / "made.py").write_text(text)
    return load_settings(project=folder, home=folder / "home", spark_remote=remote, spark_master=None)


@pytest.mark.parametrize("name", ["nothing", "../transforms/aircraft_leg", "__init__", "Aircraft"])
def test_an_unknown_transform_is_a_usage_error_that_lists_the_known(sail: Settings, name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="aircraft_leg, flight_weather"):
        run(sail, name, {}, tmp_path)


def test_a_module_that_is_no_transform_is_refused(tmp_path: Path) -> None:
    settings = project_with(tmp_path, "return flights", None)
    (tmp_path / "transforms" / "made.py").write_text("INPUTS = ()\n")
    assert names(settings) == ["made"]
    with pytest.raises(ContractError, match=r"transforms/made\.py.*INPUTS"):
        load(settings, "made")


@pytest.mark.parametrize("given", [(), ("flights", "planes"), ("flights", "weather", "planes")])
def test_inputs_must_be_those_that_the_transform_names(sail: Settings, given: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reads flights, weather"):
        run(sail, "flight_weather", {dataset: [tmp_path / "x.parquet"] for dataset in given}, tmp_path)


def test_an_input_without_files_asks_for_a_batch(sail: Settings, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="publish a batch of flights first"):
        run(sail, "aircraft_leg", {"flights": []}, tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"carrier,flight\nAA,1\n", b"PAR1 then nothing"])
def test_a_missing_or_broken_file_is_named(
    sail: Settings, landing: Landing, content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "landed-7.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match="landed-7"):
        run(sail, "aircraft_leg", {"flights": [*landing.flights(1), path]}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_that_only_this_machine_can_see_are_not_lost_in_silence(
    sail: Settings, landing: Landing, tmp_path: Path
) -> None:
    # /proc/self is another folder to the engine's process: as if it ran on a machine without the file.
    far_up = 900
    with landing.flights(1)[0].open("rb") as file:
        os.dup2(file.fileno(), far_up)
    try:
        flights = [*landing.flights(2), f"/proc/self/fd/{far_up}"]
        with pytest.raises(SourceError, match="engine sees 24951 rows of flights where its files hold 51955"):
            run(sail, "aircraft_leg", {"flights": flights}, tmp_path / "out")
    finally:
        os.close(far_up)


@pytest.mark.parametrize("folder", ["100%", "a[b]", "what?", "{x}", "all*", "back\\slash"])
def test_a_path_that_engines_read_differently_is_refused(sail: Settings, folder: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pattern or an escape"):
        run(sail, "aircraft_leg", {"flights": [tmp_path / folder / "f.parquet"]}, tmp_path / "out")


def test_paths_may_be_urls(sail: Settings, landing: Landing, tmp_path: Path) -> None:
    flights = [path.as_uri() for path in landing.flights(1)]
    assert "%20" in flights[0]
    output = run(sail, "aircraft_leg", {"flights": flights}, (tmp_path / "out put").as_uri())
    assert output.path == f"file://{tmp_path}/out put/aircraft_leg.parquet"
    assert output.rows == 26_849


def test_a_missing_column_is_a_contract_error_that_names_it(
    sail: Settings, landing: Landing, database: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    path = tmp_path / "old.parquet"
    database.execute(f"COPY (SELECT * EXCLUDE (tailnum) FROM '{landing.flights(1)[0]}') TO '{path}'")
    with pytest.raises(ContractError, match=r"tailnum.*transforms/aircraft_leg\.py"):
        run(sail, "aircraft_leg", {"flights": [path]}, tmp_path / "out")


@pytest.mark.parametrize("name", ["aircraft_leg", "flight_weather"])
@pytest.mark.parametrize("empty", [True, False], ids=["no-rows", "one-flight"])
def test_the_output_has_its_contracts_columns_and_types(
    sail: Settings,
    write: Callable[..., Path],
    database: duckdb.DuckDBPyConnection,
    name: str,
    empty: bool,
    tmp_path: Path,
) -> None:
    flight = {"time_hour": "2013-01-01T10:00:00Z", "minute": 5, "carrier": "AA", "flight": 1, "tailnum": "N1"}
    landed = {"flights": write("flights", *([] if empty else [flight])), "weather": write("weather")}
    inputs = {dataset: [landed[dataset]] for dataset in load(sail, name).inputs}
    output = run(sail, name, inputs, tmp_path / "out")
    assert output.rows == (0 if empty else 1)
    found = database.execute("DESCRIBE FROM read_parquet($path)", {"path": output.path}).fetchall()
    postgres = {"TIMESTAMP WITH TIME ZONE": "timestamptz", "VARCHAR": "text", "INTEGER": "integer"}
    contract = load_contract(sail, name)
    assert [(column, postgres.get(kind, kind.lower() + " precision")) for column, kind, *_ in found] == [
        (column.name, column.postgres_type) for column in contract.columns
    ]
    assert [source.location for source in contract.sources] == [f"transform/{name}/*.parquet"]


def test_running_again_gives_the_same_bytes_and_clears_what_a_killed_run_left(
    sail: Settings, landing: Landing, tmp_path: Path
) -> None:
    inputs = {"flights": landing.flights(1, 2)}
    first = content(run(sail, "aircraft_leg", inputs, tmp_path).path)
    (tmp_path / "_parts").mkdir()
    (tmp_path / "_parts" / "half.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "aircraft_leg.parquet.unfinished").write_bytes(b"PAR1")
    again = content(run(sail, "aircraft_leg", {"flights": landing.flights(2, 1)}, tmp_path).path)
    assert again == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aircraft_leg.parquet", "home"]


def test_a_failure_inside_spark_is_terminal_and_leaves_the_last_output(
    sail_address: str, landing: Landing, tmp_path: Path
) -> None:
    settings = project_with(tmp_path, "return flights.selectExpr('cast(carrier as int) as number')", sail_address)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "made.parquet").write_bytes(b"last")
    with pytest.raises(TerminalError, match="transform made failed in Spark"):
        run(settings, "made", {"flights": landing.flights(1)}, tmp_path / "out")
    assert (tmp_path / "out" / "made.parquet").read_bytes() == b"last"


def test_an_engine_killed_in_the_middle_is_an_error_to_try_again(landing: Landing, tmp_path: Path) -> None:
    with sail_server(tmp_path) as (address, pid):
        body = f"import os; os.kill({pid}, {int(signal.SIGKILL)}); return flights"
        settings = project_with(tmp_path, body, address)
        with pytest.raises(UnavailableError, match="tidegate up"):
            run(settings, "made", {"flights": landing.flights(1)}, tmp_path / "out")
    assert "SPARK_CONNECT_MODE_ENABLED" not in os.environ
