"""Refused messages taken out for repair, as lines of JSON, and brought back in through the same sieve.

A repaired message takes the way of any other, but for the topic: its micro-batch has no offsets.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.contracts import Contract
from tidegate.errors import SourceError
from tidegate.ingest.refused_messages import RefusedMessage, messages, opened
from tidegate.settings import Settings
from tidegate.stores.postgres import connect
from tidegate.stream.feed import Haul
from tidegate.stream.sieve import RefusedMessage as Refusal
from tidegate.stream.sieve import Sieve
from tidegate.stream.worker import stream_of
from tidegate.stream.write import prepare, write_repaired

#: Before the number of a refused message, where numbers of refused rows are meant as well: `m12`.
MARK = "m"
ID, REASON, KEY, VALUE, BYTES = "_refused_message_id", "_reason", "key", "value", "value_base64"


@dataclass(frozen=True)
class Replayed:
    """What came of a file: how many rows were added, were there already or were replayed before, and what is still refused."""

    contract: Contract
    taken: int
    known: int
    before: int
    refused: dict[int, tuple[int, Refusal]]
    """By refused_message_id: its line in the file, and what is still wrong."""


def export(found: Iterable[RefusedMessage], to: Path) -> int:
    """Write refused messages, opened, to a file, a line of JSON each: `value` is to be repaired; return how many.

    A value that is no UTF-8 stands there as `value_base64`; put a `value` beside it, which counts then.
    """
    count = 0
    # What is confidential stands here in plain, for whoever repairs it.
    to.touch(mode=0o600, exist_ok=False)
    with to.open("w", encoding="utf-8") as file:
        for message in found:
            column = f", column {message.column_name}" if message.column_name else ""
            line: dict[str, Any] = {
                ID: message.refused_message_id,
                REASON: f"{message.place}{column}: expected {message.expected}",
                KEY: None if message.message_key is None else message.message_key.decode(errors="backslashreplace"),
            }
            try:
                line[VALUE] = None if message.message_value is None else message.message_value.decode()
            except UnicodeDecodeError:
                line[BYTES] = base64.b64encode(message.message_value or b"").decode()
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


def is_export(path: Path) -> bool:
    """Return whether a file holds refused messages, not the rows of a file."""
    return path.suffix == ".jsonl"


def replay(settings: Settings, path: Path) -> Replayed:
    """Sift repaired messages again, and write those that their contract accepts; the same file may be replayed again.

    Raises:
        SourceError: the file does not hold refused messages of one stream.
    """
    repaired = dict(_read(path))
    with connect(settings) as connection:
        found = messages(connection, ids=list(repaired))
        contract = stream_of(settings, _dataset(path, repaired, found))
        waiting = opened(settings, [message for message in found if message.state == "open"])
        haul = _haul(waiting, repaired)
        before = len(found) - len(waiting)
        if not waiting:
            return Replayed(contract, 0, 0, before, {})
        sieve = Sieve.of(settings, contract)
        try:
            prepare(connection, sieve)
            connection.commit()
            batch = hashlib.sha256(
                "\n".join([contract.dataset, *map(str, haul.value), *map(str, haul.message_offset)]).encode()
            )
            taken, known, refused = write_repaired(
                connection, sieve, batch.hexdigest()[:16], haul, sieve.sift(haul), time.monotonic()
            )
        finally:
            sieve.close()
    return Replayed(
        contract, taken, known, before, {r.message_offset: (repaired[r.message_offset][0], r) for r in refused}
    )


def _haul(waiting: Sequence[RefusedMessage], repaired: dict[int, tuple[int, bytes | None, bytes | None]]) -> Haul:
    """Return the repaired messages as if they came from a topic in which each one's offset is its number."""
    haul = Haul()
    for message in waiting:
        _, key, value = repaired[message.refused_message_id]
        haul.topic_partition.append(0)
        haul.message_offset.append(message.refused_message_id)
        haul.sent_at.append(int(message.sent_at.timestamp() * 1000))
        haul.key.append(key)
        haul.value.append(value)
        assert isinstance(message.headers, list), "it was opened"
        haul.headers.append(
            [(name or "", None if value is None else value.encode()) for name, value in message.headers]
        )
        haul.bytes += len(key or b"") + len(value or b"")
    return haul


def _read(path: Path) -> Iterable[tuple[int, tuple[int, bytes | None, bytes | None]]]:
    """Yield each message's number with its line, its key and its value."""
    if not path.is_file():
        raise SourceError(f"{path}: no such file; `tidegate quarantine export --to NAME.jsonl` writes one")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            key, value = line[KEY], line.get(VALUE)
            # A repaired value may be written as the object that it is.
            told = value if isinstance(value, str) or value is None else json.dumps(value, ensure_ascii=False)
            content = base64.b64decode(line[BYTES]) if told is None and BYTES in line else told and told.encode()
            yield int(line[ID]), (number, None if key is None else str(key).encode(), content or None)
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(
                f"{path}:{number}: not a refused message ({type(error).__name__}: {error}); expected a line that "
                f"`tidegate quarantine export` wrote, with its {ID}, {KEY} and {VALUE}"
            ) from None


def _dataset(path: Path, repaired: dict[int, Any], found: Sequence[RefusedMessage]) -> str:
    unknown = sorted(set(repaired) - {message.refused_message_id for message in found})
    if not repaired or unknown:
        what = (
            f":{repaired[unknown[0]][0]}: no refused message has the number {unknown[0]}"
            if unknown
            else ": holds no message"
        )
        raise SourceError(f"{path}{what}; expected what `tidegate quarantine export` wrote from this warehouse")
    datasets = sorted({message.dataset for message in found})
    if len(datasets) > 1:
        raise SourceError(f"{path}: holds messages of {', '.join(datasets)}; replay one stream at a time")
    return datasets[0]
