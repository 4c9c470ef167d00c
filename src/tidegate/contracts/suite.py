"""The Great Expectations base suite of a dataset, derived from its contract; plain values, GX is not imported here."""

from __future__ import annotations

from typing import Any

from tidegate.contracts.model import Contract, Rule


def base_suite(contract: Contract) -> list[dict[str, Any]]:
    """Return the contract's promises as expectation configurations, each with the line it comes from.

    Types are not judged again here: the staged table has the contract's types, or COPY would have failed.
    """
    first = f"{contract.reference}:{contract.key_line}"
    suite: list[dict[str, Any]] = [
        _expectation("expect_table_row_count_to_be_between", first, "at least one row", min_value=1)
    ]
    bounds: dict[str, dict[str, Rule]] = {}
    for rule in contract.rules:
        at = f"{contract.reference}:{rule.line}"
        column = rule.columns[0]
        match rule.kind:
            case "required":
                suite.append(_expectation("expect_column_values_to_not_be_null", at, rule.expected, column=column))
            case "minimum" | "maximum":
                bounds.setdefault(column, {})[rule.kind] = rule
            case "accepted":
                suite.append(
                    _expectation("expect_column_values_to_be_in_set", at, rule.expected, column=column, value_set=list(rule.value))
                )
            case "pattern":
                suite.append(
                    _expectation("expect_column_values_to_match_regex", at, rule.expected, column=column, regex=rule.value)
                )
            case "max_length" | "min_length":
                limit = {"max_value" if rule.kind == "max_length" else "min_value": rule.value}
                suite.append(
                    _expectation("expect_column_value_lengths_to_be_between", at, rule.expected, column=column, **limit)
                )
            case "key" if len(rule.columns) == 1 and rule.columns != contract.key:
                # The primary key is held by its index; other unique columns have none.
                suite.append(_expectation("expect_column_values_to_be_unique", at, rule.expected, column=column))
    for column, limits in bounds.items():
        kwargs = {("min_value" if kind == "minimum" else "max_value"): rule.value for kind, rule in limits.items()}
        words = " and ".join(rule.expected for rule in limits.values())
        at = f"{contract.reference}:{next(iter(limits.values())).line}"
        suite.append(_expectation("expect_column_values_to_be_between", at, words, column=column, **kwargs))
    return suite


def _expectation(kind: str, source: str, words: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": kwargs, "severity": "critical", "meta": {"source": source, "target": words}}
