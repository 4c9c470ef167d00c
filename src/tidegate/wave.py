"""A data wave, step by step: land → stage → judge → publish. Airflow strings the same four steps together."""

from __future__ import annotations

from pathlib import Path

from tidegate.contracts import load
from tidegate.gates.judge import judge
from tidegate.gates.ledger import Batch
from tidegate.ingest.land import land
from tidegate.ingest.stage import stage
from tidegate.publish.batches import publish
from tidegate.settings import Settings


def ingest(settings: Settings, dataset: str, partition: str | None = None, file: Path | None = None) -> Batch:
    """Take one delivery all the way from its source to its published table.

    Each step finds out by itself what has been done before, so that running this again, after a crash or
    for a delivery that was made twice, ends in the same rows.

    Raises:
        HeldError: a gate held the batch.
        TidegateError: see the steps.
    """
    contract = load(settings, dataset)
    batch = land(settings, contract, partition, file)
    batch = stage(settings, contract, batch.batch_id)
    if batch.state == "staged":
        batch = judge(settings, contract, batch.batch_id)
    return publish(settings, contract, batch.batch_id)
