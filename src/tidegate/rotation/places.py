"""Where sealed values lie: the tables of batches, their landed files, the quarantine; and which keys they need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import batched

from psycopg import sql

from tidegate.contracts import load_all
from tidegate.gates import ledger
from tidegate.gates.ledger import Batch
from tidegate.gates.tables import BatchTable, of_batches, of_streams
from tidegate.ingest import refused_messages
from tidegate.ingest.quarantine import SEALED
from tidegate.ingest.refused_messages import RefusedMessage, envelopes, parts_of
from tidegate.sealing import Keyring, columns
from tidegate.sealing.values import from_armour, key_of
from tidegate.settings import Settings
from tidegate.stores import objects
from tidegate.stores.postgres import Connection, connect

#: Refused rows that are looked at together.
REFUSED_ROWS = 2_000


@dataclass(frozen=True)
class KeyUse:
    """One key, and the values that need it in tables, landed files and the quarantine.

    `standing` is `seals`, `opens`, or `missing` where it is not at hand. The empty name is that of damaged values.
    """

    key: str
    standing: str
    made_at: datetime | None
    retired_at: datetime | None
    in_tables: int
    in_landing: int
    in_quarantine: int

    @property
    def needed_by(self) -> int:
        """The count of values that only this key opens."""
        return self.in_tables + self.in_landing + self.in_quarantine


def tables(connection: Connection, dataset: str | None = None) -> list[BatchTable]:
    """Return every table that holds sealed values, whichever schema it stands in; those of streams come last."""
    return [t for t in (*of_batches(connection, dataset), *of_streams(connection, dataset)) if t.sealed]


def landed(settings: Settings, connection: Connection, dataset: str | None = None) -> list[Batch]:
    """Return the batches whose landed file may hold sealed values: of datasets that are sealed now, or were."""
    sealed = {contract.dataset for contract in load_all(settings) if contract.sealed}
    sealed |= {table.dataset for table in tables(connection)}
    return [batch for batch in ledger.batches(connection, dataset=dataset) if batch.dataset in sealed]


def refused(connection: Connection, dataset: str | None = None) -> Iterator[list[dict[str, str]]]:
    """Yield the sealed rows of the quarantine, some at a time: number, dataset, `value` and `record` as text."""
    rows = connection.execute(
        "SELECT refused_row_id AS id, dataset, value, record ->> %(sealed)s AS record FROM quarantine.refused_row "
        "WHERE jsonb_exists(record, %(sealed)s) AND (%(dataset)s::text IS NULL OR dataset = %(dataset)s) ORDER BY 1",
        {"sealed": SEALED, "dataset": dataset},
    ).fetchall()
    for some in batched(rows, REFUSED_ROWS):
        yield list(some)


def refused_of_topics(connection: Connection, dataset: str | None = None) -> Iterator[list[RefusedMessage]]:
    """Yield the sealed messages of the quarantine, some at a time."""
    rows = connection.execute(
        "SELECT refused_message_id AS id FROM quarantine.refused_message "
        "WHERE jsonb_typeof(headers) = 'object' AND (%(dataset)s::text IS NULL OR dataset = %(dataset)s) ORDER BY 1",
        {"dataset": dataset},
    ).fetchall()
    for some in batched(rows, REFUSED_ROWS):
        yield refused_messages.messages(connection, ids=[row["id"] for row in some])


def in_tables(connection: Connection, table: BatchTable) -> Counter[str]:
    """Return how many values of a table each key has sealed, of all tenants."""
    values = sql.SQL(", ").join(sql.SQL("{}::bytea").format(sql.Identifier(name)) for name in table.sealed)
    with connection.transaction():
        connection.execute("SELECT ops.enter_all()")
        rows = connection.execute(
            sql.SQL(
                "SELECT ops.key_of(value) AS key, count(*) AS n FROM {}, unnest(ARRAY[{}]) AS value "
                "WHERE value IS NOT NULL GROUP BY 1"
            ).format(named(connection, table), values)
        ).fetchall()
    return Counter({row["key"]: row["n"] for row in rows})


def named(connection: Connection, table: BatchTable) -> sql.SQL:
    """Return the table's name of this moment, quoted."""
    row = connection.execute("SELECT %s::regclass::text AS name", [table.oid]).fetchone()
    assert row is not None
    return sql.SQL(row["name"])


def census(settings: Settings, keys: Keyring | None) -> list[KeyUse]:
    """Count the values that need each key, looking at every sealed value there is; the newest key comes first."""
    used = {place: Counter[str]() for place in ("tables", "landing", "quarantine")}
    with connect(settings) as connection:
        for table in tables(connection):
            used["tables"] += in_tables(connection, table)
        for batch in landed(settings, connection):
            with objects.opened(batch.landing_url) as stream:
                used["landing"] += columns.counts(stream)
        for rows in refused(connection):
            armoured = [text for row in rows for text in (row["value"], row["record"]) if text is not None]
            used["quarantine"].update(key_of(from_armour(text) or b"") or "" for text in armoured)
        for messages in refused_of_topics(connection):
            parts = (part for message in messages for part in envelopes(parts_of(message)))
            used["quarantine"].update(key_of(part) or "" for part in parts)
        known = {
            row["key_id"]: row
            for row in connection.execute("SELECT key_id, made_at, retired_at FROM ops.encryption_key ORDER BY made_at")
        }
    at_hand = [key.id for key in keys.keys] if keys else []
    names = dict.fromkeys([*at_hand, *reversed(known), *(name for counts in used.values() for name in counts)])
    return [
        KeyUse(
            name,
            "seals" if at_hand[:1] == [name] else "opens" if name in at_hand else "missing",
            known.get(name, {}).get("made_at"),
            known.get(name, {}).get("retired_at"),
            *(used[place][name] for place in ("tables", "landing", "quarantine")),
        )
        for name in names
    ]
