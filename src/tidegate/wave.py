"""A data wave, step by step: land → stage → judge → publish. Airflow strings the same four steps together."""

from __future__ import annotations

from pathlib import Path

from tidegate.contracts import Contract, load
from tidegate.gates.judge import judge
from tidegate.gates.ledger import Batch
from tidegate.ingest.land import land
from tidegate.ingest.stage import stage
from tidegate.publish.batches import publish
from tidegate.settings import Settings
from tidegate.transforms.derive import derive


def ingest(settings: Settings, dataset: str, partition: str | None = None, file: Path | None = None) -> Batch:
    """Take one delivery all the way from its source to its published table.

    Each step finds out by itself what has been done before, so that running this again, after a crash or
    for a delivery that was made twice, ends in the same rows.

    Raises:
        HeldError: a gate held the batch.
        TidegateError: see the steps.
    """
    contract = load(settings, dataset)
    return finish(settings, contract, land(settings, contract, partition, file))


def transform(settings: Settings, name: str) -> Batch | None:
    """Make the output of transform `name` and take it all the way; None when it is up to date.

    Raises:
        HeldError: a gate held the output.
        TidegateError: see `tidegate.transforms.derive` and the steps.
    """
    batch = derive(settings, name)
    return finish(settings, load(settings, name), batch) if batch else None


def finish(settings: Settings, contract: Contract, batch: Batch) -> Batch:
    """Take a landed batch through the steps that it still has before it."""
    batch = stage(settings, contract, batch.batch_id)
    if batch.state == "staged":
        batch = judge(settings, contract, batch.batch_id)
    return publish(settings, contract, batch.batch_id)
