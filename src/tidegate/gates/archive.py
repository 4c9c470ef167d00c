"""The archive: where the table of a batch goes that readers see no more, or never will; nothing is dropped."""

from __future__ import annotations

from typing import Literal

from psycopg import sql

from tidegate.gates import ledger
from tidegate.gates.ledger import Batch
from tidegate.stores.postgres import Connection, table

ARCHIVE = "archive"


def retire(connection: Connection, batch: Batch, state: Literal["superseded", "undone", "rejected"]) -> None:
    """Move a batch to `state` and its table, if it has one by now, to the archive, in the caller's transaction.

    A table that is published must have been detached before.
    """
    place = batch.published_schema if batch.state == "published" else "staging"
    connection.execute(
        sql.SQL("ALTER TABLE IF EXISTS {} SET SCHEMA {}").format(table(place, batch.table), sql.Identifier(ARCHIVE))
    )
    ledger.set_state(connection, batch.batch_id, state)
