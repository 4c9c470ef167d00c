"""The quarantine: refused rows with their reasons, kept until somebody repairs and replays them; never deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidegate.gates.ledger import Batch
from tidegate.ingest.examine import Refused
from tidegate.stores.postgres import Connection


@dataclass(frozen=True)
class RefusedRow:
    """One row of quarantine.refused_row.

    `record` maps columns to their text as delivered, or `line` to the whole line where it was no record.
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


def record(connection: Connection, batch: Batch, refused: Iterable[Refused]) -> None:
    """Write the refused rows of a batch in the caller's transaction."""
    columns = (
        "batch_id, dataset, partition, contract_version, source_file, line, column_name, value, rule, expected, record"
    )
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY quarantine.refused_row ({columns}) FROM STDIN") as copy,
    ):
        for row in refused:
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
    """Return refused rows in the order in which they were refused; a condition that is None selects all."""
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
