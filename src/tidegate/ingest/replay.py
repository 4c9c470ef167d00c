"""Replay: repaired rows join the batch of their partition in a new one, which passes the gate as any does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import structlog

from tidegate.contracts import Contract, load
from tidegate.errors import SourceError
from tidegate.gates import archive, ledger
from tidegate.gates.claim import Claim, claim
from tidegate.gates.ledger import Batch
from tidegate.ingest import quarantine, sheet
from tidegate.ingest.delivery import DeliveredFile, Delivery
from tidegate.ingest.examine import Refused
from tidegate.ingest.land import identify, judge_refused, keep
from tidegate.ingest.quarantine import RefusedRow
from tidegate.ingest.sheet import Repaired
from tidegate.ingest.sift import Sifted, sift
from tidegate.ingest.spool import spool
from tidegate.sealing import columns, keyring
from tidegate.sealing.register import introduce
from tidegate.settings import Settings
from tidegate.stores import objects
from tidegate.stores.postgres import Connection, connect, exclusive

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Replay:
    """What came of a sheet.

    `batches` are those with its rows that are not published yet; `taken` counts rows accepted now, `known`
    those of an earlier replay; `refused` maps refused_row_id to what is still wrong, with the line in the sheet.
    """

    contract: Contract
    batches: list[Batch]
    taken: int
    known: int
    refused: dict[int, Refused]


def land_repaired(settings: Settings, path: Path, *, by: str) -> Replay:
    """Sift the repaired rows of a sheet and land those that the contract accepts, a batch a partition.

    A new batch holds the rows of the batch that it continues and the repaired ones. That is the published
    batch of the partition, or, while the refused rows' own batch waits to be published, that batch, which the
    new one replaces. Rows that were taken in before stay as they are: the same sheet may be replayed again.

    Raises:
        SourceError: the file is no sheet of refused rows of one dataset, or there is no batch to add them to.
        BusyError: another process replays rows of the same partition, or works on its batch.
    """
    lines = sheet.ids(path)
    with connect(settings) as connection:
        rows = quarantine.opened(settings, quarantine.rows(connection, ids=list(lines)))
        open_ids = quarantine.replayable(connection, list(lines))
    contract = _contract(settings, path, lines, rows)
    repaired = sheet.read(contract, rows, path)
    waiting = sorted((r for r in rows if r.refused_row_id in open_ids), key=lambda r: (r.partition, r.batch_id))
    refused: dict[int, Refused] = {}
    batches = {r.replay_batch_id for r in rows if r.replay_batch_id and r.refused_row_id not in open_ids}
    for (partition, own), group in groupby(waiting, key=lambda r: (r.partition, r.batch_id)):
        members = list(group)
        # A line that was no record is none still, as long as nobody has touched it.
        untouched = [r for r in members if r.rule == "structure" and not repaired[r.refused_row_id].changed]
        refused |= {r.refused_row_id: _as_before(r, path, repaired[r.refused_row_id].line) for r in untouched}
        if not (touched := [r for r in members if r not in untouched]):
            continue
        batch_id, still = _Step(settings, contract, partition, own, path.name, by).run(touched, repaired)
        refused |= still
        batches |= {batch_id} if batch_id else set()
    with connect(settings) as connection:
        found = [ledger.get_batch(connection, batch_id) for batch_id in sorted(batches)]
        pending = [batch for batch in found if batch.state in ledger.PENDING]
    return Replay(contract, pending, len(waiting) - len(refused), len(rows) - len(waiting), refused)


def _as_before(row: RefusedRow, path: Path, line: int) -> Refused:
    record = json.dumps(row.record)
    return Refused(path.name, line, row.column_name, row.value, row.rule, row.expected, record)


def _contract(settings: Settings, path: Path, lines: dict[int, int], rows: Sequence[RefusedRow]) -> Contract:
    if not lines:
        raise SourceError(f"{path}: holds no row; export refused rows with `tidegate quarantine export`")
    unknown = sorted(set(lines) - {row.refused_row_id for row in rows})
    if unknown:
        raise SourceError(
            f"{path}:{lines[unknown[0]]}: no refused row has the number {unknown[0]}; expected the numbers that "
            "`tidegate quarantine export` wrote: was the file exported from another warehouse?"
        )
    datasets = sorted({row.dataset for row in rows})
    if len(datasets) > 1:
        raise SourceError(f"{path}: holds rows of {', '.join(datasets)}; replay one dataset at a time")
    return load(settings, datasets[0])


@dataclass(frozen=True)
class _Step:
    """The replay of the rows of one batch."""

    settings: Settings
    contract: Contract
    partition: str
    own: str
    sheet: str
    by: str

    def run(self, rows: Sequence[RefusedRow], repaired: dict[int, Repaired]) -> tuple[str | None, dict[int, Refused]]:
        """Return the new batch's id, if any row was accepted, and the rows that were not."""
        work = f"replay into {self.contract.dataset} {self.partition}"
        with (
            spool(self.settings.home, self.contract.dataset) as folder,
            connect(self.settings) as outer,
            exclusive(outer, work),
        ):
            base = self._base(outer)
            outer.commit()
            with claim(self.settings, base.batch_id) as mine:
                connection = mine.connection
                # What was read before the lock may have moved on.
                base = ledger.get_batch(connection, base.batch_id)
                connection.commit()
                with ledger.timed(self.settings, self.own, "replay") as timing:
                    delivery = Delivery((self._landed(base, folder), self._sheet(rows, repaired, folder)))
                    memory = self.settings.duckdb_memory
                    sifted = sift(self.contract, delivery, self.partition, folder / "work", memory)
                    still = self._still_refused(sifted, rows, repaired)
                    accepted = [r.refused_row_id for r in rows if r.refused_row_id not in still]
                    timing.rows = len(accepted)
                    if not accepted:
                        return None, still
                    if self.contract.sealed:
                        introduce(connection, keyring(self.settings))
                    batch = self._batch(connection, base, delivery, sifted)
                    self._record(mine, base, batch, accepted)
        log.info(
            "rows replayed",
            dataset=batch.dataset,
            batch_id=batch.batch_id,
            accepted=len(accepted),
            refused=len(still),
        )
        return batch.batch_id, still

    def _base(self, connection: Connection) -> Batch:
        """Return the batch that the repaired rows are added to."""
        own = ledger.get_batch(connection, self.own)
        family = {self.own} | quarantine.replays_of(connection, self.own)
        pending = [
            b for b in ledger.batches(connection, dataset=self.contract.dataset)
            if b.batch_id in family and b.state in ledger.PENDING
        ]  # fmt: skip
        if pending:
            return pending[-1]
        published = ledger.published_batch(connection, self.contract.dataset, self.partition)
        if published is None or own.state in ("rejected", "undone"):
            raise SourceError(
                f"{self.sheet}: the rows belong to batch {own.batch_id} of {own.dataset} {own.partition}, which is "
                f"{own.state}: there is no batch to add them to; deliver the partition again"
            )
        return published

    def _landed(self, base: Batch, folder: Path) -> DeliveredFile:
        """Bring the base batch's Parquet file here, with the columns that its contract did not have yet."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        target = folder / "base.parquet"
        with objects.opened(base.landing_url) as stream:
            landed = pq.ParquetFile(self._readable(stream, folder))
            names = landed.schema_arrow.names
            new = [c.name for c in self.contract.columns if c.name not in names and not c.required]
            schema = pa.schema([*landed.schema_arrow, *(pa.field(name, pa.string()) for name in new)])
            with pq.ParquetWriter(target, schema) as writer:
                for part in landed.iter_batches():
                    nulls = [pa.nulls(part.num_rows, pa.string()) for _ in new]
                    writer.write_batch(pa.record_batch([*part.columns, *nulls], schema=schema))
        digest = hashlib.sha256(base.batch_id.encode()).hexdigest()
        return DeliveredFile(target, f"batch {base.batch_id}", digest, 0, target.stat().st_size)

    def _readable(self, landed: Any, folder: Path) -> Any:
        """Return the landed file with nothing sealed in it."""
        import pyarrow.parquet as pq

        if not columns.sealed_in(pq.ParquetFile(landed).schema_arrow):
            return landed
        columns.open_(keyring(self.settings), self.contract.dataset, landed, folder / "opened.parquet")
        return folder / "opened.parquet"

    def _sheet(self, rows: Sequence[RefusedRow], repaired: dict[int, Repaired], folder: Path) -> DeliveredFile:
        """Write the repaired values as text columns; which row is which, their order tells."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        values = [repaired[row.refused_row_id].values for row in rows]
        names = [column.name for column in self.contract.columns]
        table = pa.table({name: pa.array([v[name] for v in values], pa.string()) for name in names})
        target = folder / "repaired.parquet"
        pq.write_table(table, target)
        told = json.dumps([[row.refused_row_id for row in rows], values], sort_keys=True)
        digest = hashlib.sha256(told.encode()).hexdigest()
        return DeliveredFile(target, self.sheet, digest, 0, target.stat().st_size)

    def _still_refused(
        self, sifted: Sifted, rows: Sequence[RefusedRow], repaired: dict[int, Repaired]
    ) -> dict[int, Refused]:
        still: dict[int, Refused] = {}
        for found in sifted.refused:
            if found.source_file != self.sheet:
                raise SourceError(
                    f"{self.contract.dataset} {self.partition}: rows of {found.source_file} break the contract of today "
                    f"(version {self.contract.version}): expected {found.expected}. Deliver the partition again, then "
                    "repair what is refused of it"
                )
            row = rows[found.line - 1]
            still[row.refused_row_id] = replace(found, line=repaired[row.refused_row_id].line)
        return still

    def _batch(self, connection: Connection, base: Batch, delivery: Delivery, sifted: Sifted) -> Batch:
        batch_id = identify(self.contract, self.partition, delivery)
        # Rows of this very delivery were counted when it came; of another, they come on top.
        family = {self.own} | quarantine.replays_of(connection, self.own)
        delivered = base.delivered_count
        if base.batch_id not in family:
            delivered += sifted.accepted - base.accepted_count
        return Batch(
            batch_id=batch_id,
            dataset=base.dataset,
            partition=base.partition,
            state="landed",
            contract_version=self.contract.version,
            source_name=f"{base.source_name}, {self.sheet}",
            source_sha256=delivery.sha256,
            landing_url=keep(self.settings, self.contract, self.partition, batch_id, sifted.parquet),
            delivered_count=delivered,
            accepted_count=sifted.accepted,
            refused_count=delivered - sifted.accepted,
            published_schema=base.published_schema,
        )

    def _record(self, mine: Claim, base: Batch, batch: Batch, accepted: Sequence[int]) -> None:
        connection = mine.connection
        ledger.record_batch(connection, batch)
        quarantine.mark_replayed(connection, accepted, batch.batch_id)
        judged = judge_refused(self.settings, self.contract, batch)
        ledger.record_verdicts(connection, batch.batch_id, batch.dataset, batch.partition, *judged)
        why = f"{len(accepted)} repaired rows of {self.sheet}, added to batch {base.batch_id}"
        ledger.record_decision(connection, batch.batch_id, "replay", self.by, why)
        if base.state in ledger.PENDING:
            # Released later, it would take the repaired rows away again.
            archive.retire(connection, base, "superseded")
        mine.check()
        connection.commit()
