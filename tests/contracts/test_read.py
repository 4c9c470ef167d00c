"""What a contract file may say, and the sentence for what it may not: file, line, what was expected."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from tests.shop import orders_contract

from tidegate.contracts import Contract, load, load_all, load_file
from tidegate.contracts.model import Grain, Partitioning
from tidegate.contracts.suite import base_suite
from tidegate.contracts.types import DUCKDB, duckdb_type, postgres_type, widens
from tidegate.errors import ContractError, UsageError
from tidegate.settings import Settings, load_settings

CHECKOUT = Path(__file__).resolve().parents[2]
PAID = "        logicalType: boolean\n        physicalType: boolean\n"


def write(folder: Path, *changes: tuple[str, str], name: str = "orders.odcs.yaml") -> Path:
    text = orders_contract()
    for before, after in changes:
        assert text.count(before) >= 1, before
        text = text.replace(before, after, 1)
    path = folder / name
    path.write_text(text)
    return path


def read(folder: Path, *changes: tuple[str, str]) -> Contract:
    return load_file(write(folder, *changes))


#: What is wrong → the change that makes it so, the text on the line that the error must name, what it must say.
ERRORS: dict[str, tuple[tuple[str, str], str, str]] = {
    "no version": (("version: 1.0.0\n", ""), "apiVersion", "'version' is a required property"),
    "version of another form": (("1.0.0", "v1"), "version:", "must be MAJOR.MINOR.PATCH, as in 1.0.0"),
    "no logical type": (
        ("        logicalType: boolean\n", ""),
        "name: paid",
        "schema.0.properties.5: 'logicalType' is missing",
    ),
    "unknown logical type": (
        ("logicalType: boolean", "logicalType: bool"),
        "logicalType: bool",
        "'bool' is not one of",
    ),
    "key stands twice": (
        (PAID, PAID + "        physicalType: int\n"),
        "physicalType: int\n",
        "stands here twice",
    ),
    "no table": (("schema:\n", "other:\n"), "apiVersion", "'other' was unexpected"),
    "two tables": (
        (
            "  - name: orders\n",
            "  - {name: more, properties: [{name: a, logicalType: string}]}\n  - name: orders\n",
        ),
        "schema:",
        "expected one schema object (a file, a dataset), found 2",
    ),
    "name with blanks": (
        ("- name: orders", "- name: my orders"),
        "name: my orders",
        "dataset name 'my orders' must match",
    ),
    "another file's name": (
        ("- name: orders", "- name: other"),
        "name: other",
        "must live in other.odcs.yaml",
    ),
    "foreign schema": (("raw.orders", "public.orders"), "public.orders", "must be raw.orders or core.orders"),
    "column with blanks": (("name: paid", "name: Paid"), "name: Paid", "column name 'Paid' must match"),
    "lineage column": (
        ("name: paid", "name: _batch_id"),
        "name: _batch_id",
        "column name '_batch_id' must match",
    ),
    "column twice": (
        ("name: paid", "name: customer"),
        "name: customer\n" + PAID,
        "column 'customer' is described twice",
    ),
    "types that don't agree": (
        (PAID, PAID.replace(": boolean\n", ": uuid\n", 2).replace("uuid", "boolean", 1)),
        "uuid",
        "boolean as uuid is not supported; use text, smallint",
    ),
    "too many digits": (
        ("numeric(12,2)", "numeric(40,2)"),
        "numeric(40,2)",
        "number as numeric(40,2) is not supported",
    ),
    "more scale than digits": (("numeric(12,2)", "numeric(2,3)"), "numeric(2,3)", "is not supported"),
    "broken pattern": (
        ("Who ordered.", "Who ordered.\n        logicalTypeOptions: {pattern: '['}"),
        "pattern: '['",
        "is not a regular expression",
    ),
    "tenant that may be empty": (
        ("Weight in kilograms.", "Weight in kilograms.\n        tags: [tenant]"),
        "- name: weight_kg",
        "tenant column 'weight_kg' must be a required text",
    ),
    "partition that may be empty": (
        ("        required: true\n        partitioned", "        partitioned"),
        "- name: orders",
        "partition columns ordered_on must be required",
    ),
    "unknown grain": (
        (
            "partitioned: true",
            "partitioned: true\n        customProperties: [{property: partitionGrain, value: week}]",
        ),
        "name: ordered_on",
        "partitionGrain must be year, month or day, found 'week'",
    ),
    "share above one": (
        ("value: 0\n", "value: 2\n"),
        "- property: maxRefusedShare",
        "maxRefusedShare must be from 0 to 1, found 2",
    ),
    "server without a path": (
        ('"orders/{partition}.csv"', '""'),
        "server: inbox",
        "needs a path or a location",
    ),
    "latency without a unit": (
        ("customProperties:\n", "slaProperties:\n  - property: latency\n    value: 2\ncustomProperties:\n"),
        "property: latency",
        "latency needs a number and a unit of",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_invalid_contract_is_refused_with_file_line_and_reason(case: str, tmp_path: Path) -> None:
    change, at, reason = ERRORS[case]
    path = write(tmp_path, change)
    with pytest.raises(ContractError) as refused:
        load_file(path)
    sentence = str(refused.value)
    place, _, said = sentence.partition(": ")
    file, _, line = place.rpartition(":")
    assert (file, reason in said) == (str(path), True), sentence
    text = path.read_text()
    assert int(line) == text[: text.index(at)].count("\n") + 1, sentence


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"schema: [", r"orders.odcs.yaml:2: not valid YAML"),
        (b"- a\n- b\n", r"orders.odcs.yaml:1: expected a mapping"),
        (b"", r"orders.odcs.yaml:1: expected a mapping"),
        (b"name: \xff", r"orders.odcs.yaml: not UTF-8 \(byte 6\); save the contract as UTF-8"),
    ],
)
def test_a_file_that_is_no_contract_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.odcs.yaml"
    path.write_bytes(content)
    with pytest.raises(ContractError, match=reason):
        load_file(path)


def test_a_missing_file_and_an_unknown_dataset_name_what_there_is(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no such contract file"):
        load_file(tmp_path / "none.odcs.yaml")
    with pytest.raises(UsageError, match=r"no dataset 'flight': schemas/ has aircraft_leg, airlines, .*flights"):
        load(settings, "flight")
    with pytest.raises(UsageError, match=r"no dataset '\.\./flights'"):
        load(settings, "../flights")


PARTITIONS = {
    "date, by month if nothing is said": ([("x", "x")], ("ordered_on",), "2024-03"),
    "date, by day": (
        [
            (
                "partitioned: true",
                "partitioned: true\n        customProperties: [{property: partitionGrain, value: day}]",
            )
        ],
        ("ordered_on",),
        "2024-03-09",
    ),
    "instant, by year": (
        [
            ("        partitioned: true", ""),
            (
                "description: When it left the house.",
                "description: When it left the house.\n        required: true\n        partitioned: true\n"
                "        customProperties: [{property: partitionGrain, value: year}]",
            ),
        ],
        ("shipped_at",),
        "2024",
    ),
}


@pytest.mark.parametrize("case", PARTITIONS)
def test_partitions_follow_the_calendar(case: str, tmp_path: Path) -> None:
    changes, columns, name = PARTITIONS[case]
    partitioning = read(tmp_path, *changes).partitioning
    assert partitioning is not None
    assert (partitioning.columns, partitioning.of_instant(date(2024, 3, 9))) == (columns, name)
    assert partitioning.of_instant(datetime(2024, 3, 9, 23)) == name


@pytest.mark.parametrize(
    "partitions",
    [
        ["2023", "2024", "2025"],
        ["2024-01", "2024-02", "2024-03", "2024-04"],
        ["2023-12-31", "2024-01-01", "2024-01-02"],
    ],
)
def test_a_partition_is_followed_by_the_next_of_the_calendar(partitions: list[str]) -> None:
    grain: Grain = {4: "year", 7: "month", 10: "day"}[len(partitions[0])]
    partitioning = Partitioning(("ordered_on",), grain)
    assert [partitioning.following(name) for name in partitions[:-1]] == partitions[1:]


@pytest.mark.parametrize("partition", ["9999", "9999-12", "9999-12-31"])
def test_nothing_follows_the_last_partition_of_the_calendar(partition: str) -> None:
    grain: Grain = {4: "year", 7: "month", 10: "day"}[len(partition)]
    with pytest.raises(UsageError, match=f"partition {partition} is the calendar's last"):
        Partitioning(("ordered_on",), grain).following(partition)


def test_a_partition_may_be_a_value_and_a_dataset_may_have_none(tmp_path: Path) -> None:
    by_value = read(
        tmp_path,
        ("        partitioned: true", ""),
        ("Who ordered.\n", "Who ordered.\n        partitioned: true\n"),
    ).partitioning
    assert by_value is not None
    assert (by_value.columns, by_value.grain) == (("customer",), None)
    (tmp_path / "whole").mkdir()
    assert read(tmp_path / "whole", ("partitioned: true", "partitioned: false")).partitioning is None


def test_year_month_day_columns_are_a_calendar(settings: Settings) -> None:
    flights = load(settings, "flights").partitioning
    assert flights is not None
    assert (flights.columns, flights.grain) == (("year", "month"), "month")


def test_the_contract_says_who_owns_it_how_fresh_it_is_and_in_which_units(settings: Settings) -> None:
    flights = load(settings, "flights")
    assert flights.owner == "flight-data"
    assert (flights.freshness, flights.frequency) == (timedelta(days=2), timedelta(days=31))
    assert flights.retention == "7 y"
    assert flights.column("distance").unit == "mile"
    assert flights.key == ("time_hour", "carrier", "flight")
    assert flights.column("origin").references == "airports.faa"
    with pytest.raises(KeyError):
        flights.column("none")


def test_every_rule_names_the_line_it_stands_on(settings: Settings) -> None:
    for contract in load_all(settings):
        lines = contract.path.read_text().splitlines()
        for rule in contract.rules:
            words = {
                "minimum": "minimum:",
                "maximum": "maximum:",
                "pattern": "pattern:",
                "accepted": "type: library",
            }
            assert words.get(rule.kind, ":") in lines[rule.line - 1], (contract.dataset, rule)
        if contract.max_refused_share:
            assert "maxRefusedShare" in lines[contract.refused_share_line - 1], contract.dataset


def test_a_type_is_spelled_once_and_stands_for_one_type_of_each_engine() -> None:
    assert postgres_type("string", None) == "text"
    assert postgres_type("integer", "INT8") == "bigint"
    assert postgres_type("timestamp", "timestamp  with time zone") == "timestamptz"
    assert postgres_type("number", "decimal(10, 2)") == "numeric(10,2)"
    assert postgres_type("number", "numeric(7)") == "numeric(7,0)"
    assert postgres_type("string", "numeric(7)") is None
    assert postgres_type("array", None) is None
    assert duckdb_type("numeric(10,2)") == "DECIMAL(10,2)"
    assert {duckdb_type(name) for name in DUCKDB} == set(DUCKDB.values())


@pytest.mark.parametrize(
    ("before", "after", "wider"),
    [
        ("smallint", "integer", True),
        ("integer", "bigint", True),
        ("bigint", "integer", False),
        ("integer", "integer", False),
        ("real", "double precision", True),
        ("integer", "double precision", False),
        ("numeric(10,2)", "numeric(12,2)", True),
        ("numeric(10,2)", "numeric(10,3)", False),
        ("numeric(10,2)", "numeric(11,3)", True),
        ("numeric(10,2)", "numeric(10,2)", False),
        ("integer", "numeric(10,0)", True),
        ("bigint", "numeric(18,0)", False),
        ("text", "numeric(10,0)", False),
        ("numeric(10,0)", "bigint", False),
        ("date", "timestamptz", False),
        ("text", "date", False),
    ],
)
def test_a_type_is_wider_only_if_it_holds_every_value_unchanged(before: str, after: str, wider: bool) -> None:
    assert widens(before, after) is wider


def test_the_suite_has_one_expectation_for_each_promise_and_both_limits_in_one(tmp_path: Path) -> None:
    contract = read(
        tmp_path,
        (
            "Who ordered.",
            "Who ordered.\n        unique: true\n        logicalTypeOptions: {minLength: 2, maxLength: 9, pattern: '^[A-Z]'}",
        ),
        ("minimum: 0", "minimum: 0\n          maximum: 10"),
    )
    kinds = [(e["type"].removeprefix("expect_"), e["kwargs"]) for e in base_suite(contract)]
    assert kinds[0] == ("table_row_count_to_be_between", {"min_value": 1})
    lengths = {"column": "customer", "min_value": 2, "max_value": 9}
    assert ("column_value_lengths_to_be_between", lengths) in kinds
    assert ("column_values_to_match_regex", {"column": "customer", "regex": "^[A-Z]"}) in kinds
    assert ("column_values_to_be_unique", {"column": "customer"}) in kinds
    amounts = {"column": "amount_euro", "min_value": 0, "max_value": 10}
    assert ("column_values_to_be_between", amounts) in kinds
    assert len({(kind, kwargs.get("column")) for kind, kwargs in kinds}) == len(kinds)


def test_a_text_that_was_valid_once_is_not_judged_again_and_another_is(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    path = write(tmp_path)
    program = (
        "import sys; from pathlib import Path; from tidegate.contracts import load_file; "
        f"load_file(Path({str(path)!r}), Path({str(seen)!r})); print('jsonschema' in sys.modules)"
    )

    def judged() -> str:
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert [judged(), judged()] == ["True", "False"]
    write(tmp_path, ("Who ordered.", "Who bought."))
    assert [judged(), judged()] == ["True", "False"]
    write(tmp_path, ("logicalType: boolean", "logicalType: bool"))
    with pytest.raises(ContractError):
        load_file(path, seen)


def test_a_home_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    path = write(tmp_path)
    occupied = tmp_path / "occupied"
    occupied.write_text("a file, not a folder")
    assert load_file(path, occupied / "seen").dataset == "orders"


def test_reading_contracts_needs_no_heavy_library() -> None:
    program = (
        "import sys; from tidegate.settings import load_settings; from tidegate.contracts import load_all; "
        "load_all(load_settings()); "
        "print({'pandas', 'airflow', 'great_expectations', 'datacontract', 'duckdb', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "set()"
    assert load_settings().project == CHECKOUT
