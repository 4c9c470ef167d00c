"""Bring a published table to the layout that its contract asks for, in place and with every row, or refuse.

What may change is decided in `contracts.evolution`; here it is read from the warehouse and done to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from psycopg import sql

from tidegate.contracts import Contract, access, ddl
from tidegate.contracts.evolution import Breach, Layout, Shape, Step, plan
from tidegate.contracts.house import Finding
from tidegate.contracts.lineage import Lineage
from tidegate.contracts.model import LINEAGE_COLUMNS, version_number
from tidegate.contracts.types import canonical
from tidegate.errors import ContractError
from tidegate.migrate import door
from tidegate.publish import views
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, table, take_turn

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Pending:
    """What a published table still lacks of its contract: `published` is the version it was last made for.

    `opened` says whether it may be read by those, and in the way, that the contract says.
    """

    published: str
    steps: tuple[Step, ...]
    breaches: tuple[Breach, ...]
    opened: bool = True

    def done(self, contract: Contract) -> bool:
        """Return whether the table needs nothing: it is as the contract asks, or of a later version."""
        older = version_number(contract.version) <= version_number(self.published)
        return older and not self.steps and not self.breaches and self.opened


def ensure(connection: Connection, contract: Contract) -> list[Step]:
    """Create the published table or evolve it in place; return the steps that were taken.

    Call it inside the transaction that publishes: the table changes with the first batch of its new form, or
    not at all. A contract older than the table changes nothing: what the table gained since may be empty.

    Raises:
        ContractError: the change would break what is published, or comes without a new version.
    """
    waiting = pending(connection, contract)
    if waiting is not None and waiting.done(contract):
        return []
    door.share(connection)
    # Two batches of one dataset may be published at once; the second finds the work done.
    take_turn(connection, f"layout of {contract.dataset}")
    waiting = pending(connection, contract)
    if waiting is None:
        made = [ddl.published_table(contract), *access.statements(contract)]
        _run(connection, made)
        _record(connection, contract, made)
        return []
    if waiting.done(contract):
        return []
    require_possible(contract, waiting)
    target = table(contract.schema, contract.table)
    changes = [*(step.ddl(target) for step in waiting.steps), ddl.comments(contract)]
    with views.out_of_the_way(connection, contract, [s for s in waiting.steps if s.kind == "widen"]):
        _run(connection, changes)
    # After the views, of which one may be the masked one: it is made anew.
    opening = _opening(connection, contract)
    _run(connection, opening)
    _record(connection, contract, [*changes, *opening])
    for step in waiting.steps:
        log.info("table evolved", dataset=contract.dataset, version=contract.version, step=str(step))
    return list(waiting.steps)


def _opening(connection: Connection, contract: Contract) -> list[sql.Composed]:
    """Return the statements that open the table and its partitions to those who may read them now."""
    found = access.statements(contract)
    for partition in _partitions(connection, contract):
        found += _protection(contract, *partition)
    return found


def _protection(contract: Contract, schema: str, name: str) -> list[sql.Composed]:
    """Return the statements that the table of one batch needs, for it can be addressed by its own name."""
    apart = access.guard(contract, schema, name) if contract.tenant is not None else []
    return apart + (access.watch(contract, schema, name) if access.is_watched(contract) else [])


def _partitions(connection: Connection, contract: Contract) -> list[tuple[str, str]]:
    rows = connection.execute(
        "SELECT nspname, relname FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid "
        "JOIN pg_namespace AS n ON n.oid = relnamespace "
        "WHERE inhparent = to_regclass(format('%%I.%%I', %s::text, %s::text)) ORDER BY relname",
        [contract.schema, contract.table],
    ).fetchall()
    return [(row["nspname"], row["relname"]) for row in rows]


def adapt(connection: Connection, contract: Contract, schema: str, name: str) -> None:
    """Bring a batch's own table to the layout of the published table that it is about to be attached to.

    A batch that was staged or archived before the table evolved has fewer or narrower columns. Its tenants are kept
    apart, and what is done to it is written down, before it can be seen.

    Raises:
        ContractError: the batch's table cannot take that layout.
    """
    parent = layout_of(connection, contract.schema, contract.table)
    own = layout_of(connection, schema, name)
    assert parent is not None
    assert own is not None
    # Keys are not compared here: ATTACH makes the index that is missing.
    steps, breaches = plan(Layout(own.columns, parent.key), parent)
    if breaches:
        raise ContractError(
            f"{schema}.{name} cannot join {contract.schema}.{contract.table}: the latter {breaches[0].what}; "
            f"deliver this partition again under {contract.reference}"
        )
    for step in steps:
        connection.execute(step.ddl(table(schema, name)))
    _run(connection, _protection(contract, schema, name))


def pending(connection: Connection, contract: Contract) -> Pending | None:
    """Return what the published table lacks; None if there is no such table yet."""
    actual = layout_of(connection, contract.schema, contract.table)
    if actual is None:
        return None
    recorded = connection.execute(
        "SELECT contract_version, key_columns, access_sha256 FROM ops.table_layout WHERE dataset = %s",
        [contract.dataset],
    ).fetchone()
    wanted = Layout.of(contract)
    published = str(recorded["contract_version"]) if recorded else "0.0.0"
    there = Layout(actual.columns, actual.key, recorded["key_columns"]["partition"] if recorded else None)
    if version_number(contract.version) < version_number(published):
        return Pending(published, (), ())
    steps, breaches = plan(there, wanted)
    opened = recorded is not None and recorded["access_sha256"] == access.fingerprint(contract)
    return Pending(published, tuple(steps), (*breaches, *_merged_tenants(connection, contract)), opened)


def _merged_tenants(connection: Connection, contract: Contract) -> list[Breach]:
    """Find that rows which tenants were promised to have for themselves would be everybody's."""
    if contract.tenant is not None:
        return []
    row = connection.execute(
        "SELECT relrowsecurity AS apart FROM pg_class WHERE oid = to_regclass(format('%%I.%%I', %s::text, %s::text))",
        [contract.schema, contract.table],
    ).fetchone()
    if row is None or not row["apart"]:
        return []
    return [Breach((), "names no tenant column any more, and its rows are kept apart by it", "keep the tag `tenant`")]


def require_possible(contract: Contract, waiting: Pending | None) -> None:
    """Refuse what cannot be done in place, or comes without a new version; None is a table to be made.

    Raises:
        ContractError: with the line of the contract, who would break, and what to do.
    """
    if waiting is None:
        return
    if waiting.breaches:
        raise ContractError(_refusal(contract, waiting))
    if waiting.steps and waiting.published == contract.version:
        raise ContractError(
            f"{contract.reference}:1: the contract has changed ({'; '.join(map(str, waiting.steps))}) and still "
            f"calls itself {contract.version}, as {contract.schema}.{contract.table} does; raise its version"
        )


def refusals(connection: Connection, settings: Settings, contracts: Sequence[Contract]) -> list[Finding]:
    """Return a finding for each contract that its published table cannot be brought to."""
    found = []
    for contract in contracts:
        try:
            require_possible(contract, pending(connection, contract))
        except ContractError as refused:
            found.append(Finding.of(refused, settings))
    return found


def layout_of(connection: Connection, schema: str, name: str) -> Layout | None:
    """Read a table's layout from the warehouse, lineage columns left out; None if there is no such table."""
    rows = connection.execute(
        """
        SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull
        FROM pg_attribute
        WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))
            AND attnum > 0 AND NOT attisdropped
        ORDER BY attnum
        """,
        [schema, name],
    ).fetchall()
    if not rows:
        return None
    columns = {
        row["attname"]: Shape(canonical(row["type"]), row["attnotnull"])
        for row in rows
        if row["attname"] not in LINEAGE_COLUMNS
    }
    key = connection.execute(
        """
        SELECT a.attname
        FROM pg_constraint c CROSS JOIN unnest(c.conkey) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
        WHERE c.contype = 'p' AND c.conrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))
        ORDER BY k.place
        """,
        [schema, name],
    ).fetchall()
    return Layout(columns, tuple(row["attname"] for row in key if row["attname"] not in LINEAGE_COLUMNS))


def _refusal(contract: Contract, waiting: Pending) -> str:
    """Return the sentence that says which column of the contract breaks whom, and what to do."""
    breach = waiting.breaches[0]
    lineage = Lineage(contract.project)
    uses = [use for name in breach.columns for use in lineage.column_readers(contract, name)]
    uses = list(dict.fromkeys(uses)) if breach.columns else lineage.readers(contract)
    models = [name for name in lineage.downstream(contract) if name not in {use.name for use in uses}]
    readers = ", ".join(map(str, uses)) or "nothing in this repository"
    through = f", and through them {', '.join(models)}" if uses and models else ""
    more = f" ({len(waiting.breaches) - 1} more such changes.)" if len(waiting.breaches) > 1 else ""
    return (
        f"{contract.reference}:{_line(contract, breach)}: version {contract.version} {breach.what}; "
        f"{contract.schema}.{contract.table} holds data published under {waiting.published}. "
        f"Reading it: {readers}{through}. Nothing was changed: {breach.remedy}.{more}"
    )


def _line(contract: Contract, breach: Breach) -> int:
    lines = {column.name: column.line for column in contract.columns}
    return next((lines[name] for name in breach.columns if name in lines), contract.key_line)


def _run(connection: Connection, changes: Sequence[sql.Composed]) -> None:
    for change in changes:
        connection.execute(change)


def _record(connection: Connection, contract: Contract, changes: Sequence[sql.Composed]) -> None:
    """Write changes down: as the layout that the table has now, and in the log of all changes."""
    wanted = Layout.of(contract)
    columns = [{"name": n, "type": s.type, "required": s.required} for n, s in wanted.columns.items()]
    connection.execute(
        """
        INSERT INTO ops.table_layout (dataset, contract_version, columns, key_columns, access_sha256)
        VALUES (%s, %s, %s::jsonb, %s::jsonb, %s)
        ON CONFLICT (dataset) DO UPDATE SET contract_version = excluded.contract_version, columns = excluded.columns,
            key_columns = excluded.key_columns, access_sha256 = excluded.access_sha256, changed_at = now()
        """,
        [
            contract.dataset, contract.version, json.dumps(columns),
            json.dumps({"key": list(wanted.key), "partition": wanted.partition}), access.fingerprint(contract),
        ],
    )  # fmt: skip
    statements = ";\n".join(change.as_string(connection) for change in changes)
    door.record(connection, f"{contract.dataset} {contract.version}", statements)
