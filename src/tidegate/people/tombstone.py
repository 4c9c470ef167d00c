"""What stands where a value was erased: nothing where the contract allows that, else a value that keeps every rule."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, date, datetime
from typing import Any

from tidegate.contracts import Column, Contract
from tidegate.contracts.types import INTEGERS
from tidegate.errors import ContractError

TEXT = "erased"
_DAY = date(1900, 1, 1)
#: Tried in this order where a pattern asks for one of many characters.
_PLAIN = "x0XA-. "


def stone(contract: Contract, column: Column) -> Any:
    """Return the value to put in the place of an erased one of `column`; None where it may be empty.

    Raises:
        ContractError: no value could be found that keeps the column's rules.
    """
    if not column.required and column.name not in contract.key:
        return None
    rules = {rule.kind: rule.value for rule in column.rules}
    if "accepted" in rules:
        return rules["accepted"][0]
    least = rules.get("minimum")
    match column.logical_type:
        case "boolean":
            return False
        case "date":
            return date.fromisoformat(str(least)) if least is not None else _DAY
        case "timestamp":
            start = datetime.combine(_DAY, datetime.min.time(), UTC)
            return datetime.fromisoformat(str(least)) if least is not None else start
        case "string":
            return _text(contract, column, rules)
    if column.postgres_type in INTEGERS or column.logical_type in ("integer", "number"):
        return least if least is not None else min(0, rules.get("maximum", 0))
    raise _none(contract, column)


def _text(contract: Contract, column: Column, rules: dict[str, Any]) -> str:
    pattern = rules.get("pattern")
    unique = f"{TEXT}-{secrets.token_hex(8)}" if column.name in contract.key else TEXT
    for text in (unique, *([_matching(pattern)] if pattern else [])):
        long = text.ljust(rules.get("min_length", 0), "x")[: rules.get("max_length")]
        if (not pattern or re.search(pattern, long)) and (column.name not in contract.key or long == unique):
            return long
    raise _none(contract, column)


def _none(contract: Contract, column: Column) -> ContractError:
    return ContractError(
        f"{contract.reference}:{column.line}: nothing can stand for an erased {column.name}: it is never empty, and no value "
        "was found that keeps its rules; nothing was erased: let it be empty (required: false)"
    )


def _matching(pattern: str) -> str:
    """Return a short text that the regular expression matches, as far as its parts are simple ones; else any text."""
    return "".join(map(_part, re._parser.parse(pattern)))  # type: ignore[attr-defined]


def _part(node: tuple[Any, Any]) -> str:
    kind, value = str(node[0]), node[1]
    match kind:
        case "LITERAL":
            return chr(value)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return "".join(map(_part, value[2])) * int(value[0])
        case "SUBPATTERN":
            return "".join(map(_part, value[3]))
        case "BRANCH":
            return "".join(map(_part, value[1][0]))
        case "IN" | "NOT_LITERAL" | "ANY":
            return next((c for c in (*_PLAIN, *map(chr, range(33, 127))) if _allows(kind, value, c)), "")
    return ""


def _allows(kind: str, value: Any, character: str) -> bool:
    if kind == "ANY":
        return True
    if kind == "NOT_LITERAL":
        return bool(ord(character) != value)
    code, wanted = ord(character), True
    for name, what in value:
        match str(name):
            case "NEGATE":
                wanted = False
            case "LITERAL" if code == what:
                return wanted
            case "RANGE" if what[0] <= code <= what[1]:
                return wanted
            case "CATEGORY" if _in_category(str(what), character):
                return wanted
    return not wanted


def _in_category(name: str, character: str) -> bool:
    for word, holds in (
        ("DIGIT", character.isdigit()),
        ("WORD", character.isalnum() or character == "_"),
        ("SPACE", character.isspace()),
    ):
        if name.endswith(word):
            return bool(holds) != ("NOT_" in name)
    return False
