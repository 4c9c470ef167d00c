"""The Great Expectations base suite of a dataset, derived from its contract, as plain values without GX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidegate.contracts.model import Contract, Rule

#: Rules that GX holds together in one expectation, and which of its two limits each of them is.
_LIMITS = {
    "minimum": "min_value",
    "maximum": "max_value",
    "min_length": "min_value",
    "max_length": "max_value",
}
_KINDS = {
    "required": "expect_column_values_to_not_be_null",
    "accepted": "expect_column_values_to_be_in_set",
    "pattern": "expect_column_values_to_match_regex",
    "key": "expect_column_values_to_be_unique",
    "minimum": "expect_column_values_to_be_between",
    "maximum": "expect_column_values_to_be_between",
    "min_length": "expect_column_value_lengths_to_be_between",
    "max_length": "expect_column_value_lengths_to_be_between",
}


def base_suite(contract: Contract) -> list[dict[str, Any]]:
    """Return the contract's promises as expectation configurations, each with the line it comes from.

    Types are not judged again here: the staged table has the contract's types, or COPY would have failed. Nor
    is the primary key, which its index holds. Of a sealed value nothing can be said but that it is there.
    """
    at_least_one = {
        "type": "expect_table_row_count_to_be_between",
        "kwargs": {"min_value": 1},
        "severity": "critical",
        "meta": {"source": f"{contract.reference}:{contract.key_line}", "target": "at least one row"},
    }
    grouped: dict[tuple[str, str], list[Rule]] = {}
    for rule in contract.rules:
        if rule.kind not in _KINDS or (rule.kind == "key" and rule.columns == contract.key):
            continue
        if rule.kind == "required" or rule.columns[0] not in contract.sealed:
            grouped.setdefault((rule.columns[0], _KINDS[rule.kind]), []).append(rule)
    return [at_least_one, *(_expectation(contract, kind, rules) for (_, kind), rules in grouped.items())]


def _expectation(contract: Contract, kind: str, rules: Sequence[Rule]) -> dict[str, Any]:
    kwargs: dict[str, Any] = {"column": rules[0].columns[0]}
    for rule in rules:
        match rule.kind:
            case "accepted":
                kwargs["value_set"] = list(rule.value)
            case "pattern":
                kwargs["regex"] = rule.value
            case limit if limit in _LIMITS:
                kwargs[_LIMITS[limit]] = rule.value
    return {
        "type": kind,
        "kwargs": kwargs,
        "severity": "critical",
        "meta": {
            "source": f"{contract.reference}:{rules[0].line}",
            "target": " and ".join(rule.expected for rule in rules),
        },
    }
