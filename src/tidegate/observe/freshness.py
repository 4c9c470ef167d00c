"""Whether what readers see is as new as its contract promises: dbt's source freshness, as verdicts in the ledger.

A deadline watches a run that is under way; this notices the delivery that never came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tidegate import dbt
from tidegate.contracts import Contract, load_all
from tidegate.contracts.dbt_sources import longest_silence
from tidegate.contracts.lineage import Lineage
from tidegate.contracts.model import in_words
from tidegate.gates import ledger
from tidegate.gates.ledger import Batch
from tidegate.gates.verdict import Decision, Evidence, Verdict, evidence_folder
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect
from tidegate.stream.state import state_of

GATE = "freshness"
_DECISION: dict[str, Decision] = {"pass": "PASS", "warn": "WARN", "error": "FAIL"}


@dataclass(frozen=True)
class Judged:
    """One dataset's verdict; `is_news` when the one before was another."""

    dataset: str
    verdict: Verdict
    age_seconds: float
    """Since its newest batch was published; of a stream, since the oldest message that waits was sent."""
    is_news: bool

    @property
    def is_stale(self) -> bool:
        """Whether the promise is broken."""
        return self.verdict.verdict != "PASS"


def judge(settings: Settings) -> list[Judged]:
    """Judge the newest published batch of every dataset that promises freshness, and record the verdicts.

    A dataset of which nothing was ever published has no batch to judge, and is left out.

    Raises:
        UnavailableError: the warehouse does not answer.
        TerminalError: dbt cannot read the project.
    """
    contracts, lineage = load_all(settings), Lineage(settings.project)
    by_name = {contract.dataset: contract for contract in contracts}
    now = datetime.now(UTC)
    found: list[tuple[Batch, Verdict]] = []
    figures: dict[str, Any] = {"measured_at": now}
    with connect(settings, autocommit=True) as connection:
        if not (published := _newest(ledger.batches(connection, state="published"))):
            return []
    statuses = dbt.freshness(settings)
    with connect(settings) as connection:
        for contract in contracts:
            promised, newest = longest_silence(contract, by_name, lineage), published.get(contract.dataset)
            status = statuses.get(f"{contract.schema}.{contract.table}")
            if promised is None or newest is None or status is None:
                continue
            figures[contract.dataset] = {
                "batch": newest.batch_id,
                "published_at": newest.published_at,
                "longest_silence": promised,
                "status": status,
            }
            verdict = Verdict(
                gate=GATE,
                rule=f"{contract.dataset} is as new as promised",
                verdict=_DECISION.get(status, "FAIL"),
                value=f"last published {newest.published_at:%Y-%m-%d %H:%M} UTC",
                target=f"at most {in_words(promised)} ago",
                target_source=f"{contract.reference}:{contract.freshness_line}",
                rule_set_version=contract.version,
            )
            found.append((newest, verdict))
        if not found:
            return []
        folder = evidence_folder(settings.home, GATE, f"{now:%Y-%m-%d}")
        measured = Evidence.write(GATE, folder / f"{now:%H%M%S.%f}.json", figures, figures)
        return [
            _record(
                connection, batch.batch_id, batch.dataset, verdict, measured, partition=batch.partition,
                age=(now - batch.published_at).total_seconds() if batch.published_at else 0.0,
            )
            for batch, verdict in found
        ]  # fmt: skip


def _newest(batches: Iterable[Batch]) -> dict[str, Batch]:
    """Return of each dataset the batch that was published last."""
    return {batch.dataset: batch for batch in sorted(batches, key=lambda batch: str(batch.published_at))}


def judge_streams(settings: Settings) -> list[Judged]:
    """Judge every stream that has begun, where there is a Kafka; raises as `judge_stream`."""
    if settings.kafka_url is None:
        return []
    with connect(settings) as connection:
        begun = {
            row["dataset"] for row in connection.execute("SELECT DISTINCT dataset FROM ops.stream_offset").fetchall()
        }
    found = [judge_stream(settings, c) for c in load_all(settings) if c.topic is not None and c.dataset in begun]
    return [judged for judged in found if judged is not None]


def judge_stream(settings: Settings, contract: Contract) -> Judged | None:
    """Judge how long the oldest message of a topic has waited, and record the verdict; None where nothing is promised.

    Raises:
        SourceError: there is no such topic.
        UnavailableError: the warehouse or the broker does not answer.
    """
    if contract.freshness is None:
        return None
    state, now = state_of(settings, contract), datetime.now(UTC)
    age = state.age_seconds(now)
    figures = {
        "measured_at": now,
        "lag_messages": state.lag,
        "oldest_waits_seconds": age,
        "longest": contract.freshness,
    }
    verdict = Verdict(
        gate=GATE,
        rule=f"{contract.dataset} is as new as promised",
        verdict="PASS" if age <= contract.freshness.total_seconds() else "FAIL",
        value=f"{state.lag} messages wait, the oldest for {age:.0f} s",
        target=f"at most {in_words(contract.freshness)}",
        target_source=f"{contract.reference}:{contract.freshness_line}",
        rule_set_version=contract.version,
    )
    folder = evidence_folder(settings.home, GATE, f"{now:%Y-%m-%d}")
    measured = Evidence.write(GATE, folder / f"{now:%H%M%S.%f}-{contract.dataset}.json", figures, figures)
    with connect(settings) as connection:
        return _record(connection, f"stream {contract.dataset}", contract.dataset, verdict, measured, age=age)


def _record(
    connection: Connection, subject: str, dataset: str, verdict: Verdict, measured: Evidence, *, age: float,
    partition: str | None = None,
) -> Judged:  # fmt: skip
    before = [v.verdict for v in ledger.verdicts_of(connection, subject) if v.gate == GATE]
    judged = verdict.on(measured)
    ledger.record_verdicts(connection, subject, dataset, partition, [judged], [measured])
    return Judged(dataset, judged, age, verdict.verdict not in before)
