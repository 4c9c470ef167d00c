"""A contract's rules as DuckDB conditions that are true where a row breaks them; nothing is executed here."""

from __future__ import annotations

from typing import Any

from tidegate.contracts import Column, Contract, Rule
from tidegate.contracts.types import FLOATS, INTEGERS
from tidegate.stores.duckdb import identifier, literal

#: Condition that a row breaks `rule`; both sides of the pair are never NULL.
Condition = tuple[Rule, str]


def text_of(name: str) -> str:
    """Name of the column that holds the text of column `name` as delivered."""
    return identifier(f"text${name}")


def conditions(contract: Contract, partition: str | None, *, texts: set[str]) -> list[Condition]:
    """Return every row rule with the condition that breaks it, type and presence first.

    `texts` are the columns that arrive as text and still have it; the others arrived typed by their format.
    Without a `partition` rows of all partitions may come.
    """
    found: list[Condition] = []
    for column in contract.columns:
        if (broken := _type(column, arrived_as_text=column.name in texts)) is not None:
            rule = next((r for r in column.rules if r.kind == "type"), None)
            found.append((rule or Rule("type", (column.name,), "text without NUL", column.line), broken))
        found += [(rule, _broken(rule, column)) for rule in column.rules if rule.kind not in ("type", "key")]
    if contract.partitioning is not None and partition is not None:
        rule = Rule("partition", contract.partitioning.columns, partition, contract.key_line)
        found.append((rule, f"NOT ({partition_condition(contract, partition)})"))
    return [(rule, f"coalesce({sql}, false)") for rule, sql in found]


def any_broken(contract: Contract, partition: str, *, texts: set[str]) -> str:
    """Return one condition that is true where a row breaks any row rule, and NULL or false elsewhere.

    It says the same as all `conditions` joined by OR, in half the time: what has to search texts searches those of
    all columns as one.
    """
    integers = [c.name for c in contract.columns if c.postgres_type in INTEGERS and c.name in texts]
    words = [c.name for c in contract.columns if c.postgres_type == "text"]
    broken = [_unread(name) for name in integers]
    if integers:
        broken.append(_rounded(f"concat({', '.join(map(text_of, integers))})"))
    if words:
        broken.append(_unstorable(f"concat({', '.join(map(identifier, words))})"))
    for column in contract.columns:
        apart = column.name not in integers and column.name not in words
        if apart and (wrong := _type(column, arrived_as_text=column.name in texts)) is not None:
            broken.append(wrong)
        broken += [_broken(rule, column) for rule in column.rules if rule.kind not in ("type", "key")]
    if contract.partitioning is not None:
        broken.append(f"NOT ({partition_condition(contract, partition)})")
    return " OR ".join(broken) or "false"


def keys(contract: Contract) -> list[tuple[Rule, str, str]]:
    """Return every rule of uniqueness with the columns that it is of, as SQL, and the condition that a row has them all."""
    return [
        (
            rule,
            ", ".join(map(identifier, rule.columns)),
            " AND ".join(f"{identifier(name)} IS NOT NULL" for name in rule.columns),
        )
        for rule in contract.rules
        if rule.kind == "key"
    ]


def _type(column: Column, *, arrived_as_text: bool) -> str | None:
    value, text, wanted = identifier(column.name), text_of(column.name), column.postgres_type
    broken = []
    if wanted == "text":
        return _unstorable(value)
    if arrived_as_text:
        broken.append(_unread(column.name))
        if wanted in INTEGERS:
            broken.append(_rounded(text))
        if wanted.startswith("numeric"):
            precision, scale = (int(n) for n in wanted[8:-1].split(","))
            wider = f"DECIMAL(38,{38 - (precision - scale)})"
            broken.append(f"try_cast({text} AS {wider}) IS DISTINCT FROM {value} AND {text} IS NOT NULL")
        if wanted == "date":
            broken.append(f"length(trim({text})) > 10")
    if wanted in FLOATS:
        broken.append(f"NOT isfinite({value})")
    if wanted in ("date", "timestamp", "timestamptz"):
        # Not year(): of an instant before Christ it tells the year of its era.
        first, after = (f"CAST('{year}-01-01' AS {column.duckdb_type})" for year in ("0001", "10000"))
        broken.append(f"NOT ({value} >= {first} AND {value} < {after})")
    return " OR ".join(broken) or None


def _unread(name: str) -> str:
    return f"({text_of(name)} IS NOT NULL AND {identifier(name)} IS NULL)"


def _rounded(text: str) -> str:
    # DuckDB would round 5.7 to 6 and 15e-1 to 2; 1e3 and 1_000 it reads without loss.
    return " OR ".join(f"contains({text}, '{sign}')" for sign in (".", "e-", "E-"))


def _unstorable(text: str) -> str:
    # PostgreSQL cannot store NUL, and no text has a use for it.
    return f"contains({text}, chr(0))"


def _broken(rule: Rule, column: Column) -> str:
    value = identifier(column.name)
    match rule.kind:
        case "required":
            return f"{value} IS NULL"
        case "minimum":
            return f"{value} < {_constant(rule.value, column)}"
        case "maximum":
            return f"{value} > {_constant(rule.value, column)}"
        case "accepted":
            return f"{value} NOT IN ({', '.join(_constant(v, column) for v in rule.value)})"
        case "pattern":
            return f"NOT regexp_matches({value}, {literal(str(rule.value))})"
        case "min_length":
            return f"length({value}) < {int(rule.value)}"
        case "max_length":
            return f"length({value}) > {int(rule.value)}"
    raise AssertionError(rule.kind)


def _constant(value: Any, column: Column) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"CAST({literal(str(value))} AS {column.duckdb_type})"
    return repr(value)


def partition_condition(contract: Contract, partition: str) -> str:
    """Return the condition that a row belongs to `partition`.

    Raises:
        UsageError: the partition's name does not have the contract's form.
    """
    assert contract.partitioning is not None
    parts = contract.parts_of(partition)
    if contract.calendar_column is not None:
        return f"{partition_name(contract)} = {literal(partition)}"
    columns = [contract.column(name) for name in contract.partitioning.columns]
    return " AND ".join(
        f"{identifier(column.name)} = CAST({literal(part)} AS {column.duckdb_type})"
        for column, part in zip(columns, parts, strict=True)
    )


def partition_name(contract: Contract) -> str:
    """Return the DuckDB expression that names a row's partition."""
    partitioning = contract.partitioning
    assert partitioning is not None
    if (calendar := contract.calendar_column) is not None:
        return f"strftime({identifier(calendar.name)}, {literal(partitioning.form)})"
    shown = [
        f"printf('%02d', {identifier(name)})"
        if contract.column(name).postgres_type in INTEGERS
        else f"CAST({identifier(name)} AS VARCHAR)"
        for name in partitioning.columns
    ]
    return "concat_ws('-', " + ", ".join(shown) + ")"
