"""Runs the dbt project in this process on the settings' warehouse; publishing what it built is not here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.errors import HeldError, TerminalError, UnavailableError
from tidegate.stack.manifest import path as manifest_path

if TYPE_CHECKING:
    from tidegate.settings import Settings

# What libpq says when the server went away under a running model; dbt hands on its text, not its type.
_LOST = (
    "server closed the connection",
    "terminating connection",
    "could not connect",
    "connection to server",
)

#: Where readers find the marts; the schema that they are built in is gone once they are published.
_PUBLISHED = '{"marts_schema": "marts"}'


@dataclass(frozen=True)
class ModelResult:
    """What became of one node of the project: a model, a test or a unit test."""

    name: str
    kind: str
    status: str
    seconds: float
    rows: int | None = None
    """Rows written; None for views and tests."""
    message: str | None = None

    @property
    def is_check(self) -> bool:
        """Whether the node judges data, and makes none."""
        return self.kind in {"test", "unit_test"}


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that `profiles.yml`, `dbt` and `psql` read, the password among them.

    Those of the server are missing while no warehouse address is known.
    """
    from tidegate.stores.postgres import libpq_environment

    variables = {
        "DBT_PROJECT_DIR": str(settings.project),
        "DBT_PROFILES_DIR": str(settings.project),
        "DBT_TARGET_PATH": str(_target(settings)),
        "DBT_LOG_PATH": str(_log(settings).parent),
    }
    if settings.warehouse_url is not None:
        variables |= libpq_environment(settings)
    return variables


def manifest(settings: Settings) -> Path:
    """Write the project's manifest, from files alone, and return its path; the warehouse is not asked.

    Raises `TerminalError` when the project cannot be parsed.
    """
    # With the words that Airflow's tasks use, so that dbt can use what it has parsed here: see `parsed`.
    _invoke(settings, ["parse", "--profile", "tidegate", "--target", "warehouse"])
    return manifest_path(settings)


def parsed(settings: Settings) -> Path:
    """Return where dbt keeps what it has parsed; a dbt that starts there parses only what has changed since."""
    return _target(settings) / "partial_parse.msgpack"


def docs(settings: Settings) -> Path:
    """Write dbt's documentation of the published models as one self-contained page and return its path.

    Raises `TerminalError` when the project cannot be compiled, `UnavailableError` when the warehouse is away.
    """
    _require_warehouse(settings)
    # In a folder of its own: Airflow reads the manifest in the other one, at any time.
    target = _target(settings).with_name("docs")
    _invoke(settings, ["docs", "generate", "--static", "--target-path", str(target), "--vars", _PUBLISHED])
    return target / "static_index.html"


def build(settings: Settings, select: Sequence[str] | None = None, *, full_refresh: bool = False) -> list[ModelResult]:
    """Build and check the models that `select` names (dbt's words; all by default), in order of finish.

    Unit tests are left out: they judge code, not data, and the test suite runs them. Marts land in the schema
    `marts_next`, beside the published ones.

    Raises `HeldError` when a check refused the data, `TerminalError` when a model or the project is wrong,
    `UnavailableError` when the warehouse does not answer.
    """
    _require_warehouse(settings)
    # `buildable`: the checks that compare a selected model with one built from it are not its own.
    arguments = ["build", "--exclude-resource-type", "unit_test", "--indirect-selection", "buildable"]
    if select:
        arguments += ["--select", *select]
    if full_refresh:
        arguments.append("--full-refresh")
    outcome = _invoke(settings, arguments)
    results = [_result(run) for run in outcome.results]
    _refuse_failures(results, _log(settings))
    return results


def test(settings: Settings) -> tuple[list[ModelResult], Path]:
    """Run every data test on the published marts; return what came of each, and the project's manifest.

    Raises `TerminalError` when the project cannot be compiled, `UnavailableError` when the warehouse is away.
    """
    _require_warehouse(settings)
    # As in `docs`: in a folder of its own, and where readers find the marts.
    target = _target(settings).with_name("test")
    outcome = _invoke(
        settings,
        ["test", "--exclude-resource-type", "unit_test", "--target-path", str(target), "--vars", _PUBLISHED],
    )
    return [_result(run) for run in outcome.results], target / "manifest.json"


def freshness(settings: Settings) -> dict[str, str]:
    """Return `pass`, `warn` or `error` for each source (`raw.flights`), by when its last batch was published.

    Raises `UnavailableError` when the warehouse does not answer, `TerminalError` when it has no ledger.
    """
    _require_warehouse(settings)
    results = list(_invoke(settings, ["source", "freshness"]).results)
    broken = [run for run in results if run.status == "runtime error"]
    if broken:
        raise _typed("source freshness", broken[0].message or "no reason given", _log(settings))
    return {f"{run.node.source_name}.{run.node.name}": str(run.status) for run in results}


def _target(settings: Settings) -> Path:
    return manifest_path(settings).parent


def _log(settings: Settings) -> Path:
    return settings.home / "dbt" / "logs" / "dbt.log"


def _require_warehouse(settings: Settings) -> None:
    if settings.warehouse_url is None:
        raise UnavailableError(
            "No warehouse address is known, and models are built in one."
            " Type `tidegate up`, or set TIDEGATE_WAREHOUSE_URL."
        )


def _invoke(settings: Settings, arguments: list[str]) -> Any:
    """Run one dbt command and return what it leaves; its console output goes to its log file only."""
    from dbt.cli.main import dbtRunner

    with _environ(environment(settings)):
        done = dbtRunner().invoke(["--log-level", "none", "--no-use-colors", *arguments])
    if done.exception is not None:
        raise _typed(arguments[0], str(done.exception), _log(settings)) from done.exception
    return done.result


@contextmanager
def _environ(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for the length of a call: dbt takes its profile from the environment only."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _result(run: Any) -> ModelResult:
    rows = run.adapter_response.get("rows_affected", -1)
    return ModelResult(
        name=run.node.name,
        kind=str(run.node.resource_type),
        status=str(run.status),
        seconds=run.execution_time,
        rows=rows if rows >= 0 and run.node.resource_type == "model" else None,
        message=run.message,
    )


def _refuse_failures(results: list[ModelResult], log: Path) -> None:
    broken = [result for result in results if result.status in {"error", "runtime error"}]
    refused = [result for result in results if result.status == "fail"]
    if broken:
        raise _typed(broken[0].name, broken[0].message or "no reason given", log)
    if refused:
        names = ", ".join(result.name for result in refused)
        raise HeldError(
            f"The models' checks refused the marts: {names}. Published marts stay as they were."
            f" {log} holds each check's query: repair the data or the model, and build again."
        )


def _typed(what: str, reason: str, log: Path) -> TerminalError | UnavailableError:
    reason = " ".join(reason.split()).rstrip(".")
    if any(words in reason for words in _LOST):
        return UnavailableError(
            f"The warehouse did not answer during dbt's `{what}`: {reason}."
            " Nothing is lost; `tidegate status` says whether it runs, and the same call can be made again."
        )
    return TerminalError(f"dbt's `{what}` failed: {reason}. Repair the model or its source; {log} has the details.")


if __name__ == "__main__":
    from tidegate.settings import get_settings

    try:
        manifest(get_settings())
    except TerminalError as refused:
        sys.exit(str(refused))
