"""Whether what readers see is as new as its contract promises: dbt's source freshness, as verdicts in the ledger.

A deadline watches a run that is under way; this notices the delivery that never came.
"""

from __future__ import annotations

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
    statuses = dbt.freshness(settings)
    contracts, lineage = load_all(settings), Lineage(settings.project)
    by_name = {contract.dataset: contract for contract in contracts}
    now = datetime.now(UTC)
    found: list[tuple[Batch, Verdict]] = []
    figures: dict[str, Any] = {"measured_at": now}
    with connect(settings) as connection:
        for contract in contracts:
            promised = longest_silence(contract, by_name, lineage)
            published = ledger.batches(connection, dataset=contract.dataset, state="published")
            status = statuses.get(f"{contract.schema}.{contract.table}")
            if promised is None or not published or status is None:
                continue
            newest = max(published, key=lambda batch: str(batch.published_at))
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
        return [_record(connection, batch, verdict.on(measured), measured) for batch, verdict in found]


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
    subject = f"stream {contract.dataset}"
    with connect(settings) as connection:
        before = [v.verdict for v in ledger.verdicts_of(connection, subject) if v.gate == GATE]
        ledger.record_verdicts(connection, subject, contract.dataset, None, [verdict.on(measured)], [measured])
    return Judged(contract.dataset, verdict.on(measured), verdict.verdict not in before)


def _record(connection: Connection, batch: Batch, verdict: Verdict, measured: Evidence) -> Judged:
    before = [v.verdict for v in ledger.verdicts_of(connection, batch.batch_id) if v.gate == GATE]
    ledger.record_verdicts(connection, batch.batch_id, batch.dataset, batch.partition, [verdict], [measured])
    return Judged(batch.dataset, verdict, verdict.verdict not in before)
