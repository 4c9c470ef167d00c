"""Great Expectations as a judge: a table and suites in, verdicts and evidence out.

First everything is judged by yes or no, which GX bundles into few statements; only what failed is asked again
for its figures. No row's content enters a result: evidence is shown to people who may not see the data.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tidegate.errors import ContractError, first_line
from tidegate.gates.verdict import Evidence, Verdict
from tidegate.settings import Settings
from tidegate.stores.postgres import warehouse_url

Configuration = dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """Named expectations, each with where it is written and what it expects, in words."""

    name: str
    expectations: Sequence[Configuration]

    @property
    def version(self) -> str:
        """Hash of what it decides: another rule, limit, severity or sentence is another version; a line is not."""
        rules = [{**c, "meta": c["meta"]["target"]} for c in self.expectations]
        return hashlib.sha256(json.dumps(rules, sort_keys=True, default=str).encode()).hexdigest()[:12]


def domain_suite(project: Path, name: str) -> Suite | None:
    """Read `expectations/<name>.yaml`, if there is one.

    Raises:
        ContractError: the file is not of the expected form.
    """
    path = project / "expectations" / f"{name}.yaml"
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    try:
        document = yaml.safe_load(text)
        lines = {node.value: node.start_mark.line + 1 for node in _scalars(yaml.compose(text, Loader=yaml.SafeLoader))}
        configurations = [
            {
                "type": item["type"],
                "kwargs": dict(item.get("kwargs") or {}),
                "severity": item.get("severity", "critical"),
                "meta": {"source": f"expectations/{path.name}:{lines.get(item['name'], 1)}", "target": item["name"]},
            }
            for item in document["expectations"]
        ]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ContractError(f"{path}: expected `expectations:` with name, type, kwargs, severity; {error!r}") from error
    return Suite("domain", configurations)


def _scalars(node: yaml.Node | None) -> list[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        return [node]
    if isinstance(node, yaml.MappingNode):
        return [s for pair in node.value for child in pair for s in _scalars(child)]
    if isinstance(node, yaml.SequenceNode):
        return [s for child in node.value for s in _scalars(child)]
    return []


def great_expectations() -> Any:
    """Return the library, imported without a word: it tells nobody that it is used, and an engine of it that is not ours complains."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        import great_expectations as gx
    return gx


def judge_table(
    settings: Settings, schema: str, table: str, suites: Sequence[Suite], evidence_folder: Path
) -> tuple[list[Verdict], list[Evidence]]:
    """Judge one table by every suite; a suite without expectations is an error, not a pass.

    Raises:
        ContractError: a suite is empty, or GX does not know an expectation.
    """
    gx = great_expectations()
    from great_expectations.exceptions import GreatExpectationsError

    for suite in suites:
        if not suite.expectations:
            raise ContractError(f"suite {suite.name} of {table} is empty: a gate without a rule cannot pass anything")
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    url = _in_schema(warehouse_url(settings), schema)
    source = context.data_sources.add_postgres("warehouse", connection_string=url, create_temp_table=False)
    try:
        asset = source.add_table_asset(table, table_name=table)
        batch = asset.add_batch_definition_whole_table("whole").get_batch()
        verdicts: list[Verdict] = []
        evidence: list[Evidence] = []
        for suite in suites:
            decided, document = _judge(batch, suite)
            failed = sum(v.verdict != "PASS" for v in decided)
            file = Evidence.write(
                "great_expectations",
                evidence_folder / f"{suite.name}.json",
                document,
                {"expectations": len(decided), "not_passed": failed},
            )
            evidence.append(file)
            verdicts += [verdict.on(file) for verdict in decided]
        return verdicts, evidence
    except GreatExpectationsError as error:
        raise ContractError(f"Great Expectations cannot judge {schema}.{table}: {error}") from error
    finally:
        # GX keeps its connections open otherwise, for as long as the process lives: it has two engines.
        source.get_execution_engine().close()
        source.get_engine().dispose()


def _in_schema(url: str, schema: str) -> str:
    """Return the address for SQLAlchemy, with `schema` as the place where bare table names are looked up."""
    from sqlalchemy import make_url

    address = make_url(url).set(drivername="postgresql+psycopg")
    return address.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)


def _judge(batch: Any, suite: Suite) -> tuple[list[Verdict], dict[str, Any]]:
    results = _validate(batch, suite.name, suite.expectations, "BOOLEAN_ONLY")
    failed = [c for c, r in zip(suite.expectations, results, strict=True) if not r["success"]]
    details = dict(zip(map(id, failed), _validate(batch, suite.name, failed, "BASIC"), strict=True)) if failed else {}
    verdicts, shown = [], []
    for configuration, result in zip(suite.expectations, results, strict=True):
        detail = details.get(id(configuration), result)
        meta = configuration["meta"]
        passed = bool(result["success"])
        verdicts.append(
            Verdict(
                gate=f"expectations.{suite.name}",
                rule=_rule(configuration),
                verdict="PASS" if passed else "WARN" if configuration["severity"] == "warning" else "FAIL",
                value="as expected" if passed else _value(configuration, detail),
                target=str(meta["target"]),
                target_source=str(meta["source"]),
                rule_set_version=suite.version,
            )
        )
        shown.append(_without_rows(configuration, passed, detail))
    return verdicts, _document(suite.name, batch.data_asset.name, shown)


def _without_rows(configuration: Configuration, passed: bool, detail: Mapping[str, Any]) -> dict[str, Any]:
    """Return one result in GX's own JSON form with its figures only: all else there may be a row's content."""
    figures = {name: value for name, value in detail["result"].items() if isinstance(value, int | float)}
    return {
        "success": passed,
        "expectation_config": configuration,
        "result": figures,
        "meta": {},
        "exception_info": {"raised_exception": False, "exception_message": None, "exception_traceback": None},
    }


def _document(suite: str, table: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a whole validation in GX's JSON form, which Data Docs are built from."""
    successful = sum(result["success"] for result in results)
    return {
        "suite_name": suite,
        "success": successful == len(results),
        "results": results,
        "statistics": {
            "evaluated_expectations": len(results),
            "successful_expectations": successful,
            "unsuccessful_expectations": len(results) - successful,
            "success_percent": 100 * successful / len(results),
        },
        "suite_parameters": {},
        "meta": {"active_batch_definition": {"datasource_name": "warehouse", "data_asset_name": table}},
    }


def _validate(batch: Any, name: str, configurations: Sequence[Configuration], detail: str) -> list[Mapping[str, Any]]:
    gx = great_expectations()
    expectations = [_expectation(c, position) for position, c in enumerate(configurations)]
    suite = gx.ExpectationSuite(name=f"{name} {detail}", expectations=expectations)
    outcome = batch.validate(suite, result_format={"result_format": detail, "partial_unexpected_count": 0})
    placed = {r.expectation_config.meta["position"]: r for r in outcome.results}
    found: list[Mapping[str, Any]] = []
    for position, configuration in enumerate(configurations):
        result = placed[position]
        if result.exception_info and result.exception_info.get("raised_exception"):
            raise ContractError(
                f"{configuration['meta']['source']}: {configuration['type']} could not be judged: "
                f"{result.exception_info.get('exception_message')}"
            )
        # GX keeps exceptions of single metrics in a mapping of their own.
        for info in (result.exception_info or {}).values():
            if isinstance(info, dict) and info.get("raised_exception"):
                raise ContractError(
                    f"{configuration['meta']['source']}: {configuration['type']} could not be judged: "
                    f"{first_line(str(info.get('exception_message')))}"
                )
        found.append({"success": result.success, "result": dict(result.result or {})})
    return found


def _expectation(configuration: Configuration, position: int) -> Any:
    from great_expectations.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    named = {part: configuration[part] for part in ("type", "kwargs", "severity")}
    try:
        return ExpectationConfiguration(**named, meta={"position": position}).to_domain_obj()
    except (ExpectationNotFoundError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ContractError(f"{configuration['meta']['source']}: no such expectation can be made: {reason}") from error


def _rule(configuration: Configuration) -> str:
    columns = configuration["kwargs"].get("column") or ", ".join(configuration["kwargs"].get("column_list", []))
    name = configuration["type"].removeprefix("expect_").removesuffix("_expectation").replace("_", " ")
    if configuration["type"] == "unexpected_rows_expectation":
        return str(configuration["meta"]["target"])
    return f"{columns}: {name}" if columns else name.removesuffix(" to be between")


def _value(configuration: Configuration, detail: Mapping[str, Any]) -> str:
    """Say what was found, in figures; other observations may be a row's content."""
    result = detail["result"]
    if "unexpected_count" in result:
        of = f" of {result['element_count']} rows" if "element_count" in result else " unexpected"
        return f"{result['unexpected_count']}{of}"
    observed = result.get("observed_value")
    if not str(observed).replace(".", "", 1).replace("-", "", 1).isdigit():
        return "not as expected"
    counts = configuration["type"] == "unexpected_rows_expectation" or "row_count" in configuration["type"]
    return f"{observed} rows" if counts else str(observed)
