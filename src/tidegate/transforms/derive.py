"""Make a transform's output from the batches published now, and land it; or see that it is made already.

What is done with the landed batch is the business of every batch: stage, judge, publish.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from tidegate.contracts import load as load_contract
from tidegate.gates import ledger
from tidegate.gates.ledger import Batch
from tidegate.ingest.land import land
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect, exclusive
from tidegate.transforms.catalog import load
from tidegate.transforms.runner import run

log = structlog.get_logger(__name__)

STEP = "transform"


@dataclass(frozen=True)
class Inputs:
    """What an output is made of: landing files by dataset, and one digest of these batches and the code."""

    files: dict[str, Sequence[str]]
    digest: str


def derive(settings: Settings, name: str) -> Batch | None:
    """Run transform `name` over the published batches of its inputs and land the result.

    Returns None when the newest output was made of exactly these batches by exactly this code, and has been
    judged: a year of input batches arriving one by one then costs one run, not twelve.

    Raises:
        BusyError: the same transform is running.
        TidegateError: see `tidegate.transforms.run` and `tidegate.ingest.land`.
    """
    contract = load_contract(settings, name)
    with connect(settings) as connection, exclusive(connection, f"transform {name}"):
        inputs = inputs_of(settings, connection, name)
        if is_made(connection, name, inputs.digest):
            return None
        connection.commit()
        started, clock = datetime.now(UTC), time.perf_counter()
        folder = settings.inbox_path / Path(contract.sources[0].location).parent
        folder.mkdir(parents=True, exist_ok=True)
        output = run(settings, name, inputs.files, folder)
        seconds = time.perf_counter() - clock
        batch = land(settings, contract)
        ledger.record_step(connection, batch.batch_id, STEP, started, seconds, rows=output.rows, note=inputs.digest)
        connection.commit()
    log.info("transform ran", dataset=name, batch_id=batch.batch_id, rows=output.rows, state=batch.state)
    return batch


def inputs_of(settings: Settings, connection: Connection, name: str) -> Inputs:
    """Return the published batches that transform `name` reads, in partition order."""
    transform = load(settings, name)
    batches = {
        dataset: sorted(
            ledger.batches(connection, dataset=dataset, state="published"), key=lambda batch: batch.partition
        )
        for dataset in transform.inputs
    }
    code = hashlib.sha256((settings.project / "transforms" / f"{name}.py").read_bytes()).hexdigest()
    told = {dataset: [batch.batch_id for batch in found] for dataset, found in batches.items()}
    digest = hashlib.sha256(json.dumps([told, code], sort_keys=True).encode()).hexdigest()[:16]
    return Inputs({dataset: [b.landing_url for b in found] for dataset, found in batches.items()}, digest)


def is_made(connection: Connection, name: str, digest: str) -> bool:
    """Return whether the newest output of transform `name` has that digest and went as far as it will go."""
    row = connection.execute(
        """
        SELECT state, note FROM ops.step JOIN ops.batch ON batch_id = subject
        WHERE dataset = %s AND step = %s ORDER BY step_id DESC LIMIT 1
        """,
        [name, STEP],
    ).fetchone()
    return row is not None and row["note"] == digest and row["state"] in ledger.AT_REST
