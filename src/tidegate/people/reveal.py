"""The one door through which programs read personal values: nothing is handed out before a line says that it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tidegate.contracts import Contract
from tidegate.gates import audit
from tidegate.gates.tables import of_streams
from tidegate.people import places
from tidegate.people.person import Person
from tidegate.settings import Settings
from tidegate.stores.postgres import connect


@dataclass(frozen=True)
class Found:
    """One row of a person: where it lies (`raw`, `archive`, `landing`, `quarantine`), in which batch, and its values."""

    place: str
    batch_id: str
    row: dict[str, Any]


def reveal(
    settings: Settings, contract: Contract, person: Person, action: Literal["read", "export"] = "read"
) -> list[Found]:
    """Return every row of a dataset that is the person's, opened, from wherever it lies.

    The lines in `ops.audit` are written in the transaction that reads, and committed before this returns.

    Raises:
        SealError: a value is sealed, and its key is not at hand.
        UnavailableError: the warehouse or the landing area does not answer.
    """
    found: list[Found] = []
    with connect(settings) as connection:
        connection.execute("SELECT ops.enter_all()")
        for batch in places.batches(connection, contract):
            table = places.table_of(connection, batch)
            if table is not None:
                rows = places.rows_of(connection, settings, contract, table, person)
                found += [Found(table.schema, batch.batch_id, _values(row)) for row in rows]
            landed = places.landed_rows(settings, contract, batch, person)
            found += [Found("landing", batch.batch_id, row) for row in landed]
        for stream in of_streams(connection, contract.dataset):
            rows = places.rows_of(connection, settings, contract, stream, person)
            found += [Found(stream.schema, str(row.get("_batch_id", "")), _values(row)) for row in rows]
        for message in places.refused_of_topic(connection, settings, contract, person):
            told = places.members(message) or {"line": (message.message_value or b"").decode(errors="backslashreplace")}
            found.append(Found("quarantine", message.batch_id, told))
        for refused in places.refused_rows(connection, settings, contract, person):
            found.append(Found("quarantine", refused.batch_id, refused.record))
        counts: dict[str, int] = {}
        for one in found:
            counts[one.place] = counts.get(one.place, 0) + 1
        for place, count in (counts or {contract.schema: 0}).items():
            audit.note(connection, action, place, contract.table, count)
    return found


def _values(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "ctid"}
