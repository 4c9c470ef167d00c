"""The quarantine: refused rows with their reasons, kept until somebody repairs and replays them."""

from __future__ import annotations

from collections.abc import Iterable

from tidegate.gates.ledger import Batch
from tidegate.ingest.sift import Refused
from tidegate.stores.postgres import Connection


def record(connection: Connection, batch: Batch, refused: Iterable[Refused]) -> None:
    """Write the refused rows of a batch in the caller's transaction."""
    columns = "batch_id, dataset, partition, contract_version, source_file, line, column_name, value, rule, expected, record"
    with connection.cursor() as cursor, cursor.copy(f"COPY quarantine.refused_row ({columns}) FROM STDIN") as copy:
        for row in refused:
            copy.write_row(
                (
                    batch.batch_id, batch.dataset, batch.partition, batch.contract_version, row.source_file, row.line,
                    row.column, row.value, row.rule, row.expected, row.record,
                )
            )  # fmt: skip
