"""Land a delivery: sift it, keep its accepted rows as an immutable Parquet file, its refused rows in quarantine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import structlog

from tidegate.contracts import Contract
from tidegate.contracts.model import WHOLE
from tidegate.errors import SourceError, UsageError
from tidegate.gates import ledger
from tidegate.gates.claim import claim
from tidegate.gates.ledger import Batch
from tidegate.gates.verdict import Evidence, Verdict, counted, evidence_folder
from tidegate.ingest import quarantine
from tidegate.ingest.delivery import Delivery, receive
from tidegate.ingest.sift import Sifted, partitions, sift
from tidegate.ingest.sources import fetch
from tidegate.ingest.spool import spool
from tidegate.sealing import columns, keyring
from tidegate.sealing.register import introduce
from tidegate.settings import Settings
from tidegate.stores import objects

log = structlog.get_logger(__name__)


def land(settings: Settings, contract: Contract, partition: str | None = None, file: Path | None = None) -> Batch:
    """Take one delivery in, from the contract's source or from `file`, and return its batch.

    A delivery that was taken in before is the same batch: nothing is done, whatever state it is in.

    Raises:
        UsageError: the partition is not named, or not of the contract's form.
        SourceError: there is no delivery, or it cannot hold this dataset.
        BusyError: another process is landing the same batch.
        UnavailableError: the warehouse, the landing area or the disk cannot be used at the moment.
        TerminalError: the landing area refuses the file.
        SealError: the dataset has confidential columns, and there is no key to seal them with, or a wrong one.
    """
    if contract.sealed:
        keyring(settings)
    with spool(settings.home, contract.dataset) as folder:
        delivery = _receive(settings, contract, partition, file, folder / "in")
        chosen = partition or _only_partition(settings, contract, delivery, folder)
        return _take_in(settings, contract, chosen, delivery, folder / "work")


def _receive(settings: Settings, contract: Contract, partition: str | None, file: Path | None, into: Path) -> Delivery:
    if partition is not None:
        contract.parts_of(partition)
    if file is not None:
        return Delivery((receive(file, str(file), into),))
    if not contract.sources:
        raise UsageError(f"{contract.reference} names no server to fetch from: hand the file over with --file")
    if contract.partitioning is not None and partition is None:
        raise UsageError(f"{contract.dataset} is delivered by partition: say which with --partition")
    return fetch(settings, contract, contract.source, partition or WHOLE, into)


def _take_in(settings: Settings, contract: Contract, partition: str, delivery: Delivery, work: Path) -> Batch:
    batch_id = identify(contract, partition, delivery)
    with claim(settings, batch_id) as mine:
        connection = mine.connection
        known = ledger.find_batch(connection, batch_id)
        if known is not None:
            log.info("batch is known", dataset=contract.dataset, batch_id=batch_id, state=known.state)
            return known
        connection.commit()
        with ledger.timed(settings, batch_id, "land") as timing:
            sifted = sift(contract, delivery, partition, work, settings.duckdb_memory)
            timing.rows = sifted.delivered
            if contract.sealed:
                introduce(connection, keyring(settings))
            url = keep(settings, contract, partition, batch_id, sifted.parquet)
            batch = _batch(contract, partition, batch_id, delivery, sifted, url)
            ledger.record_batch(connection, batch)
            quarantine.record(connection, batch, sifted.refused, quarantine.locks(settings, contract))
            judged = judge_refused(settings, contract, batch)
            ledger.record_verdicts(connection, batch_id, contract.dataset, partition, *judged)
            mine.check()
            connection.commit()
        log.info(
            "batch landed", dataset=contract.dataset, batch_id=batch_id, partition=partition,
            delivered=sifted.delivered, refused=len(sifted.refused),
        )  # fmt: skip
        return batch


def identify(contract: Contract, partition: str, delivery: Delivery) -> str:
    """Derive the batch's id: the same content for the same partition under the same contract is the same batch."""
    told = "\n".join([contract.dataset, contract.version, partition, delivery.sha256])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _only_partition(settings: Settings, contract: Contract, delivery: Delivery, folder: Path) -> str:
    if contract.partitioning is None:
        return WHOLE
    found = partitions(contract, delivery, folder / "partitions", settings.duckdb_memory)
    if len(found) == 1:
        return found[0]
    if not found:
        raise SourceError(
            f"{delivery.name}: no row names a partition of {contract.dataset}; say which with --partition"
        )
    raise SourceError(
        f"{delivery.name} holds {len(found)} partitions ({', '.join(found[:4])}, …): deliver one file for each, "
        "or say with --partition which one to take (rows of the others are refused)"
    )


def keep(settings: Settings, contract: Contract, partition: str, batch_id: str, parquet: Path) -> str:
    """Seal what is confidential in the Parquet file, put it where it stays, and return its URL."""
    if contract.sealed:
        plain, parquet = parquet, parquet.with_name("sealed.parquet")
        columns.seal(keyring(settings), contract, plain, parquet)
    url = str(objects.place(settings.landing) / contract.dataset / partition / f"{batch_id}.parquet")
    objects.put(parquet, url)
    return url


def _batch(contract: Contract, partition: str, batch_id: str, delivery: Delivery, sifted: Sifted, url: str) -> Batch:
    return Batch(
        batch_id=batch_id,
        dataset=contract.dataset,
        partition=partition,
        state="landed",
        contract_version=contract.version,
        source_name=delivery.name,
        source_sha256=delivery.sha256,
        landing_url=url,
        delivered_count=sifted.delivered,
        accepted_count=sifted.accepted,
        refused_count=len(sifted.refused),
        published_schema=contract.schema,
    )


def judge_refused(settings: Settings, contract: Contract, batch: Batch) -> tuple[list[Verdict], list[Evidence]]:
    """Judge the share of refused rows against the share that the contract allows."""
    share = batch.refused_count / batch.delivered_count if batch.delivered_count else 0.0
    verdict = Verdict(
        gate="contract",
        rule="refused rows",
        verdict="FAIL" if share > contract.max_refused_share else "WARN" if batch.refused_count else "PASS",
        value=f"{batch.refused_count} of {batch.delivered_count} rows ({share:.4%})",
        target=f"at most {contract.max_refused_share:.4%}",
        target_source=f"{contract.reference}:{contract.refused_share_line}",
        rule_set_version=contract.version,
    )
    told = (
        "batch_id",
        "source_name",
        "source_sha256",
        "landing_url",
        "delivered_count",
        "accepted_count",
        "refused_count",
    )
    figures = {name: getattr(batch, name) for name in told}
    folder = evidence_folder(settings.home, batch.dataset, batch.batch_id)
    return counted(folder / "landed.json", figures, [verdict])
