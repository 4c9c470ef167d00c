"""Write a sifted haul: rows, refused messages, the micro-batch's record and the offsets, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tidegate.contracts import Contract
from tidegate.errors import BusyError, HeldError, TerminalError, first_line
from tidegate.ingest.refused_messages import Parts
from tidegate.publish import ahead
from tidegate.sealing import Keyring, Seal
from tidegate.sealing.columns import place
from tidegate.sealing.register import introduce, require_in_use
from tidegate.stores.postgres import Connection, table
from tidegate.stream import ledger
from tidegate.stream.feed import Haul
from tidegate.stream.sieve import PLACE, RefusedMessage, Sieve, Sifted

if TYPE_CHECKING:
    import pyarrow as pa

#: Applications LISTEN to it; each message is JSON: dataset, batch_id, rows.
CHANNEL = "tidegate_stream"
_INCOMING = sql.SQL("pg_temp.incoming")


@dataclass(frozen=True)
class Written:
    """What a micro-batch did."""

    batch_id: str
    messages: int
    rows: int
    known: int
    refused: int


def prepare(connection: Connection, sieve: Sieve) -> None:
    """Make the session's table that rows are copied into before they are compared with what is published.

    Raises:
        WrongKeyError: the key that is to seal them is not the one of its name that the warehouse knows.
    """
    contract = sieve.contract
    if sieve.keys is not None:
        introduce(connection, sieve.keys)
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.stored_type)) for column in contract.columns
    ]
    columns += [
        sql.SQL("_partition text").format(),
        sql.SQL("{} bigint").format(sql.Identifier(PLACE)),
    ]
    connection.execute("DROP TABLE IF EXISTS pg_temp.incoming")
    connection.execute(
        sql.SQL("CREATE TEMP TABLE incoming ({}) ON COMMIT DELETE ROWS").format(sql.SQL(", ").join(columns))
    )


def write(
    connection: Connection,
    sieve: Sieve,
    incarnation: str,
    haul: Haul,
    sifted: Sifted,
    began: float,
    *,
    new: bool = False,
) -> Written:
    """Make a haul's rows visible; `began` is when its first poll was, by the monotonic clock.

    Where all of its keys are likely to be `new`, it is tried first whether they are: that is quicker than to ask of each.

    Raises:
        FencedError: another worker has taken these messages; nothing was written.
        HeldError: more was refused than the contract allows; the stream stands, and keeps its place.
        UnavailableError: the warehouse stopped taking rows; nothing was written.
    """
    contract = sieve.contract
    try:
        sifted = _ensure_partitions(connection, sieve, haul, sifted)
        with connection.transaction():
            return _write(connection, sieve, incarnation, haul, sifted, began, new=new)
    except _TooMuchRefusedError as refused:
        with connection.transaction():
            ledger.record_hold(connection, contract.dataset, refused.reason, incarnation, refused.next_offsets)
        raise held(contract, refused.reason) from None
    except psycopg.errors.CheckViolation as error:
        if error.diag.constraint_name is not None:
            raise _refused_by_warehouse(contract, error) from (None if contract.discreet else error)
        raise BusyError(
            f"a partition of {contract.dataset} was archived while its rows came; they are read again, nothing was written"
        ) from None
    except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError) as error:
        raise _refused_by_warehouse(contract, error) from (None if contract.discreet else error)


def _refused_by_warehouse(contract: Contract, error: psycopg.Error) -> TerminalError:
    # What PostgreSQL tells besides its first line may be a row: of a discreet dataset it is not even the cause.
    return TerminalError(f"a micro-batch of {contract.dataset}: the warehouse refused the rows: {first_line(error)}")


def held(contract: Contract, reason: str) -> HeldError:
    """Return the error that says that a stream stands, and what to do."""
    return HeldError(
        f"the stream {contract.dataset} is held: {reason}. Nothing of it was written, and its place is kept. "
        f"`tidegate topic tail {contract.topic.name if contract.topic else contract.dataset}` shows what comes; have it mended at its sender, "
        f"then `tidegate stream release {contract.dataset} --why …` sends what is refused to quarantine and goes on"
    )


class _TooMuchRefusedError(Exception):
    def __init__(self, reason: str, next_offsets: dict[int, int]) -> None:
        self.reason, self.next_offsets = reason, next_offsets


def _write(
    connection: Connection, sieve: Sieve, incarnation: str, haul: Haul, sifted: Sifted, began: float, *, new: bool
) -> Written:
    contract = sieve.contract
    assert contract.topic is not None
    _enter(connection, sieve)
    batch = ledger.batch_id(contract.dataset, incarnation, haul.spans)
    watermark = ledger.newest_event(connection, contract.dataset)
    newest = _newest(contract.topic.event_time, haul, sifted.rows)
    for number, span in sorted(haul.spans.items()):
        ledger.advance(connection, contract.dataset, incarnation, number, span, newest.get(number))
    inserted, known, refused = _put(connection, sieve, batch, haul, sifted, new=new)
    _require_few(connection, contract, incarnation, haul, refused)
    since = watermark - contract.topic.lateness if watermark else None
    ledger.record_batch(
        connection, batch, contract, incarnation, haul.spans,
        message_count=len(haul), row_count=inserted, known_count=known, refused_count=len(refused), message_bytes=haul.bytes,
        **_events(sifted.rows, contract.topic.event_time, since), **_latency(haul), taking_seconds=time.monotonic() - began,
    )  # fmt: skip
    _refuse(connection, sieve, batch, refused)
    _notify(connection, contract, batch, inserted)
    return Written(batch, len(haul), inserted, known, len(refused))


def write_repaired(
    connection: Connection, sieve: Sieve, batch: str, haul: Haul, sifted: Sifted, began: float
) -> tuple[int, int, list[RefusedMessage]]:
    """Make repaired messages visible, and close them in quarantine; each one's offset in the haul is its number there.

    Returns the rows that were added, those that were there already, and what is refused still.

    Raises:
        BusyError: another process replays some of them.
        UnavailableError: the warehouse stopped taking rows; nothing was written.
    """
    contract = sieve.contract
    assert contract.topic is not None
    sifted = _ensure_partitions(connection, sieve, haul, sifted)
    with connection.transaction():
        _enter(connection, sieve)
        inserted, known, refused = _put(connection, sieve, batch, haul, sifted, new=False)
        done = sorted(set(haul.message_offset) - {r.message_offset for r in refused})
        closed = connection.execute(
            "UPDATE quarantine.refused_message SET state = 'replayed', closed_at = clock_timestamp() "
            "WHERE refused_message_id = ANY(%s) AND state = 'open'",
            [done],
        ).rowcount
        if closed != len(done):
            raise BusyError("another process replays some of these messages; run it again when that has ended")
        if done:
            events = _events(sifted.rows, contract.topic.event_time, None)
            ledger.record_batch(
                connection, batch, contract, "repaired", {},
                message_count=len(done), row_count=inserted, known_count=known, refused_count=0, message_bytes=haul.bytes,
                **events, taking_seconds=time.monotonic() - began,
            )  # fmt: skip
        _notify(connection, contract, batch, inserted)
    return inserted, known, refused


def _enter(connection: Connection, sieve: Sieve) -> None:
    """Make sure that what seals is still to be used, and let this transaction write the rows of every tenant."""
    if sieve.keys is not None:
        require_in_use(connection, sieve.keys)
    if sieve.contract.tenant is not None:
        connection.execute("SELECT ops.enter_all()")


def _ensure_partitions(connection: Connection, sieve: Sieve, haul: Haul, sifted: Sifted) -> Sifted:
    """Make the partitions that are missing; return what was sifted, with the rows refused whose partition was archived."""
    put_away: dict[str, str] = {}
    # Not in the transaction that writes: others who want the same partition would wait for it.
    for partition in sifted.rows.column("_partition").unique().to_pylist():
        try:
            with connection.transaction():
                ahead.ensure_partition(connection, sieve.contract, partition)
        except ahead.PutAwayError as reason:
            put_away[partition] = str(reason)
    return sieve.without(haul, sifted, put_away) if put_away else sifted


def _put(
    connection: Connection, sieve: Sieve, batch: str, haul: Haul, sifted: Sifted, *, new: bool
) -> tuple[int, int, list[RefusedMessage]]:
    """Put the rows in whose key is new; return how many, how many are known, and all that is refused."""
    rows, contract = sifted.rows, sieve.contract
    inserted, differing = 0, list[int]()
    if len(rows):
        # PostgreSQL copies into no table that has tenants.
        if new and contract.tenant is None and _all_put(connection, contract, batch, rows):
            return len(rows), sifted.known, sifted.refused
        _copy(connection, _INCOMING, rows)
        inserted = _insert(connection, contract, batch)
        if inserted < len(rows):
            differing = _differing(connection, contract, batch, sieve.keys)
    known = sifted.known + len(rows) - inserted - len(differing)
    return inserted, known, [*sifted.refused, *(sieve.refusal(haul, place) for place in differing)]


def _notify(connection: Connection, contract: Contract, batch: str, rows: int) -> None:
    if rows:
        told = Jsonb({"dataset": contract.dataset, "batch_id": batch, "rows": rows})
        connection.execute("SELECT pg_notify(%s, %s::jsonb::text)", [CHANNEL, told])


def _newest(event_time: str, haul: Haul, rows: pa.Table) -> dict[int, datetime]:
    """Return the newest event time of each partition that rows came from."""
    import pyarrow as pa

    partitions = pa.array(haul.topic_partition, pa.int64()).take(rows[PLACE])
    newest = (
        pa.table({"partition": partitions, "at": rows[event_time]}).group_by("partition").aggregate([("at", "max")])
    )
    return {row["partition"]: row["at_max"] for row in newest.to_pylist()}


def _all_put(connection: Connection, contract: Contract, batch: str, rows: pa.Table) -> bool:
    """Put the rows in, if no key is there; return whether it was so."""
    import pyarrow as pa

    owned = rows.drop_columns([PLACE]).append_column("_batch_id", pa.repeat(batch, len(rows)))
    try:
        with connection.transaction():
            _copy(connection, table(contract.schema, contract.table), owned)
    except (psycopg.errors.UniqueViolation, psycopg.errors.FeatureNotSupported):
        # Not supported: an earlier version of the contract had tenants.
        return False
    return True


def _copy(connection: Connection, to: sql.Composable, rows: pa.Table) -> None:
    """Copy rows into a table; PostgreSQL's binary COPY."""
    from pgpq import ArrowToPostgresBinaryEncoder

    names = sql.SQL(", ").join(map(sql.Identifier, rows.schema.names))
    encoder = ArrowToPostgresBinaryEncoder(rows.schema)
    copy = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT BINARY)").format(to, names)
    with connection.cursor() as cursor, cursor.copy(copy) as target:
        target.write(encoder.write_header())
        for some in rows.to_batches():
            target.write(encoder.write_batch(some))
        target.write(encoder.finish())


def _names(contract: Contract) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in contract.columns)


def _listed(names: Sequence[str], relation: str) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(relation, name) for name in names)


def _insert(connection: Connection, contract: Contract, batch: str) -> int:
    """Put in the rows whose key is new; return how many."""
    names = _names(contract)
    return connection.execute(
        sql.SQL(
            "INSERT INTO {} ({}, _partition, _batch_id) SELECT {}, _partition, {} FROM {} ON CONFLICT DO NOTHING"
        ).format(table(contract.schema, contract.table), names, names, sql.Literal(batch), _INCOMING)
    ).rowcount


def _differing(connection: Connection, contract: Contract, batch: str, keys: Keyring | None) -> list[int]:
    """Return the places, in the haul, of messages whose key was there already, with other values.

    Sealed ones are opened to be compared: no two of them are alike.
    """
    plain, sealed = ([c.name for c in contract.columns if c.sealed is which] for which in (False, True))
    same = sql.SQL(" AND ").join(
        sql.SQL("there.{0} = incoming.{0}").format(sql.Identifier(name)) for name in (*contract.key, "_partition")
    )
    other = sql.SQL("ROW({}) IS DISTINCT FROM ROW({})").format(_listed(plain, "incoming"), _listed(plain, "there"))
    shown = sql.SQL("").join(
        sql.SQL(", {0}.{1}::bytea AS {2}").format(
            sql.Identifier(side), sql.Identifier(name), sql.Identifier(f"{side}.{name}")
        )
        for name in sealed
        for side in ("incoming", "there")
    )
    found = connection.execute(
        sql.SQL(
            "SELECT incoming.{} AS place, {} AS other{} FROM {} AS incoming JOIN {} AS there ON {} WHERE there._batch_id <> {}{}"
        ).format(
            sql.Identifier(PLACE), other, shown, _INCOMING, table(contract.schema, contract.table), same, sql.Literal(batch),
            sql.SQL("") if sealed else sql.SQL(" AND ") + other,
        ),
        binary=bool(sealed),
    ).fetchall()  # fmt: skip
    for name in sealed:
        assert keys is not None
        seal = Seal(keys, place(contract.dataset, name))
        sides = (seal.open(row[f"{side}.{name}"] for row in found) for side in ("incoming", "there"))
        for row, came, stands in zip(found, *sides, strict=True):
            row["other"] = row["other"] or came != stands
    return [row["place"] for row in found if row["other"]]


def _require_few(
    connection: Connection, contract: Contract, incarnation: str, haul: Haul, refused: Sequence[RefusedMessage]
) -> None:
    """Open the circuit where the contract's share of refused messages is passed, over the last `WINDOW` of them at least."""
    if not refused:
        return
    hold = ledger.newest_hold(connection, contract.dataset)
    passed = hold.next_offsets if hold and hold.topic_incarnation == incarnation else {}
    counting = [r for r in refused if r.message_offset >= passed.get(r.topic_partition, 0)]
    if not counting:
        return
    messages, before = ledger.lately(connection, contract.dataset, passed)
    found, of = before + len(counting), max(messages + len(haul), ledger.WINDOW)
    if found <= contract.max_refused_share * of:
        return
    first = counting[0]
    column = f", column {first.column}" if first.column else ""
    reason = (
        f"{found} of the last {messages + len(haul)} messages were refused, and "
        f"{contract.reference}:{contract.refused_share_line} allows {contract.max_refused_share:.2%} of {of}. The first of "
        f"these is at offset {first.message_offset} of partition {first.topic_partition}{column}: expected {first.expected}"
    )
    raise _TooMuchRefusedError(reason, {number: span.next for number, span in haul.spans.items()})


def _events(rows: pa.Table, event_time: str, since: datetime | None) -> dict[str, Any]:
    """Return the event times among the rows that came, and how many are older than `since`."""
    import pyarrow.compute as pc

    times = rows[event_time]
    first, last = pc.min_max(times).as_py().values()
    late = pc.sum(pc.less(times, since)).as_py() if since else 0
    return {"late_count": late or 0, "first_event_at": first, "last_event_at": last}


def _latency(haul: Haul) -> dict[str, Any]:
    """Return how long messages have been under way until now, by the share of them that were at most so long."""
    import numpy as np

    if not len(haul):
        return {}
    now = time.time()
    waited = np.maximum(now - np.asarray(haul.sent_at, dtype="float64") / 1000, 0)
    p50, p95, p99 = np.quantile(waited, [0.5, 0.95, 0.99]).tolist()
    return {
        "first_sent_at": datetime.fromtimestamp(min(haul.sent_at) / 1000).astimezone(),
        "latency_p50_seconds": p50, "latency_p95_seconds": p95, "latency_p99_seconds": p99,
    }  # fmt: skip


def _refuse(connection: Connection, sieve: Sieve, batch: str, refused: Sequence[RefusedMessage]) -> None:
    contract = sieve.contract
    assert contract.topic is not None
    if not refused:
        return
    columns = (
        "batch_id, dataset, contract_version, topic, topic_partition, message_offset, sent_at, message_key, message_value, "
        "headers, column_name, value, rule, expected"
    )
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY quarantine.refused_message ({columns}) FROM STDIN") as copy,
    ):
        for r in refused:
            # PostgreSQL's text cannot hold NUL; the message itself is kept to the byte.
            parts = Parts(r.key, r.value, r.headers, None if r.found is None else r.found.replace("\0", "\\u0000"))
            if sieve.locks is not None:
                parts = sieve.locks.shut(parts)
            copy.write_row(
                (
                    batch, contract.dataset, contract.version, contract.topic.name, r.topic_partition, r.message_offset,
                    r.sent_at, parts.key, parts.content, parts.headers, r.column, parts.found, r.rule, r.expected,
                )
            )  # fmt: skip
