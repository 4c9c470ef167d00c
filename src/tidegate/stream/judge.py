"""Great Expectations over the newest rows of a stream, as many as its contract says; what fails holds the stream.

Each message has met the contract's rules before its row was written (`sieve`). What is judged here is what no single
message can show: the domain suite, and that the rows in the table are what the contract says they are.
"""

from __future__ import annotations

import structlog
from psycopg import sql

from tidegate.contracts import Contract
from tidegate.contracts.suite import base_suite
from tidegate.gates import ledger as verdicts
from tidegate.gates.expectations import Suite, domain_suite, judge_table
from tidegate.gates.verdict import Verdict, evidence_folder, reason_to_hold, worst
from tidegate.settings import Settings
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
    if not contract.topic.sample:
        return []
    name = f"{contract.dataset[:40]}__sample"
    with connect(settings) as connection:
        _draw(connection, contract, name, contract.topic.sample)
        connection.commit()
        try:
            suites = [Suite("contract", base_suite(contract))]
            if (domain := domain_suite(settings.project, contract.dataset)) is not None:
                suites.append(domain)
            found, evidence = judge_table(
                settings, "staging", name, suites, evidence_folder(settings.home, contract.dataset, batch_id)
            )
        finally:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table("staging", name)))
            connection.commit()
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


def _draw(connection: Connection, contract: Contract, name: str, most: int) -> None:
    """Copy the newest rows into a table of their own, for GX sees committed tables only."""
    assert contract.topic is not None
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table("staging", name)))
    connection.execute(
        sql.SQL("CREATE UNLOGGED TABLE {} AS SELECT {} FROM {} ORDER BY {} DESC LIMIT {}").format(
            table("staging", name),
            sql.SQL(", ").join(sql.Identifier(column.name) for column in contract.columns),
            table(contract.schema, contract.table),
            sql.Identifier(contract.topic.event_time),
            sql.Literal(most),
        )
    )
