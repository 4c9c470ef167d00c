"""Requests to erase a person: a row of `ops.erasure`, and a file beside the warehouse that outlives a restore of it."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from tidegate.people.person import Person, derived
from tidegate.sealing import keyring
from tidegate.settings import Settings
from tidegate.stack.home import write_private
from tidegate.stores.postgres import Connection


@dataclass(frozen=True)
class Request:
    """Somebody's wish that a person be erased; it names the person by keyed hashes alone."""

    erasure_id: str
    columns: tuple[str, ...]
    digests: tuple[str, ...]
    key_id: str
    key_check: str
    asked_by: str
    why: str
    began_at: datetime

    @classmethod
    def new(cls, settings: Settings, person: Person, by: str, why: str) -> Request:
        """Return a request that begins now."""
        newest = keyring(settings).newest
        now = datetime.now(UTC)
        return cls(
            f"{now:%Y%m%d}-{secrets.token_hex(4)}",
            person.columns,
            person.digests,
            newest.id,
            newest.check.hex(),
            by,
            why,
            now,
        )

    def person(self, settings: Settings) -> Person:
        """Return whom it is about.

        Raises:
            SealError: the key of the hashes is not at hand.
        """
        key = keyring(settings).find(self.key_id, bytes.fromhex(self.key_check))
        return Person(self.columns, self.digests, key.id, derived(key))


def begin(settings: Settings, connection: Connection, request: Request) -> None:
    """Write the request down, beside the warehouse first: what a restore takes back, it must be known to take back."""
    folder = settings.home / "erasures"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(folder / f"{request.erasure_id}.json", json.dumps(asdict(request), default=datetime.isoformat) + "\n")
    connection.execute(
        "INSERT INTO ops.erasure (erasure_id, columns, digests, key_id, asked_by, why, began_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (erasure_id) DO NOTHING",
        [request.erasure_id, list(request.columns), list(request.digests), request.key_id, request.asked_by, request.why, request.began_at],
    )  # fmt: skip


def has_begun(connection: Connection, request: Request) -> bool:
    """Tell whether anything was ever erased for the request."""
    row = connection.execute("SELECT 1 FROM ops.erasure WHERE erasure_id = %s", [request.erasure_id]).fetchone()
    return row is not None


def count(connection: Connection, request: Request, place: str, rows: int) -> None:
    """Write down how many rows are erased from a place (`raw.<table>`, `landing.<table>`, `quarantine.<dataset>`)."""
    connection.execute(
        "UPDATE ops.erasure SET row_counts = row_counts || jsonb_build_object(%s::text, %s::bigint) WHERE erasure_id = %s",
        [place, rows, request.erasure_id],
    )


def finish(connection: Connection, request: Request) -> dict[str, int]:
    """Mark the request as done; return the rows that were erased, by kind of place."""
    row = connection.execute(
        "UPDATE ops.erasure SET finished_at = coalesce(finished_at, now()) WHERE erasure_id = %s RETURNING row_counts",
        [request.erasure_id],
    ).fetchone()
    found = Counter[str]()
    for place, rows in (row["row_counts"] if row else {}).items():
        found[place.partition(".")[0]] += rows
    return dict(found)


def unfinished(settings: Settings, connection: Connection, person: Person | None = None) -> list[Request]:
    """Return requests that were cut short, or that a restore has taken back; those for `person` alone, or all."""
    done = {
        row["erasure_id"]
        for row in connection.execute("SELECT erasure_id FROM ops.erasure WHERE finished_at IS NOT NULL")
    }
    found = [request for request in kept(settings) if request.erasure_id not in done]
    return [
        request
        for request in found
        if person is None or (request.columns, request.digests) == (person.columns, person.digests)
    ]


def kept(settings: Settings) -> list[Request]:
    """Return every request that was ever made here, oldest first, as the files beside the warehouse tell."""
    found = [_read(file.read_text()) for file in (settings.home / "erasures").glob("*.json")]
    return sorted(found, key=lambda request: request.began_at)


def _read(text: str) -> Request:
    told: dict[str, Any] = json.loads(text)
    lists = {name: tuple(told[name]) for name in ("columns", "digests")}
    return Request(**{**told, **lists, "began_at": datetime.fromisoformat(told["began_at"])})
