"""The quarantine: refused rows with their reasons, kept until somebody repairs and replays them; never deleted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tidegate.contracts import Contract
from tidegate.gates.ledger import Batch
from tidegate.ingest.examine import Refused
from tidegate.sealing import Keyring, Seal, keyring
from tidegate.sealing.values import armour, from_armour
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection


@dataclass(frozen=True)
class RefusedRow:
    """One row of quarantine.refused_row.

    `record` maps columns to their text as delivered, or `line` to the whole line where it was no record. Of a dataset
    with confidential columns `value` is sealed, and `record` maps `SEALED` to what is sealed (`opened`).
    """

    refused_row_id: int
    batch_id: str
    dataset: str
    partition: str
    contract_version: str
    source_file: str
    line: int
    column_name: str
    value: str | None
    rule: str
    expected: str
    record: dict[str, Any]
    state: str
    replay_batch_id: str | None
    refused_at: datetime
    closed_at: datetime | None

    @property
    def is_line(self) -> bool:
        """Whether the whole line is kept instead of its columns."""
        return set(self.record) == {"line"} and self.column_name != "line"


#: Stands in `record` for everything that was delivered, where that is sealed.
SEALED = "sealed$"


@dataclass(frozen=True)
class Locks:
    """What seals and opens the refused rows of one dataset."""

    value: Seal
    record: Seal

    @classmethod
    def of(cls, keys: Keyring, dataset: str) -> Locks:
        """Return those under `keys`."""
        return cls(*(Seal(keys, f"quarantine.refused_row.{part}/{dataset}") for part in ("value", "record")))


def locks(settings: Settings, contract: Contract) -> Locks | None:
    """Return what seals the refused rows of a dataset, None where nothing in them is confidential; raises as `keyring`."""
    return Locks.of(keyring(settings), contract.dataset) if contract.sealed else None


def record(connection: Connection, batch: Batch, refused: Iterable[Refused], locks: Locks | None) -> None:
    """Write the refused rows of a batch in the caller's transaction, sealed where there are locks for it."""
    columns = (
        "batch_id, dataset, partition, contract_version, source_file, line, column_name, value, rule, expected, record"
    )
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY quarantine.refused_row ({columns}) FROM STDIN") as copy,
    ):
        for row in refused if locks is None else (_sealed(row, locks) for row in refused):
            copy.write_row(
                (
                    batch.batch_id, batch.dataset, batch.partition, batch.contract_version, row.source_file, row.line,
                    row.column, row.value, row.rule, row.expected, row.record,
                )
            )  # fmt: skip


def rows(
    connection: Connection,
    *,
    ids: Sequence[int] | None = None,
    dataset: str | None = None,
    batch_id: str | None = None,
    state: str | None = None,
) -> list[RefusedRow]:
    """Return refused rows in the order in which they were refused; a condition that is None selects all.

    What is sealed of them is sealed still: see `opened`.
    """
    found = connection.execute(
        """
        SELECT * FROM quarantine.refused_row
        WHERE (%(ids)s::bigint[] IS NULL OR refused_row_id = ANY(%(ids)s))
          AND (%(dataset)s::text IS NULL OR dataset = %(dataset)s)
          AND (%(batch_id)s::text IS NULL OR batch_id = %(batch_id)s)
          AND (%(state)s::text IS NULL OR state = %(state)s)
        ORDER BY refused_row_id
        """,
        {
            "ids": list(ids) if ids is not None else None,
            "dataset": dataset,
            "batch_id": batch_id,
            "state": state,
        },
    ).fetchall()
    return [RefusedRow(**row) for row in found]


def _sealed(row: Refused, locks: Locks) -> Refused:
    value, record = _shut(locks.value, row.value), _shut(locks.record, row.record)
    return replace(row, value=value, record=json.dumps({SEALED: record}))


def _shut(seal: Seal, text: str | None) -> str | None:
    (sealed,) = seal.close([None if text is None else text.encode()])
    return None if sealed is None else armour(sealed)


def opened(settings: Settings, rows: Iterable[RefusedRow]) -> list[RefusedRow]:
    """Return refused rows as they were delivered.

    Raises:
        SealError: one is sealed, and the key is not at hand.
    """
    keys: dict[str, Locks] = {}

    def bare(row: RefusedRow) -> RefusedRow:
        if SEALED not in row.record:
            return row
        if row.dataset not in keys:
            keys[row.dataset] = Locks.of(keyring(settings), row.dataset)
        locks = keys[row.dataset]
        record = _bare(locks.record, row.record[SEALED]) or "{}"
        return replace(row, value=_bare(locks.value, row.value), record=json.loads(record))

    return [bare(row) for row in rows]


def _bare(seal: Seal, text: str | None) -> str | None:
    (found,) = seal.open([None if text is None else from_armour(text) or b""])
    return None if found is None else found.decode()


def counts(connection: Connection, dataset: str | None = None) -> list[dict[str, Any]]:
    """Return how many rows each batch lost to which rule, and what became of them."""
    return connection.execute(
        """
        SELECT dataset, partition, batch_id, column_name, rule, state, count(*) AS rows FROM quarantine.refused_row
        WHERE %(dataset)s::text IS NULL OR dataset = %(dataset)s
        GROUP BY dataset, partition, batch_id, column_name, rule, state
        ORDER BY dataset, partition, min(refused_row_id)
        """,
        {"dataset": dataset},
    ).fetchall()


def replayable(connection: Connection, ids: Sequence[int]) -> set[int]:
    """Return which of the rows may be replayed: the open ones, and those whose replay was rejected or undone."""
    found = connection.execute(
        "SELECT refused_row_id FROM quarantine.refused_row r LEFT JOIN ops.batch b ON b.batch_id = r.replay_batch_id "
        "WHERE refused_row_id = ANY(%s) AND (r.state = 'open' OR b.state IN ('rejected', 'undone'))",
        [list(ids)],
    ).fetchall()
    return {row["refused_row_id"] for row in found}


def replays_of(connection: Connection, batch_id: str) -> set[str]:
    """Return the ids of the batches that took in repaired rows of a batch."""
    found = connection.execute(
        "SELECT DISTINCT replay_batch_id AS id FROM quarantine.refused_row "
        "WHERE batch_id = %s AND replay_batch_id IS NOT NULL",
        [batch_id],
    ).fetchall()
    return {row["id"] for row in found}


def mark_replayed(connection: Connection, ids: Sequence[int], batch_id: str) -> None:
    """Close rows that a replay batch has taken in."""
    connection.execute(
        "UPDATE quarantine.refused_row SET state = 'replayed', replay_batch_id = %s, closed_at = now() "
        "WHERE refused_row_id = ANY(%s)",
        [batch_id, list(ids)],
    )
