"""Which indexes there have to be: those that applied migrations have made, and the key of every dataset that is published.

Whether an index is of use is the matter of `indexes` and `queries`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tidegate.contracts import Contract
from tidegate.contracts.model import LINEAGE_COLUMNS
from tidegate.migrate import steps
from tidegate.migrate.steps import Step
from tidegate.stores.postgres import Connection

#: What is written in a function's body happens when it is called, not when the migration runs.
_UNREAD = re.compile(r"\$(\w*)\$.*?\$\1\$|--[^\n]*", re.S)
_NAME = r"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(?P<{}>[\w.]+)"
_WORDS = re.compile(
    rf"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:CONCURRENTLY\s+)?{_NAME.format('made')}\s+ON\s+(?:ONLY\s+)?(?P<on>[\w.]+)"
    rf"|\bDROP\s+INDEX\s+(?:CONCURRENTLY\s+)?{_NAME.format('gone')}"
    rf"|\bALTER\s+INDEX\s+{_NAME.format('old')}\s+RENAME\s+TO\s+(?P<new>\w+)"
    rf"|\bDROP\s+TABLE\s+{_NAME.format('table')}",
    re.I,
)
_VALID = """
SELECT nspname || '.' || relname AS name FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid
JOIN pg_namespace AS n ON n.oid = relnamespace WHERE indisvalid AND indisready
"""
_KEYS = """
SELECT ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = indrelid AND attnum = ANY (indkey)) AS columns
FROM pg_index WHERE indrelid = to_regclass(%s) AND indisunique AND indisvalid
"""


def of_migrations(applied: Sequence[Step]) -> dict[str, str]:
    """Return the indexes that migrations have made and left there, each with the revision that made it."""
    found: dict[str, tuple[str, str]] = {}
    for step in applied:
        for told in _WORDS.finditer(_UNREAD.sub("", step.up)):
            if told["made"]:
                found[f"{told['on'].rpartition('.')[0]}.{told['made']}"] = (told["on"], step.revision)
            elif told["new"]:
                found[f"{told['old'].rpartition('.')[0]}.{told['new']}"] = found.pop(told["old"], ("", step.revision))
            elif told["gone"]:
                found.pop(told["gone"], None)
            else:
                found = {name: made for name, made in found.items() if made[0] != told["table"]}
    return {name: revision for name, (_, revision) in found.items()}


def missing(connection: Connection, known: list[Step], contracts: Sequence[Contract]) -> list[str]:
    """Return what should be in the catalog and is not, or cannot be used: by name, with who promised it."""
    row = connection.execute("SELECT version_num FROM ops.migration").fetchone()
    applied = known[: steps.find(known, row["version_num"])] if row else []
    there = {row["name"] for row in connection.execute(_VALID).fetchall()}
    told = [f"{name}, of migration {of}" for name, of in of_migrations(applied).items() if name not in there]
    for contract in (one for one in contracts if one.key):
        name, key = f"{contract.schema}.{contract.table}", {*contract.key, LINEAGE_COLUMNS[0]}
        if not connection.execute("SELECT WHERE to_regclass(%s) IS NOT NULL", [name]).fetchall():
            continue
        if not any(set(row["columns"]) == key for row in connection.execute(_KEYS, [name]).fetchall()):
            told.append(f"the key of {name} ({', '.join(contract.key)}), of {contract.reference}")
    return told
