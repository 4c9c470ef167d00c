"""Refused messages, kept until somebody repairs and replays them; sealed whole where they may tell of somebody.

A message that was refused may have anything anywhere, so of a discreet dataset no part of it is kept in plain.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tidegate.contracts import Contract
from tidegate.ingest.quarantine import SEALED
from tidegate.sealing import Keyring, Seal, keyring
from tidegate.sealing.values import armour, from_armour
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection


@dataclass(frozen=True)
class RefusedMessage:
    """One row of quarantine.refused_message; `message_value` is the message to the byte.

    Of a discreet dataset key, value, `value` and headers are sealed, and `headers` maps `SEALED` to them (`opened`).
    """

    refused_message_id: int
    batch_id: str
    dataset: str
    contract_version: str
    topic: str
    topic_partition: int
    message_offset: int
    sent_at: datetime
    message_key: bytes | None
    message_value: bytes | None
    headers: list[list[str | None]] | dict[str, str]
    column_name: str
    value: str | None
    rule: str
    expected: str
    state: str
    refused_at: datetime
    closed_at: datetime | None
    copied_at: datetime | None

    @property
    def place(self) -> str:
        """Where it came: `flight_event[2]@417`."""
        return f"{self.topic}[{self.topic_partition}]@{self.message_offset}"


@dataclass(frozen=True)
class Parts:
    """What a refused message says, as it is written: in plain, or each part sealed; `headers` is JSON."""

    key: bytes | None
    content: bytes | None
    headers: str
    found: str | None


@dataclass(frozen=True)
class Locks:
    """What seals and opens the refused messages of one dataset."""

    key: Seal
    content: Seal
    headers: Seal
    found: Seal

    @classmethod
    def of(cls, keys: Keyring, dataset: str) -> Locks:
        """Return those under `keys`."""
        parts = ("message_key", "message_value", "headers", "value")
        return cls(*(Seal(keys, f"quarantine.refused_message.{part}/{dataset}") for part in parts))

    def shut(self, plain: Parts) -> Parts:
        """Return a message's parts sealed."""
        (key,), (content,) = self.key.close([plain.key]), self.content.close([plain.content])
        (headers,) = self.headers.close([plain.headers.encode()])
        (found,) = self.found.close([None if plain.found is None else plain.found.encode()])
        return _written(key, content, headers, found)

    def open(self, sealed: Parts) -> Parts:
        """Return the parts as they came; raises as `Seal.open` does."""
        (key,), (content,) = self.key.open([sealed.key]), self.content.open([sealed.content])
        (headers,), (found,) = self.headers.open([_headers(sealed)]), self.found.open([_found(sealed)])
        return Parts(key, content, (headers or b"[]").decode(), None if found is None else found.decode())

    def renew(self, sealed: Parts) -> Parts:
        """Return the parts under the newest key; raises as `Seal.open` does."""
        (key,), (content,) = self.key.renew([sealed.key]), self.content.renew([sealed.content])
        (headers,), (found,) = self.headers.renew([_headers(sealed)]), self.found.renew([_found(sealed)])
        return _written(key, content, headers, found)


def _written(key: bytes | None, content: bytes | None, headers: bytes | None, found: bytes | None) -> Parts:
    told = json.dumps({SEALED: armour(headers or b"")})
    return Parts(key, content, told, None if found is None else armour(found))


def _headers(sealed: Parts) -> bytes:
    return from_armour(json.loads(sealed.headers)[SEALED]) or b""


def _found(sealed: Parts) -> bytes | None:
    return None if sealed.found is None else from_armour(sealed.found) or b""


def envelopes(sealed: Parts) -> list[bytes]:
    """Return every envelope of a sealed message."""
    return [part for part in (sealed.key, sealed.content, _headers(sealed), _found(sealed)) if part is not None]


def locks(settings: Settings, contract: Contract) -> Locks | None:
    """Return what seals the refused messages of a dataset, None where they are for everybody; raises as `keyring`."""
    return Locks.of(keyring(settings), contract.dataset) if contract.discreet else None


def messages(
    connection: Connection,
    *,
    ids: Sequence[int] | None = None,
    dataset: str | None = None,
    batch_id: str | None = None,
    state: str | None = None,
) -> list[RefusedMessage]:
    """Return refused messages in the order in which they were refused; a condition that is None selects all.

    What is sealed of them is sealed still: see `opened`.
    """
    rows = connection.execute(
        """
        SELECT * FROM quarantine.refused_message
        WHERE (%(ids)s::bigint[] IS NULL OR refused_message_id = ANY(%(ids)s))
          AND (%(dataset)s::text IS NULL OR dataset = %(dataset)s)
          AND (%(batch_id)s::text IS NULL OR batch_id = %(batch_id)s)
          AND (%(state)s::text IS NULL OR state = %(state)s)
        ORDER BY refused_message_id
        """,
        {"ids": list(ids) if ids is not None else None, "dataset": dataset, "batch_id": batch_id, "state": state},
    ).fetchall()
    return [RefusedMessage(**row) for row in rows]


def parts_of(message: RefusedMessage) -> Parts:
    """Return what the message says as it is written."""
    return Parts(message.message_key, message.message_value, json.dumps(message.headers), message.value)


def opened(settings: Settings, found: Iterable[RefusedMessage]) -> list[RefusedMessage]:
    """Return refused messages as they came.

    Raises:
        SealError: one is sealed, and the key is not at hand.
    """
    keys: dict[str, Locks] = {}

    def bare(message: RefusedMessage) -> RefusedMessage:
        if not isinstance(message.headers, dict):
            return message
        if message.dataset not in keys:
            keys[message.dataset] = Locks.of(keyring(settings), message.dataset)
        plain = keys[message.dataset].open(parts_of(message))
        return replace(
            message,
            message_key=plain.key,
            message_value=plain.content,
            headers=json.loads(plain.headers),
            value=plain.found,
        )

    return [bare(message) for message in found]


def rewrite(connection: Connection, number: int, parts: Parts, *, dismiss: bool = False) -> None:
    """Put other parts in the place of a message's own; `dismiss` closes it where it is open: nobody can repair it any more."""
    connection.execute(
        "UPDATE quarantine.refused_message SET message_key = %(key)s, message_value = %(content)s, "
        "headers = %(headers)s::jsonb, value = %(found)s, "
        "closed_at = CASE WHEN %(dismiss)s THEN coalesce(closed_at, clock_timestamp()) ELSE closed_at END, "
        "state = CASE WHEN %(dismiss)s AND state = 'open' THEN 'dismissed' ELSE state END "
        "WHERE refused_message_id = %(number)s",
        {**vars(parts), "dismiss": dismiss, "number": number},
    )


def counts(connection: Connection, dataset: str | None = None) -> list[dict[str, Any]]:
    """Return how many messages each stream lost to which rule, and what became of them."""
    return connection.execute(
        """
        SELECT dataset, topic, column_name, rule, state, count(*) AS messages FROM quarantine.refused_message
        WHERE %(dataset)s::text IS NULL OR dataset = %(dataset)s
        GROUP BY dataset, topic, column_name, rule, state ORDER BY dataset, min(refused_message_id)
        """,
        {"dataset": dataset},
    ).fetchall()
