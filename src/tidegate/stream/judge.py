"""Great Expectations over the newest rows of a stream, as many as its contract says; what fails holds the stream.

Each message has met the contract's rules before its row was written (`sieve`). What is judged here is what no single
message can show: the domain suite, and that the rows in the table are what the contract says they are.
"""

from __future__ import annotations

import structlog
from psycopg import sql

from tidegate.contracts import Contract, access
from tidegate.contracts.model import in_words
from tidegate.contracts.suite import base_suite
from tidegate.gates import ledger as verdicts
from tidegate.gates.expectations import Suite, domain_suite, judge_table
from tidegate.gates.verdict import Evidence, Verdict, counted, evidence_folder, reason_to_hold, worst
from tidegate.settings import Settings
from tidegate.stores import topics
from tidegate.stores.postgres import Connection, connect, table
from tidegate.stream import ledger
from tidegate.stream.write import held

log = structlog.get_logger(__name__)


def judge(settings: Settings, contract: Contract, batch_id: str) -> list[Verdict]:
    """Judge the rows up to micro-batch `batch_id`, the newest ones by their event; the verdicts are on that batch.

    Raises:
        HeldError: a verdict is FAIL; the stream stands until somebody releases it. What was published stays.
        ContractError: a suite is empty or cannot be judged.
    """
    assert contract.topic is not None
    kept = _kept(settings, contract, batch_id)
    if not contract.topic.sample and not kept[0]:
        return []
    name = f"{contract.dataset[:40]}__sample"
    with connect(settings) as connection:
        found, evidence = (
            _sampled(settings, connection, contract, name, batch_id) if contract.topic.sample else ([], [])
        )
        found, evidence = [*found, *kept[0]], [*evidence, *kept[1]]
        verdicts.record_verdicts(connection, batch_id, contract.dataset, None, found, evidence)
        connection.commit()
        log.info("stream judged", dataset=contract.dataset, batch_id=batch_id, verdict=worst(found))
        if (reason := reason_to_hold(found)) is not None:
            known = ledger.positions(connection, contract.dataset)
            incarnation = max((at.incarnation for at in known.values()), default="")
            ledger.record_hold(
                connection,
                contract.dataset,
                reason,
                incarnation,
                {number: at.next_offset for number, at in known.items()},
            )
            connection.commit()
            raise held(contract, reason)
    return found


def _sampled(
    settings: Settings, connection: Connection, contract: Contract, name: str, batch_id: str
) -> tuple[list[Verdict], list[Evidence]]:
    assert contract.topic is not None
    _draw(connection, contract, name, contract.topic.sample)
    connection.commit()
    try:
        suites = [Suite("contract", base_suite(contract))]
        if (domain := domain_suite(settings.project, contract.dataset)) is not None:
            suites.append(domain)
        folder = evidence_folder(settings.home, contract.dataset, batch_id)
        return judge_table(settings, "staging", name, suites, folder)
    finally:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table("staging", name)))
        connection.commit()


def _kept(settings: Settings, contract: Contract, batch_id: str) -> tuple[list[Verdict], list[Evidence]]:
    """Judge for how long the topic keeps its messages, where the contract promises that: they lie in plain there."""
    assert contract.topic is not None
    if (most := contract.topic.kept) is None:
        return [], []
    there = topics.retention(settings, contract.topic.name)
    verdict = Verdict(
        gate="topic",
        rule="topic retention",
        verdict="PASS" if there is not None and there <= most else "FAIL",
        value=in_words(there) or "for ever",
        target=f"at most {in_words(most)}",
        target_source=contract.reference,
        rule_set_version=contract.version,
    )
    figures = {"topic": contract.topic.name, "retention_seconds": there.total_seconds() if there is not None else None}
    folder = evidence_folder(settings.home, contract.dataset, batch_id)
    return counted(folder / "topic.json", figures, [verdict])


def _draw(connection: Connection, contract: Contract, name: str, most: int) -> None:
    """Copy the newest rows into a table of their own, for GX sees committed tables only."""
    assert contract.topic is not None
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table("staging", name)))
    if contract.tenant is not None:
        connection.execute("SELECT ops.enter_all()")
    connection.execute(
        sql.SQL("CREATE UNLOGGED TABLE {} AS SELECT {} FROM {} ORDER BY {} DESC LIMIT {}").format(
            table("staging", name),
            sql.SQL(", ").join(sql.Identifier(column.name) for column in contract.columns),
            table(contract.schema, contract.table),
            sql.Identifier(contract.topic.event_time),
            sql.Literal(most),
        )
    )
    if access.is_watched(contract):
        for statement in access.watch(contract, "staging", name):
            connection.execute(statement)
