"""Archive a published partition, which is to keep it as Parquet alone, and bring it back.

The Parquet is the file that the batch landed as: it never changes, and whoever erases a person or turns the key looks
for it by the ledger. It is read back, and held against the table row by row, before the table goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

import structlog
from psycopg import sql

from tidegate.contracts import Contract, access, ddl
from tidegate.errors import BusyError, ContractError, HeldError, TidegateError, UsageError
from tidegate.gates import audit, ledger
from tidegate.gates.claim import Claim, claim
from tidegate.gates.judge import published_keys
from tidegate.gates.ledger import Batch
from tidegate.gates.verdict import Evidence, Verdict, counted, evidence_folder, written_in
from tidegate.publish import evolve, landed, retention
from tidegate.publish.batches import attach, detach, patiently, take_turns
from tidegate.publish.landed import UNPACKED, Content
from tidegate.publish.settle import settle
from tidegate.settings import Settings
from tidegate.stores.postgres import LOCK_TIMEOUT, Connection, connect, impatient, table

log = structlog.get_logger(__name__)

GATE = "archive"
#: How often a stream's partition is written to a file, where rows come meanwhile.
_ATTEMPTS = 3
_SAME_ROWS = "rows of the landed file = rows published"


@dataclass(frozen=True)
class Outcome:
    """What became of a partition that had outlived its retention: the batch that was archived, or why it was not."""

    partition: str
    batch: Batch | None
    trouble: TidegateError | None = None


def archive_outlived(settings: Settings, contract: Contract, now: datetime) -> list[Outcome]:
    """Archive every partition of a dataset that has outlived its retention; one that cannot go stops no other."""
    with connect(settings) as connection:
        due = [kept.batch for kept in retention.partitions(connection, contract) if kept.outlived(now)]
    if contract.topic is not None:
        return _archive_streamed(settings, contract, [batch.partition for batch in due], now)
    found = []
    for batch in due:
        try:
            found.append(Outcome(batch.partition, archive(settings, contract, batch.batch_id)))
        except TidegateError as trouble:
            found.append(Outcome(batch.partition, batch, trouble))
    return found


def _archive_streamed(settings: Settings, contract: Contract, restored: Sequence[str], now: datetime) -> list[Outcome]:
    """Archive what has outlived its retention of a stream: partitions that rows were written to, and what was restored."""
    with connect(settings) as connection:
        retention.notice(connection, contract, now)
        connection.commit()
        due = [one.partition for one in retention.written(connection, contract) if one.outlived(now)]
    found = []
    for partition in (*due, *restored):
        try:
            found.append(Outcome(partition, _settled_and_archived(settings, contract, partition)))
        except TidegateError as trouble:
            found.append(Outcome(partition, None, trouble))
    return found


def _settled_and_archived(settings: Settings, contract: Contract, partition: str) -> Batch:
    for _ in range(_ATTEMPTS - 1):
        try:
            return archive(settings, contract, settle(settings, contract, partition).batch_id)
        except HeldError:
            # A row came after the file was written: it is written anew, with that row.
            continue
    return archive(settings, contract, settle(settings, contract, partition).batch_id)


def archive(settings: Settings, contract: Contract, batch_id: str) -> Batch:
    """Take a published batch's table away, once its landed file has been found to hold the same rows.

    Readers see all of the partition until the one transaction after which they see none of it. Killed before that,
    nothing has changed. A batch that is archived already stays so.

    Raises:
        UsageError: the batch is not published.
        HeldError: the file does not hold the rows that are published; they stay.
        TerminalError: the file cannot be read; the rows stay.
        BusyError: readers hold the table for longer than we may wait, or another process works on the batch.
        SealError: a value is sealed, and its key is not at hand.
    """
    with claim(settings, batch_id) as mine:
        connection = mine.connection
        batch = ledger.get_batch(connection, batch_id)
        if batch.state == "archived":
            return batch
        if batch.state != "published":
            raise UsageError(
                f"batch {batch.batch_id} is {batch.state}, not published: there is no partition to archive"
            )
        connection.commit()
        with ledger.timed(settings, batch.batch_id, "archive") as timing:
            names = landed.unpack(connection, batch)
            connection.commit()
            judged, evidence = _compare(settings, connection, contract, batch, names)
            ledger.record_verdicts(connection, batch.batch_id, batch.dataset, batch.partition, judged, evidence)
            if judged[0].verdict == "FAIL":
                mine.check()
                connection.commit()
                raise HeldError(
                    f"{batch.dataset} {batch.partition} is not archived: {batch.landing_url} holds {judged[0].value}, the table "
                    f"{judged[0].target}. Readers see it as before. Somebody has changed rows of {batch.table} by hand, or the "
                    "file: deliver the partition again, as it should be"
                )
            # Until this transaction ends nobody writes to what has been compared.
            patiently(lambda: _put_away(mine, contract, batch))
            connection.commit()
            timing.rows = batch.accepted_count
        log.info("partition archived", dataset=batch.dataset, batch_id=batch.batch_id, partition=batch.partition)
        return ledger.get_batch(connection, batch.batch_id)


def _compare(
    settings: Settings, connection: Connection, contract: Contract, batch: Batch, names: Sequence[str]
) -> tuple[list[Verdict], list[Evidence]]:
    """Hold the unpacked file against the table, which keeps writers out until the transaction ends."""
    connection.execute("SELECT ops.enter_all()")
    place = table(contract.schema, batch.table)
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
    connection.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(place))
    layout = evolve.layout_of(connection, contract.schema, batch.table)
    assert layout is not None
    types = {name: shape.type for name, shape in layout.columns.items()}
    opening = landed.seals(settings, contract)
    kept = landed.content(connection, UNPACKED, landed.as_published(names, types), opening)
    shown = landed.content(connection, place, {name: sql.Identifier(name) for name in types}, opening)
    stays = landed.lasting(contract, names)
    lasting = landed.content(connection, UNPACKED, {name: sql.Identifier(name) for name in stays}, {})
    figures = {
        "batch": batch.batch_id, "landing_url": batch.landing_url, "rows": kept.rows, "checksum": kept.checksum,
        "rows_published": shown.rows, "checksum_published": shown.checksum,
        "lasting_columns": stays, "lasting_checksum": lasting.checksum,
    }  # fmt: skip
    return _judged(settings, batch, _SAME_ROWS, kept, shown, figures)


def _judged(
    settings: Settings, batch: Batch, rule: str, found: Content, expected: Content, figures: dict[str, object]
) -> tuple[list[Verdict], list[Evidence]]:
    verdict = Verdict(
        gate=GATE,
        rule=rule,
        verdict="PASS" if found == expected else "FAIL",
        value=str(found),
        target=str(expected),
        target_source=written_in(_compare),
        rule_set_version=version("tidegate"),
    )
    return counted(evidence_folder(settings.home, batch.dataset, batch.batch_id) / "archived.json", figures, [verdict])


def _put_away(mine: Claim, contract: Contract, batch: Batch) -> None:
    connection = mine.connection
    with impatient(connection):
        take_turns(connection, batch)
        detach(connection, contract, batch)
        if contract.topic is not None:
            # Whoever counts a micro-batch's rows has to know where they went.
            connection.execute(
                sql.SQL(
                    "UPDATE ops.stream_batch AS micro SET archived_count = archived_count + gone.rows "
                    "FROM (SELECT _batch_id, count(*) AS rows FROM {} GROUP BY 1) AS gone WHERE micro.batch_id = gone._batch_id"
                ).format(table(contract.schema, batch.table))
            )
        connection.execute(sql.SQL("DROP TABLE {}").format(table(contract.schema, batch.table)))
        ledger.set_state(connection, batch.batch_id, "archived")
        if access.is_watched(contract):
            audit.note(
                connection, "undo", contract.schema, batch.table, batch.accepted_count, "archived, kept as Parquet"
            )
        mine.check()


def restore(settings: Settings, contract: Contract, partition: str, *, by: str, why: str) -> Batch:
    """Make an archived partition visible again, from its Parquet; retention leaves it alone for `RESTORED_FOR`.

    Raises:
        UsageError: the partition is not archived, another batch of it is published, or no reason is given.
        HeldError: the file does not hold the rows that were archived, or their keys were published meanwhile.
        ContractError: the dataset's contract does not know a column of the file any more.
        TerminalError: the file cannot be read.
        BusyError: readers hold the table for longer than we may wait, or another process works on the batch.
    """
    if not why.strip():
        raise UsageError("restore needs a reason: --why TEXT")
    with connect(settings) as connection:
        wanted = _archived(connection, contract, partition)
    with claim(settings, wanted.batch_id) as mine:
        connection = mine.connection
        batch = _archived(connection, contract, partition)
        connection.commit()
        with ledger.timed(settings, batch.batch_id, "restore") as timing:
            names = landed.unpack(connection, batch)
            connection.commit()
            _require_as_archived(connection, contract, batch, names)
            _lay_out(connection, contract, batch, names)
            _require_new_keys(settings, connection, contract, batch)
            mine.check()
            connection.commit()
            patiently(lambda: _bring_back(mine, contract, batch, by, why))
            timing.rows = batch.accepted_count
        log.info("partition restored", dataset=batch.dataset, batch_id=batch.batch_id, partition=batch.partition)
        return ledger.get_batch(connection, batch.batch_id)


def _archived(connection: Connection, contract: Contract, partition: str) -> Batch:
    """Return the batch of a partition that was archived last."""
    contract.parts_of(partition)
    found = [b for b in ledger.batches(connection, dataset=contract.dataset) if b.partition == partition]
    archived = [batch for batch in found if batch.state == "archived"]
    if not archived:
        raise UsageError(f"{contract.dataset} {partition} is not archived; `tidegate partition list` shows what is")
    now = next((batch for batch in found if batch.state == "published"), None)
    if now is not None:
        raise UsageError(
            f"{contract.dataset} {partition}: batch {now.batch_id} is published, delivered after {archived[-1].batch_id} was "
            f"archived; `tidegate batch undo {now.batch_id} --why …` first, if the archived rows are wanted instead"
        )
    return archived[-1]


def _require_as_archived(connection: Connection, contract: Contract, batch: Batch, names: Sequence[str]) -> None:
    """Make sure that the file says what it said, but for what an erasure or another key has lawfully changed in it."""
    row = connection.execute(
        "SELECT figures FROM ops.verdict JOIN ops.evidence USING (evidence_sha256) "
        "WHERE subject = %s AND gate = %s AND verdict = 'PASS' ORDER BY verdict_id DESC LIMIT 1",
        [batch.batch_id, GATE],
    ).fetchone()
    figures = row["figures"] if row else {}
    stays = figures.get("lasting_columns", landed.lasting(contract, names))
    found = landed.content(connection, UNPACKED, {name: sql.Identifier(name) for name in stays}, {})
    expected = Content(batch.accepted_count, figures.get("lasting_checksum", found.checksum))
    if found != expected:
        raise HeldError(
            f"{batch.dataset} {batch.partition} is not restored: {batch.landing_url} holds {found}, and held {expected} when the "
            "partition was archived. Bring the file back from a copy of the landing area"
        )


def _lay_out(connection: Connection, contract: Contract, batch: Batch, names: Sequence[str]) -> None:
    """Make the batch's table in `staging` from the unpacked file, as `stage` does from the file."""
    gone = sorted(set(names) - {column.name for column in contract.columns})
    if gone:
        raise ContractError(
            f"{contract.reference} has no column {', '.join(gone)}, and the rows of {batch.dataset} {batch.partition} have: "
            f"restore it with a contract of version {batch.contract_version} or later"
        )
    place = table("staging", batch.table)
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(place))
    connection.execute(ddl.batch_table(contract, batch.table))
    if access.is_watched(contract):
        connection.execute(access.watch_loading(batch.table))
    listed = sql.SQL(", ").join(map(sql.Identifier, names))
    connection.execute(sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(place, listed, listed, UNPACKED))
    connection.execute(ddl.finish_batch_table(contract, batch.table, batch.partition, batch.batch_id))
    if access.is_watched(contract):
        connection.execute(sql.SQL("; ").join(access.watch(contract, "staging", batch.table)))
    connection.execute(sql.SQL("ANALYZE {}").format(place))


def _require_new_keys(settings: Settings, connection: Connection, contract: Contract, batch: Batch) -> None:
    """Make sure that no key of the rows was published in another partition while they were away."""
    if not contract.key:
        return
    folder = evidence_folder(settings.home, batch.dataset, batch.batch_id)
    (judged,), evidence = published_keys(connection, contract, batch, folder)
    if judged.verdict == "FAIL":
        connection.rollback()
        ledger.record_verdicts(connection, batch.batch_id, batch.dataset, batch.partition, [judged], evidence)
        connection.commit()
        raise HeldError(
            f"{batch.dataset} {batch.partition} is not restored: {judged.rule}, and {judged.value} are. Undo the batch that has "
            "them now, if the archived ones are wanted instead"
        )


def _bring_back(mine: Claim, contract: Contract, batch: Batch, by: str, why: str) -> None:
    connection = mine.connection
    with impatient(connection):
        take_turns(connection, batch)
        _archived(connection, contract, batch.partition)
        evolve.ensure(connection, contract)
        attach(connection, contract, batch, "staging")
        ledger.set_state(connection, batch.batch_id, "published")
        ledger.record_decision(connection, batch.batch_id, "restore", by, why)
        if access.is_watched(contract):
            audit.note(
                connection, "publish", contract.schema, batch.table, batch.accepted_count, "restored from Parquet"
            )
        mine.check()


def require_no_trouble(outcomes: Sequence[Outcome]) -> None:
    """Raise what kept partitions from being archived: what a person must see to first, else what passes by itself."""
    troubles = [outcome.trouble for outcome in outcomes if outcome.trouble is not None]
    grave = [trouble for trouble in troubles if not isinstance(trouble, BusyError)]
    for trouble in (*grave, *troubles):
        raise trouble
