"""Judge a staged batch: the contract's base suite, the domain suite, and keys against what is published."""

from __future__ import annotations

from pathlib import Path

import structlog
from psycopg import sql

from tidegate.contracts import Contract
from tidegate.contracts.suite import base_suite
from tidegate.errors import ContractError, UsageError
from tidegate.gates import ledger
from tidegate.gates.claim import claim
from tidegate.gates.expectations import Suite, domain_suite, judge_table
from tidegate.gates.ledger import Batch
from tidegate.gates.verdict import Evidence, Verdict, counted, evidence_folder, reason_to_hold, worst
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, exists, number, table

log = structlog.get_logger(__name__)


def judge(settings: Settings, contract: Contract, batch_id: str) -> Batch:
    """Judge a staged batch and leave it `judged` (it may be published) or `held` (a person decides).

    A batch that has been judged before keeps its state; a batch that is not staged cannot be judged.

    Raises:
        BusyError: another process works on the batch.
        ContractError: a suite is empty or cannot be judged, or asks for values that are sealed.
    """
    with claim(settings, batch_id) as mine:
        connection = mine.connection
        batch = ledger.get_batch(connection, batch_id)
        if batch.state == "landed":
            raise UsageError(f"batch {batch_id} is not staged yet: run the stage step first")
        if batch.state != "staged":
            return batch
        with ledger.timed(settings, batch_id, "judge") as timing:
            suites = [Suite("contract", base_suite(contract))]
            if (domain := domain_suite(settings.project, contract.dataset)) is not None:
                _require_legible(contract, domain)
                suites.append(domain)
            folder = evidence_folder(settings.home, batch.dataset, batch.batch_id)
            verdicts, evidence = judge_table(settings, "staging", batch.table, suites, folder)
            if contract.key and contract.partitioning and exists(connection, contract.schema, contract.table):
                keys, files = published_keys(connection, contract, batch, folder)
                verdicts += keys
                evidence += files
            ledger.record_verdicts(connection, batch_id, batch.dataset, batch.partition, verdicts, evidence)
            everything = ledger.verdicts_of(connection, batch_id)
            decision = worst(everything)
            reason = reason_to_hold(everything)
            ledger.set_state(connection, batch_id, "held" if reason else "judged", held_reason=reason)
            mine.check()
            connection.commit()
            timing.rows, timing.note = batch.accepted_count, decision
        log.info("batch judged", dataset=batch.dataset, batch_id=batch_id, verdict=decision, held_reason=reason)
        return ledger.get_batch(connection, batch_id)


def _require_legible(contract: Contract, suite: Suite) -> None:
    """Refuse to ask of a sealed column what only its key could tell."""
    for expectation in suite.expectations:
        kwargs = expectation["kwargs"]
        named = {kwargs.get("column"), kwargs.get("column_A"), kwargs.get("column_B"), *kwargs.get("column_list", ())}
        sealed = sorted(named & set(contract.sealed))
        if sealed and expectation["type"] != "expect_column_values_to_not_be_null":
            raise ContractError(
                f"{expectation['meta']['source']}: asks for the values of {contract.dataset}.{sealed[0]}, which are sealed: "
                f"write it as a rule of the column in {contract.reference}, which is held before they are"
            )


def published_keys(
    connection: Connection, contract: Contract, batch: Batch, folder: Path
) -> tuple[list[Verdict], list[Evidence]]:
    """Judge that no key of the batch is published in another partition already, whichever tenant it belongs to."""
    # Also where the contract names no tenants: those of the table may be older.
    connection.execute("SELECT ops.enter_all()")
    keys = sql.SQL(", ").join(map(sql.Identifier, contract.key))
    first = sql.Identifier(contract.key[0])
    staged, published = table("staging", batch.table), table(contract.schema, contract.table)
    bounds = sql.SQL("SELECT min({first}) AS lowest, max({first}) AS highest FROM {staged}")
    bound = connection.execute(bounds.format(first=first, staged=staged)).fetchone() or {}
    # Where keys grow with the partitions, the others have few between these bounds, and an index finds them.
    twice = number(
        connection,
        sql.SQL(
            "WITH others AS MATERIALIZED (SELECT {keys} FROM {published} "
            "WHERE _partition <> {partition} AND {first} BETWEEN {lowest} AND {highest}) "
            "SELECT count(*) FROM {staged} JOIN others USING ({keys})"
        ).format(
            keys=keys,
            published=published,
            partition=sql.Literal(batch.partition),
            first=first,
            lowest=sql.Literal(bound.get("lowest")),
            highest=sql.Literal(bound.get("highest")),
            staged=staged,
        ),
    )
    verdict = Verdict(
        gate="published keys",
        rule=f"({', '.join(contract.key)}) is not published in another partition",
        verdict="FAIL" if twice else "PASS",
        value=f"{twice} of {batch.accepted_count} rows",
        target="0 rows",
        target_source=f"{contract.reference}:{contract.key_line}",
        rule_set_version=contract.version,
    )
    figures = {"batch": batch.batch_id, "key": contract.key, "published_elsewhere": twice}
    return counted(folder / "published_keys.json", figures, [verdict])
