"""The audit: who did what to classified values and to the schema, a line each; whether nobody has touched them since.

Most lines are written by triggers (migration 0012, `contracts.access`); here stand those that programs write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Literal

from psycopg import sql

from tidegate.stores.postgres import Connection

Action = Literal["publish", "undo", "read", "export", "erase"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Line:
    """One row of ops.audit; `role_name` is whom the session acted as, `row_count` None where nobody has counted."""

    audit_id: int
    occurred_at: datetime
    login: str
    role_name: str
    application_name: str
    client_address: str | None
    transaction_id: str
    action: str
    object: str
    row_count: int | None
    detail: str | None

    def __str__(self) -> str:
        acting = "" if self.role_name == self.login else f" as {self.role_name}"
        return f"line {self.audit_id} ({self.occurred_at:%Y-%m-%d %H:%M:%S}, {self.login}{acting}, {self.action} {self.object})"


@dataclass(frozen=True)
class Seal:
    """One row of ops.audit_seal: a line's place in the chain and the hash over it and the hash before."""

    place: int
    audit_id: int
    sha256: str


@dataclass(frozen=True)
class Finding:
    """What is wrong at one place of the chain; `audit_id` names the line, gone or not."""

    place: int | None
    audit_id: int
    what: str


_LINE = ", ".join(
    {"client_address": "host(a.client_address) AS client_address", "transaction_id": "a.transaction_id::text"}.get(
        field.name, f"a.{field.name}"
    )
    for field in fields(Line)
)


def note(
    connection: Connection, action: Action, schema: str, name: str, rows: int | None, detail: str | None = None
) -> None:
    """Write a line in the caller's transaction; `detail` may name columns, batches or reasons, and never a value."""
    connection.execute(
        "INSERT INTO ops.audit (action, object, row_count, detail) VALUES (%s, format('%%I.%%I', %s::text, %s::text), %s, %s)",
        [action, schema, name, rows, detail],
    )


def lines(
    connection: Connection,
    *,
    since: datetime | None = None,
    object: str | None = None,
    who: str | None = None,
    limit: int | None = None,
) -> list[Line]:
    """Return lines, the newest first; `object` is a part of its name, `who` a login or whom it acted as."""
    rows = connection.execute(
        f"""
        SELECT {_LINE} FROM ops.audit AS a
        WHERE (%(since)s::timestamptz IS NULL OR occurred_at >= %(since)s)
            AND (%(object)s::text IS NULL OR strpos(object, %(object)s) > 0)
            AND (%(who)s::text IS NULL OR %(who)s IN (login, role_name))
        ORDER BY audit_id DESC LIMIT %(limit)s
        """,
        {"since": since, "object": object, "who": who, "limit": limit},
    ).fetchall()
    return [Line(**row) for row in rows]


def digest(line: Line, place: int, before: str) -> str:
    """Return the hash of a line at its place, after the line whose hash is `before`; as `ops.audit_text` says it.

    Computed here and not asked of the warehouse, whose functions an intruder may have changed.
    """
    micros = (line.occurred_at - _EPOCH) // timedelta(microseconds=1)
    parts = [
        before, place, line.audit_id, micros, line.login, line.role_name, line.application_name, line.client_address,
        line.transaction_id, line.action, line.object, line.row_count, line.detail,
    ]  # fmt: skip
    text = json.dumps([None if part is None else str(part) for part in parts], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def chain(connection: Connection) -> Iterator[tuple[Seal | None, Line | None]]:
    """Yield every place of the chain with its line, in order; one of them is None where the other stands alone."""
    query = f"""
        SELECT s.place, s.audit_id AS sealed_id, s.sha256, {_LINE}
        FROM ops.audit AS a FULL JOIN ops.audit_seal AS s ON s.audit_id = a.audit_id
        ORDER BY s.place, a.audit_id
    """
    with connection.cursor(name="audit_chain") as cursor:
        cursor.itersize = 5000
        cursor.execute(sql.SQL(query))
        for row in cursor:
            place, sealed_id, sha256 = row.pop("place"), row.pop("sealed_id"), row.pop("sha256")
            seal = None if place is None else Seal(place, sealed_id, sha256)
            yield seal, None if row["audit_id"] is None else Line(**row)
