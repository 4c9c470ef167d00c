"""Take out of a copy of the warehouse whatever tells of a person, before anybody is let in.

What is classified, the contracts say; where it lies, the copy's own catalog: a column of that name is masked in every
table that has one, also in batches that were set aside.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from psycopg import sql

from tidegate.contracts import Contract
from tidegate.contracts.access import is_classified
from tidegate.stores.postgres import connect_to

_TABLES = """
SELECT n.nspname AS schema, c.relname AS name, a.attname AS column, a.attnotnull AS required,
    format_type(a.atttypid, NULL) AS type
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'r' AND a.attname = ANY (%s)
  AND n.nspname NOT IN ('ops', 'quarantine', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%%'
ORDER BY 1, 2, 3
"""


def mask(dsn: str, contracts: Sequence[Contract]) -> dict[str, list[str]]:
    """Mask every classified value; return the columns by table.

    Equal texts stay equal within the copy, so that plans and counts are those of the warehouse; nobody can compute
    them, for the salt is thrown away. `dsn` is the superuser's.
    """
    classified = {column.name for contract in contracts for column in contract.columns if is_classified(column)}
    datasets = [c.dataset for c in contracts if any(map(is_classified, c.columns))]
    salt = secrets.token_hex(16)
    done: dict[str, list[str]] = {}
    with connect_to(dsn, autocommit=True) as connection:
        # Neither triggers nor the audit have a part in this.
        connection.execute("SET session_replication_role = replica")
        found = connection.execute(_TABLES, [sorted(classified)]).fetchall()
        for table in dict.fromkeys((row["schema"], row["name"]) for row in found):
            columns = [row for row in found if (row["schema"], row["name"]) == table]
            name = sql.Identifier(*table)
            values = [sql.SQL("{} = {}").format(sql.Identifier(row["column"]), _masked(row, salt)) for row in columns]
            connection.execute(sql.SQL("UPDATE {} SET {}").format(name, sql.SQL(", ").join(values)))
            done[".".join(table)] = [row["column"] for row in columns]
            # The rows of before would lie in the files until somebody vacuums.
            connection.execute(sql.SQL("VACUUM FULL {}").format(name))
        refused = connection.execute(
            "UPDATE quarantine.refused_row SET record = '{}', value = NULL WHERE dataset = ANY (%s)", [datasets]
        )
        if refused.rowcount:
            connection.execute("VACUUM FULL quarantine.refused_row")
            done["quarantine.refused_row"] = ["record", "value"]
        messages = connection.execute(
            "UPDATE quarantine.refused_message SET message_key = NULL, message_value = NULL, headers = '[]', value = NULL "
            "WHERE dataset = ANY (%s)",
            [[contract.dataset for contract in contracts if contract.discreet]],
        )
        if messages.rowcount:
            connection.execute("VACUUM FULL quarantine.refused_message")
            done["quarantine.refused_message"] = ["message_key", "message_value", "headers", "value"]
        # What the planner knows of a column are values of it, for a table of partitions too, which has no rows itself.
        connection.execute("DELETE FROM pg_statistic")
        connection.execute("VACUUM FULL pg_statistic")
        connection.execute("ANALYZE")
    return done


def _masked(column: dict[str, Any], salt: str) -> sql.Composable:
    """Return the expression that takes a column's place."""
    value = sql.SQL("{} || {}::text").format(sql.Literal(salt), sql.Identifier(column["column"]))
    match column["type"]:
        case "text" | "character varying":
            return sql.SQL("md5({})").format(value)
        case "ops.sealed":
            # It still names its key, which opens it no more.
            sealed = sql.SQL("{}::bytea").format(sql.Identifier(column["column"]))
            return sql.SQL("substring({0} FROM 1 FOR 2 + get_byte({0}, 1)) || sha256(convert_to({1}, 'UTF8'))").format(
                sealed, value
            )
        case "date" | "timestamp with time zone" | "timestamp without time zone" as kind:
            told = sql.SQL("date_trunc('year', {})::" + kind)
            return told.format(sql.Identifier(column["column"]))
        case "boolean":
            return sql.SQL("false") if column["required"] else sql.SQL("NULL")
        case _:
            return sql.SQL("0") if column["required"] else sql.SQL("NULL")
