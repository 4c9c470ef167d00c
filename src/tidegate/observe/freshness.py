"""Whether what readers see is as new as its contract promises: dbt's source freshness, as verdicts in the ledger.

A deadline watches a run that is under way; this notices the delivery that never came.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate import dbt
from tidegate.contracts import load_all
from tidegate.contracts.dbt_sources import longest_silence
from tidegate.contracts.lineage import Lineage
from tidegate.contracts.model import in_words
from tidegate.gates import ledger
from tidegate.gates.verdict import Decision, Verdict
from tidegate.settings import Settings
from tidegate.stores.postgres import connect

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
    judged = []
    with connect(settings) as connection:
        for contract in contracts:
            promised = longest_silence(contract, by_name, lineage)
            published = ledger.batches(connection, dataset=contract.dataset, state="published")
            status = statuses.get(f"{contract.schema}.{contract.table}")
            if promised is None or not published or status is None:
                continue
            newest = max(published, key=lambda batch: str(batch.published_at))
            before = [v.verdict for v in ledger.verdicts_of(connection, newest.batch_id) if v.gate == GATE]
            verdict = Verdict(
                gate=GATE,
                rule=f"{contract.dataset} is as new as promised",
                verdict=_DECISION.get(status, "FAIL"),
                value=f"last published {newest.published_at:%Y-%m-%d %H:%M} UTC",
                target=f"at most {in_words(promised)} ago",
                target_source=contract.reference,
                rule_set_version=contract.version,
            )
            ledger.record_verdicts(connection, newest.batch_id, contract.dataset, newest.partition, [verdict])
            judged.append(Judged(contract.dataset, verdict, verdict.verdict not in before))
    return judged
