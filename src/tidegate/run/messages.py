"""Rows of events as Kafka messages, and the same messages as a poor network and a broken sender would deliver them.

What is disturbed follows from a seed alone, whatever pieces the messages come in. No disturbance changes the right
answer: every message is there at least once, and what is poisoned comes besides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.contracts import Contract
from tidegate.run.events import ORDER
from tidegate.stores.duckdb import identifier, literal

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

#: What a message is that is no poison: one of the record, in time or late, or one that was there before.
REAL, LATE, DUPLICATE = "real", "late", "duplicate"
#: A duplicate follows its original within this time.
_ECHO_MS = 3_600_000


#: The aircraft, or carrier and flight number where none is known.
AIRCRAFT = "coalesce(tailnum, carrier || flight)"


def query(contract: Contract, events: str, key: str = AIRCRAFT, order: str = ORDER) -> str:
    """Return DuckDB's SELECT of the messages of event rows: key and value (bytes), event_ms (since 1970), oldest first.

    `key` and `order` are SQL over the rows: what shares a key stays in order. The value is a JSON object of the
    contract's columns, instants in ISO 8601 to the second, in UTC.
    """
    assert contract.topic is not None
    members = ", ".join(
        f"{literal(column.name)}, {_member(column.name, column.postgres_type)}" for column in contract.columns
    )
    return f"""
SELECT encode({key}) AS key, encode(CAST(json_object({members}) AS VARCHAR)) AS value,
       epoch_ms({identifier(contract.topic.event_time)}) AS event_ms
FROM ({events}) AS events ORDER BY {order}
"""


def _member(column: str, kind: str) -> str:
    name = identifier(column)
    return f"strftime({name} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ')" if kind == "timestamptz" else name


@dataclass(frozen=True)
class Disturbance:
    """How the messages are disturbed; shares are of the real messages, from 0 to 1."""

    seed: int = 1
    disorder: float = 0.0
    """Share of the messages that change places with one another, each less than `window` messages away."""
    window: int = 100
    duplicates: float = 0.0
    """Share that is sent again within an hour, byte for byte."""
    late: float = 0.0
    """Share that is sent up to `lateness_minutes` after its event."""
    lateness_minutes: int = 3 * 24 * 60
    poison: float = 0.0
    """Share that is followed by a message made of it that must be refused, of each of POISONS alike often."""
    limit_bytes: int = 65_536
    """What is poisoned by its size has a larger value."""
    required: str = "event_at"
    """What is poisoned by lacking a column lacks this one."""
    unknown: tuple[str, str] = ("event_type", "diverted")
    """What is poisoned by a value that its contract does not know has this value in this column."""


def disturbed(batches: Iterable[pa.Table], disturbance: Disturbance) -> Iterator[pa.Table]:
    """Yield the messages of `query` in the order in which they are sent.

    Shapes: key (binary, null where that is the poison), value (binary), event_ms and send_ms (int64: when the event was,
    and when in event time the message is to be sent; send_ms never decreases), made (text: REAL, LATE, DUPLICATE or a key
    of POISONS). At most the late messages of `lateness_minutes`, two batches and one window are held at once.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    drawn, shuffled = (np.random.default_rng([disturbance.seed, number]) for number in (0, 1))
    waiting: pa.Table | None = None
    number = 0
    for batch in batches:
        if not batch.num_rows:
            continue
        made = _made(batch, number, disturbance, drawn)
        number += batch.num_rows
        waiting = made if waiting is None else pa.concat_tables([waiting, made])
        waiting = waiting.sort_by([("send_ms", "ascending"), ("number", "ascending")])
        # What comes later is not sent before the newest event; one of that moment may still get a neighbour.
        known = pc.sum(pc.less(waiting["send_ms"], batch["event_ms"][-1])).as_py() or 0
        known -= known % disturbance.window  # whole windows: places are changed within each
        if known:
            yield _out_of_order(waiting[:known], disturbance, shuffled)
            waiting = waiting[known:]
    if waiting is not None and waiting.num_rows:
        yield _out_of_order(waiting, disturbance, shuffled)


def _made(batch: pa.Table, first: int, disturbance: Disturbance, drawn: np.random.Generator) -> pa.Table:
    """Return the messages with their duplicates and poison, each with the time it is sent at; `number` is its rank then."""
    import numpy as np
    import pyarrow as pa

    count = batch.num_rows
    # A row of chances each message, so that pieces of other sizes make the same messages.
    chance = drawn.random((count, 6)).T
    late, again = chance[0] < disturbance.late, chance[1] < disturbance.duplicates
    poisoned = chance[2] < disturbance.poison
    behind = np.where(late, chance[3] * disturbance.lateness_minutes * 60_000, 0)
    send = batch["event_ms"].to_numpy() + behind.astype("i8")
    rank = (first + np.arange(count)) * 3
    kinds = np.array(list(POISONS))[(chance[5] * len(POISONS)).astype("i8")]

    def table(chosen: np.ndarray[Any, Any], rows: pa.Table, send: Any, rank: Any, made: Any) -> pa.Table:
        added = {"send_ms": send[chosen], "number": rank[chosen], "made": made[chosen]}
        for name, values in added.items():
            rows = rows.append_column(name, pa.array(values, pa.string() if name == "made" else pa.int64()))
        return rows

    everything = np.ones(count, bool)
    parts = [table(everything, batch, send, rank, np.where(late, LATE, REAL))]
    if again.any():
        echo = (chance[4] * _ECHO_MS).astype("i8")
        parts.append(table(again, batch.filter(pa.array(again)), send + echo, rank + 1, np.full(count, DUPLICATE)))
    if poisoned.any():
        rows = _poisoned(batch.filter(pa.array(poisoned)), kinds[poisoned], disturbance)
        parts.append(table(poisoned, rows, send, rank + 2, kinds))
    return pa.concat_tables(parts)


def _poisoned(rows: pa.Table, kinds: Iterable[str], how: Disturbance) -> pa.Table:
    import pyarrow as pa

    made = [
        POISONS[kind](key, value, how)
        for kind, key, value in zip(kinds, rows["key"].to_pylist(), rows["value"].to_pylist(), strict=True)
    ]
    columns = [pa.array([one[at] for one in made], pa.binary()) for at in (0, 1)]
    return pa.table([*columns, rows["event_ms"]], schema=rows.schema)


def _out_of_order(rows: pa.Table, disturbance: Disturbance, shuffled: np.random.Generator) -> pa.Table:
    """Let the chosen messages of each window change places among themselves; the times of sending stay where they are."""
    import numpy as np
    import pyarrow as pa

    chosen, place = shuffled.random((rows.num_rows, 2)).T
    moving = np.flatnonzero(chosen < disturbance.disorder)
    # By window, then by chance: what was in a window stays in it.
    target = moving[np.lexsort((place[moving], moving // disturbance.window))]
    order = np.arange(rows.num_rows)
    order[moving] = target
    times = rows["send_ms"]
    return rows.take(pa.array(order)).drop_columns(["number", "send_ms"]).add_column(3, "send_ms", times)


Poison = Callable[[bytes, bytes, Disturbance], tuple[bytes | None, bytes]]


def _changed(value: bytes, **members: Any) -> bytes:
    return json.dumps({**json.loads(value), **members}, separators=(",", ":")).encode()


def _without(value: bytes, member: str) -> bytes:
    return json.dumps({k: v for k, v in json.loads(value).items() if k != member}, separators=(",", ":")).encode()


#: What a message is poisoned by, and how: from key, value and disturbance to key and value.
POISONS: dict[str, Poison] = {
    "not_json": lambda key, value, _: (key, value[: len(value) // 2]),
    "not_utf8": lambda key, value, _: (key, value[:-1] + b"\xff}"),
    "wrong_type": lambda key, value, _: (key, _changed(value, flight="a number")),
    "missing_required": lambda key, value, how: (key, _without(value, how.required)),
    "unknown_value": lambda key, value, how: (key, _changed(value, **dict([how.unknown]))),
    "too_large": lambda key, value, how: (key, _changed(value, remark="x" * how.limit_bytes)),
    "null_key": lambda _key, value, _: (None, value),
}
