"""Whether what contracts call confidential is sealed in every table that the warehouse has of them: counts, findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from tidegate.contracts import Column, Contract
from tidegate.contracts.types import SEALED
from tidegate.evidence.auth import Finding
from tidegate.gates.tables import BatchTable, of_batches, of_streams
from tidegate.ingest import quarantine
from tidegate.stores.postgres import Connection, number

_TEXTS = ("text", "character varying", "jsonb", "json")


@dataclass(frozen=True)
class ColumnCount:
    """The values of one confidential column in one table: all, and those that are sealed under a key that is known."""

    table: str
    column: str
    type: str
    values: int
    sealed: int


@dataclass(frozen=True)
class EncryptionAudit:
    """What was looked at; there is nothing to find fault with where `findings` is empty."""

    columns: list[ColumnCount]
    refused_rows: int
    findings: list[Finding]

    @property
    def values(self) -> int:
        """The count of all confidential values."""
        return sum(column.values for column in self.columns)


def audit(connection: Connection, contracts: Sequence[Contract]) -> EncryptionAudit:
    """Look at every table of a batch of these datasets, published, staged or archived, by the owner's connection."""
    counted: list[ColumnCount] = []
    findings: list[Finding] = []
    refused = 0
    for contract in (contract for contract in contracts if contract.sealed):
        for found in (*of_batches(connection, contract.dataset), *of_streams(connection, contract.dataset)):
            with connection.transaction():
                connection.execute("SELECT ops.enter_all()")
                here = [_count(connection, found, column) for column in contract.sealed if column in found.columns]
                counted += here
                findings += filter(None, map(_fault, here))
                findings += _look_alikes(connection, contract, found)
        bare = number(
            connection,
            "SELECT count(*) FROM quarantine.refused_row WHERE dataset = %s AND NOT jsonb_exists(record, %s)",
            [contract.dataset, quarantine.SEALED],
        )
        refused += number(
            connection, "SELECT count(*) FROM quarantine.refused_row WHERE dataset = %s", [contract.dataset]
        )
        told = number(
            connection,
            "SELECT count(*) FROM quarantine.refused_message WHERE dataset = %s AND jsonb_typeof(headers) <> 'object'",
            [contract.dataset],
        )
        if told:
            findings.append(
                Finding("quarantine.refused_message", f"{told} messages of {contract.dataset} in plain", _REMEDY)
            )
        if bare:
            findings.append(Finding("quarantine.refused_row", f"{bare} rows of {contract.dataset} in plain", _REMEDY))
    return EncryptionAudit(counted, refused, findings)


_REMEDY = "deliver it again under a new version of the contract, and remove the old rows"


def _count(connection: Connection, place: BatchTable, column: str) -> ColumnCount:
    kind = place.columns[column]
    known = sql.SQL("false")
    if kind == SEALED:
        known = sql.SQL(
            "get_byte({0}::bytea, 0) = 245 AND ops.key_of({0}) IN (SELECT key_id FROM ops.encryption_key)"
        ).format(sql.Identifier(column))  # type: ignore[assignment]
    row: dict[str, Any] = (
        connection.execute(
            sql.SQL("SELECT count({0}) AS all, count({0}) FILTER (WHERE {1}) AS sealed FROM {2}").format(
                sql.Identifier(column), known, place.sql
            )
        ).fetchone()
        or {}
    )
    return ColumnCount(f"{place.schema}.{place.name}", column, kind, row["all"], row["sealed"])


def _fault(count: ColumnCount) -> Finding | None:
    if count.sealed == count.values and count.type == SEALED:
        return None
    plain = count.values - count.sealed
    return Finding(
        f"{count.table}.{count.column}", f"{plain} of {count.values} values are not sealed ({count.type})", _REMEDY
    )


def _look_alikes(connection: Connection, contract: Contract, place: BatchTable) -> list[Finding]:
    """Find texts in plain, in whichever column, that match the pattern of a confidential one."""
    texts = [column for column, kind in place.columns.items() if kind in _TEXTS]
    found = []
    for secret in (column for column in contract.columns if column.sealed):
        pattern = _pattern(secret)
        if pattern is None or not texts:
            continue
        counts: dict[str, Any] = (
            connection.execute(
                sql.SQL("SELECT {} FROM {}").format(
                    sql.SQL(", ").join(
                        sql.SQL("count(*) FILTER (WHERE {0}::text ~ {1}) AS {0}").format(sql.Identifier(text), pattern)
                        for text in texts
                    ),
                    place.sql,
                )
            ).fetchone()
            or {}
        )
        found += [
            Finding(f"{place.schema}.{place.name}.{text}", f"{count} values in plain look like {secret.name}", _REMEDY)
            for text, count in counts.items()
            if count
        ]
    return found


def _pattern(column: Column) -> sql.Literal | None:
    return next((sql.Literal(str(rule.value)) for rule in column.rules if rule.kind == "pattern"), None)
