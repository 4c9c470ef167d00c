"""Who may read the rows of a dataset, and how much of them, derived from its contract's classification and tenant.

Schemas, the ledger and the marts are no dataset: migrations grant those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from psycopg import sql

from tidegate.contracts.model import LINEAGE_COLUMNS, Column, Contract

#: Classification → what those see of a value who may not see it (`_mask`).
CLASSIFICATIONS = {
    "public": "the value",
    "restricted": "a hint: the first letter of a text, the year of a date, nothing of the rest",
    "confidential": "nothing",
}
_ROLES = ("app", "readonly", "analyst")
#: Trigger of a table with classified columns → what it fires after, and under which name it is shown the rows.
WATCHES = (
    ("audit_insert", "INSERT", " REFERENCING NEW TABLE AS changed"),
    ("audit_update", "UPDATE", " REFERENCING NEW TABLE AS changed"),
    ("audit_delete", "DELETE", " REFERENCING OLD TABLE AS changed"),
    ("audit_truncate", "TRUNCATE", ""),
)


def is_classified(column: Column) -> bool:
    """Return whether not all who read the dataset may see the column's values; an unknown word says so, too."""
    return column.classification not in (None, "public")


def is_watched(contract: Contract) -> bool:
    """Return whether what is done to the dataset's rows is written down: one of its columns is classified."""
    return any(map(is_classified, contract.columns))


def statements(contract: Contract) -> list[sql.Composed]:
    """Return the statements that open the published table to those who may read it, in the way they may.

    Partitions are opened to nobody: they are read through the table.
    """
    name = _table(contract.schema, contract.table)
    classified = is_watched(contract)
    readers = ["app"] if classified else ["app", "readonly"] if contract.schema == "raw" else list(_ROLES)
    found = [
        sql.SQL("REVOKE ALL ON {} FROM {}").format(name, _names(_ROLES)),
        sql.SQL("GRANT SELECT ON {} TO {}").format(name, _names(readers)),
        sql.SQL("DROP VIEW IF EXISTS {}").format(_table("masked", contract.table)),
    ]
    if contract.tenant:
        found += guard(contract, contract.schema, contract.table)
    if classified:
        found += watch(contract, contract.schema, contract.table)
    return found + (_masked(contract) if classified else [])


def guard(contract: Contract, schema: str, name: str) -> list[sql.Composed]:
    """Return the statements that keep the tenants of a table apart, also from its owner, who runs them.

    The owner sees and changes all rows in a transaction that asks for it (`ops.enter_all`). A partition needs the policies as its
    parent does: it can be addressed by its own name.
    """
    assert contract.tenant is not None
    table, column = _table(schema, name), sql.Identifier(contract.tenant)
    # As a subquery it is asked once a query, not once a row.
    own = sql.SQL("{} = (SELECT ops.tenant())").format(column)
    return [
        sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY").format(table),
        sql.SQL("DROP POLICY IF EXISTS tenant ON {}").format(table),
        sql.SQL("CREATE POLICY tenant ON {} USING ({}) WITH CHECK ({})").format(table, own, own),
        sql.SQL("DROP POLICY IF EXISTS every_tenant ON {}").format(table),
        sql.SQL("CREATE POLICY every_tenant ON {} TO CURRENT_USER USING ((SELECT ops.sees_all()))").format(table),
    ]


def watch(contract: Contract, schema: str, name: str) -> list[sql.Composed]:
    """Return the statements by which whatever writes to a table is written down (`ops.audit`), and reads are logged.

    A line a statement, with the count of its rows. A partition needs them as its parent does: it can be written to by
    its own name. Reads are pgaudit's matter, which logs what the role `auditor` may read.
    """
    table = _table(schema, name)
    made = sql.SQL(
        "CREATE OR REPLACE TRIGGER {} AFTER {} ON {}{} FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_write()"
    )
    classified = sql.SQL(", ").join(sql.Identifier(column.name) for column in contract.columns if is_classified(column))
    return [
        made.format(sql.Identifier(trigger), sql.SQL(event), table, sql.SQL(rows)) for trigger, event, rows in WATCHES
    ] + [sql.SQL("GRANT SELECT ({}) ON {} TO auditor").format(classified, table)]


def watch_loading(name: str) -> sql.Composed:
    """Return the statement by which copying rows into a staged table is written down: uncounted, which costs nothing."""
    return sql.SQL(
        "CREATE TRIGGER audit_insert AFTER INSERT ON {} FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_write('uncounted')"
    ).format(_table("staging", name))


def fingerprint(contract: Contract) -> str:
    """Return the hash of all that the contract says about access; a table that has it needs nothing."""
    return hashlib.sha256(";\n".join(part.as_string() for part in statements(contract)).encode()).hexdigest()


def _masked(contract: Contract) -> list[sql.Composed]:
    view, table = _table("masked", contract.table), _table(contract.schema, contract.table)
    shown = [_mask(column) for column in contract.columns] + [sql.Identifier(name) for name in LINEAGE_COLUMNS]
    told = f"{contract.description} Classified columns are masked."
    # It reads with its owner's rights, for its readers have none on the table; policies bind the owner, too.
    return [
        sql.SQL("CREATE VIEW {} WITH (security_barrier = true) AS SELECT {} FROM {}").format(
            view, sql.SQL(", ").join(shown), table
        ),
        sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(told)),
        sql.SQL("GRANT SELECT ON {} TO {}").format(view, _names(["readonly", "analyst"])),
    ]


def _mask(column: Column) -> sql.Composable:
    name = sql.Identifier(column.name)
    if not is_classified(column):
        return name
    hidden: sql.Composable = sql.SQL("NULL::" + column.postgres_type)
    if column.classification == "restricted":
        match column.logical_type:
            case "string":
                hidden = sql.SQL("left({}, 1) || '…'").format(name)
            case "date" | "timestamp":
                hidden = sql.SQL("date_trunc('year', {})::" + column.postgres_type).format(name)
    return sql.SQL("{} AS {}").format(hidden, name)


def _table(schema: str, name: str) -> sql.Composed:
    return sql.SQL("{}.{}").format(sql.Identifier(schema), sql.Identifier(name))


def _names(roles: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, roles))
