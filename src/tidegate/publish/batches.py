"""Publish a judged batch by attaching its staged table; undo, release and reject."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import structlog
from psycopg import sql

from tidegate.contracts import Contract, access
from tidegate.errors import BusyError, HeldError, SourceError, UsageError
from tidegate.gates import archive, audit, ledger
from tidegate.gates.claim import Claim, claim
from tidegate.gates.ledger import Batch
from tidegate.publish import ahead, evolve
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, impatient, table, take_turn

log = structlog.get_logger(__name__)

_ATTEMPTS = 5


def publish(settings: Settings, contract: Contract, batch_id: str) -> Batch:
    """Make a judged batch the visible one of its partition; the batch it replaces goes to `archive`.

    One transaction: readers see the old rows or the new ones. A batch that is published already stays so.

    Raises:
        HeldError: a gate holds the batch, or a person rejected it.
        SourceError: the delivery was published once and has been replaced or taken back.
        UsageError: the batch has not been judged.
        BusyError: readers hold the table for longer than we may wait.
    """
    with claim(settings, batch_id) as mine:
        connection = mine.connection
        batch = ledger.get_batch(connection, batch_id)
        if batch.state == "published":
            return batch
        _require_publishable(connection, batch)
        connection.commit()
        with ledger.timed(settings, batch_id, "publish") as timing:
            published = patiently(lambda: _swap_in(mine, contract, batch))
            timing.rows = batch.accepted_count
        log.info("batch published", dataset=batch.dataset, batch_id=batch_id, partition=batch.partition)
        return published


def _require_publishable(connection: Connection, batch: Batch) -> None:
    match batch.state:
        case "judged":
            return
        case "held":
            raise HeldError(
                f"{batch.dataset} {batch.partition}: batch {batch.batch_id} is held: {batch.held_reason}. "
                f"{_first_refused(connection, batch)}Published data is as it was; `tidegate batch show {batch.batch_id}` "
                "tells more, then `tidegate batch release` or `reject`, with --why"
            )
        case "rejected":
            raise HeldError(
                f"batch {batch.batch_id} was rejected; deliver a corrected {batch.dataset} {batch.partition}"
            )
        case "archived":
            raise SourceError(
                f"batch {batch.batch_id} of {batch.dataset} {batch.partition} was published once and is archived: delivering it "
                f"again does not bring it back; `tidegate partition restore {batch.dataset} {batch.partition} --why …` does"
            )
        case "superseded" | "undone":
            raise SourceError(
                f"batch {batch.batch_id} of {batch.dataset} {batch.partition} was published once and is {batch.state}: "
                "delivering it again does not bring it back; `tidegate batch undo` goes back to the batch before"
            )
    raise UsageError(f"batch {batch.batch_id} is {batch.state}, not judged: run the steps before")


def _first_refused(connection: Connection, batch: Batch) -> str:
    """Say where to look first; the value itself stays in the quarantine, for not all who read this may see it."""
    row = connection.execute(
        "SELECT source_file, line, column_name, expected FROM quarantine.refused_row WHERE batch_id = %s "
        "ORDER BY refused_row_id LIMIT 1",
        [batch.batch_id],
    ).fetchone()
    if row is None:
        return f"It came as {batch.source_name}. "
    column = f", column {row['column_name']}" if row["column_name"] else ""
    return (
        f"The first refused row is {row['source_file']}:{row['line']}{column}: expected {row['expected']} "
        f"(`tidegate quarantine show {batch.batch_id}` lists them, `quarantine export` lets you repair them). "
    )


def patiently[Result](action: Callable[[], Result]) -> Result:
    """Try again while readers hold the table, giving way to them in between."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return action()
        except BusyError:
            time.sleep(0.2 * 2**attempt)
    return action()


def _swap_in(mine: Claim, contract: Contract, batch: Batch) -> Batch:
    connection = mine.connection
    with impatient(connection):
        take_turns(connection, batch)
        evolve.ensure(connection, contract)
        before = ledger.published_batch(connection, batch.dataset, batch.partition)
        if before is not None:
            detach(connection, contract, before)
            archive.retire(connection, before, "superseded")
        attach(connection, contract, batch, "staging")
        ledger.set_state(
            connection,
            batch.batch_id,
            "published",
            previous_batch_id=before.batch_id if before else None,
            held_reason=None,
            published_at=sql.SQL("now()"),
        )
        if access.is_watched(contract):
            audit.note(connection, "publish", contract.schema, batch.table, batch.accepted_count)
        mine.check()
    return ledger.get_batch(connection, batch.batch_id)


def take_turns(connection: Connection, batch: Batch) -> None:
    """Let one transaction at a time change what is published of a partition: two batches of it may come at once."""
    take_turn(connection, ahead.turn(batch.dataset, batch.partition))


def attach(connection: Connection, contract: Contract, batch: Batch, schema: str) -> None:
    """Make a batch's table, which stands in `schema`, a partition of the published one, brought to its layout."""
    # The published table may have evolved since the batch was staged or archived.
    evolve.adapt(connection, contract, schema, batch.table)
    ahead.give_way(connection, contract, batch.partition)
    # Attached first and moved after: ATTACH does not care where the table stands.
    connection.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})").format(
            table(contract.schema, contract.table), table(schema, batch.table), sql.Literal(batch.partition)
        )
    )
    connection.execute(
        sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(table(schema, batch.table), sql.Identifier(contract.schema))
    )
    # Kept away while the batch was staged.
    connection.execute(sql.SQL("ALTER TABLE {} RESET (autovacuum_enabled)").format(table(contract.schema, batch.table)))


def detach(connection: Connection, contract: Contract, batch: Batch) -> None:
    """Take a batch's table out of the published one; it stays where it stands, and no reader of that sees it."""
    connection.execute(
        sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(
            table(contract.schema, contract.table), table(contract.schema, batch.table)
        )
    )


def undo(settings: Settings, contract: Contract, batch_id: str, *, by: str, why: str) -> Batch | None:
    """Take a published batch back; its predecessor, if it had one, is visible again and is returned.

    Raises:
        UsageError: the batch is not published, or no reason is given.
    """
    with claim(settings, batch_id) as mine:
        connection = mine.connection
        batch = ledger.get_batch(connection, batch_id)
        _require_published(batch)
        connection.commit()
        return patiently(lambda: _swap_back(mine, contract, batch, by, why))


def _require_published(batch: Batch) -> None:
    if batch.state != "published":
        raise UsageError(f"batch {batch.batch_id} is {batch.state}, not published: there is nothing to undo")


def _swap_back(mine: Claim, contract: Contract, batch: Batch, by: str, why: str) -> Batch | None:
    connection = mine.connection
    with impatient(connection):
        take_turns(connection, batch)
        _require_published(ledger.get_batch(connection, batch.batch_id))
        detach(connection, contract, batch)
        archive.retire(connection, batch, "undone")
        before = ledger.find_batch(connection, batch.previous_batch_id) if batch.previous_batch_id else None
        if before is not None:
            attach(connection, contract, before, archive.ARCHIVE)
            ledger.set_state(connection, before.batch_id, "published")
        ledger.record_decision(connection, batch.batch_id, "undo", by, why)
        if access.is_watched(contract):
            audit.note(connection, "undo", contract.schema, batch.table, batch.accepted_count)
        mine.check()
    return ledger.find_batch(connection, before.batch_id) if before else None


def release(settings: Settings, batch_id: str, *, by: str, why: str) -> Batch:
    """Let a held batch through, on a named person's word; the next publish makes it visible.

    Raises:
        UsageError: the batch is not held, or no reason is given.
    """
    return _decide(settings, batch_id, "release", by, why)


def reject(settings: Settings, batch_id: str, *, by: str, why: str) -> Batch:
    """Turn a held batch down for good; its rows stay in staging's archive and its file in landing.

    Raises:
        UsageError: the batch is not held, or no reason is given.
    """
    return _decide(settings, batch_id, "reject", by, why)


def _decide(settings: Settings, batch_id: str, action: Literal["release", "reject"], by: str, why: str) -> Batch:
    with claim(settings, batch_id) as mine:
        connection = mine.connection
        batch = ledger.get_batch(connection, batch_id)
        if batch.state != "held":
            raise UsageError(f"batch {batch.batch_id} is {batch.state}, not held: there is nothing to {action}")
        # What was read opened a transaction; inside it, the decision would fall with it when the lock is let go.
        connection.commit()
        with connection.transaction():
            if action == "reject":
                archive.retire(connection, batch, "rejected")
            else:
                ledger.set_state(connection, batch.batch_id, "judged")
            ledger.record_decision(connection, batch.batch_id, action, by, why)
            mine.check()
        return ledger.get_batch(connection, batch.batch_id)
