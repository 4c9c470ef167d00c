"""What the attorney writes: what is classified and where it lies, how long it stays, and which demand is met by what.

Nothing here certifies: each demand has a figure, a command or a person who has to answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tidegate.contracts import Contract, load_all
from tidegate.contracts.access import CLASSIFICATIONS, is_classified
from tidegate.delivery.cited import Asked, beside, cite, figures, file, value
from tidegate.delivery.markdown import head, table
from tidegate.delivery.work import Work
from tidegate.gates.tables import of_batches, of_streams
from tidegate.people import places
from tidegate.people.person import personal
from tidegate.publish import retention
from tidegate.stack.roles import LASTS
from tidegate.stores.postgres import Connection, connect, number

_OPEN = "a person must answer"


class Demand(NamedTuple):
    """One demand of a text: how it is met here and by what that can be seen.

    `held` is a probe's figure that has to be 0, as `probe figure`; `tested` a file of tests that holds it. One that has
    neither is a person's to answer, and `how` says what the person has to go by.
    """

    where: str
    asks: str
    how: str
    held: str = ""
    tested: str = ""


def data_classification_matrix(work: Work) -> str:
    """Return every classified column: where it is stored, how it is masked and sealed, who reads it."""
    contracts = load_all(work.settings)
    classified = [(c, column) for c in contracts for column in c.columns if is_classified(column)]
    with connect(work.settings) as connection:
        stored = {c.dataset: _stored(connection, c) for c in {c.dataset: c for c, _ in classified}.values()}
        copies = places.copies(connection, contracts)
        keys = connection.execute("SELECT key_id, retired_at FROM ops.encryption_key ORDER BY key_id").fetchall()
    public = sum(not is_classified(column) for c in contracts for column in c.columns)
    return "\n".join([
        *head(work, "What is classified, and where it lies"),
        f"{len(classified)} of {len(classified) + public} columns are classified, in {len(stored)} of {len(contracts)} datasets; "
        f"{sum(column.sealed for _, column in classified)} of these are sealed before they are written anywhere. Marts with a column of such a name: "
        f"{', '.join(f'`{one}`' for one in copies) or 'none'}.",
        "",
        *table(
            ["dataset", "column", "classification", "personal", "stored as", "where", "shown to others as"],
            [
                [c.dataset, f"`{column.name}`", column.classification, "yes" if column.name in personal(c) else "",
                 "sealed (AES-256-GCM)" if column.sealed else column.stored_type, stored[c.dataset],
                 CLASSIFICATIONS.get(column.classification or "", "nothing")]
                for c, column in classified
            ],
        ),
        "## Datasets without one",
        "",
        *table(
            ["dataset", "columns", "contract"],
            [[c.dataset, len(c.columns), beside(work, c.path)] for c in contracts if c.dataset not in stored],
        ),
        "## Keys that values were sealed under",
        "",
        *table(["key", "state"], [[f"`{k['key_id']}`", f"retired {k['retired_at']:%Y-%m-%d}" if k["retired_at"] else "seals"] for k in keys]),
        f"The keys themselves are in no table: `ops.encryption_key` has names and four bytes that tell one key from another "
        f"({file(work, 'src/tidegate/sealing/keys.py')}).",
        "",
        "## What was found when values were looked at",
        "",
        *figures(work, [
            Asked("confidential columns, wherever a table has one", "pii_encryption", "columns"),
            Asked("values in them", "pii_encryption", "values"), Asked("of these, sealed", "pii_encryption", "sealed"),
            Asked("findings", "pii_encryption", "findings"),
            Asked("tables of classified rows that the audit does not watch", "audit_log_check", "tables_unwatched"),
        ]),
    ])  # fmt: skip


def retention_schedule(work: Work) -> str:
    """Return how long each dataset is kept by its contract, what retention has done, and what is kept beside datasets."""
    contracts = load_all(work.settings)
    rows: list[list[Any]] = []
    with connect(work.settings) as connection:
        for contract in contracts:
            kept = retention.partitions(connection, contract)
            ends = sorted(one.until for one in kept if one.until and one.batch.state == "published")
            states = Counter(one.batch.state for one in kept)
            rows.append([
                contract.dataset, contract.retention or "for ever", beside(work, contract.path), states["published"], states["archived"],
                f"{ends[0]:%Y-%m-%d}" if ends else "never: it has no interval of time",
            ])  # fmt: skip
        steps = connection.execute(
            "SELECT step, count(*) AS times, sum(row_count) AS rows, max(started_at) AS last FROM ops.step WHERE step IN ('archive', 'restore') GROUP BY 1"
        ).fetchall()
        beside_it = connection.execute(_BESIDE).fetchall()
    archived = sum(row[4] for row in rows)
    return "\n".join([
        *head(work, "How long each thing is kept"),
        f"{sum(row[3] for row in rows)} partitions are published and {archived} archived. `upkeep_partitions` archives each night what has outlived its contract: "
        "the table goes after its Parquet was compared with it, and the Parquet stays, where an erasure finds it.",
        "",
        *table(["dataset", "kept for", "promised in", "published", "archived", "first to go"], rows),
        "## What retention has done here",
        "",
        *table(["step", "times", "rows", "last"], [[s["step"], s["times"], s["rows"], f"{s['last']:%Y-%m-%d %H:%M}"] for s in steps] or [["archive", 0, 0, "not yet"]]),
        "## What no contract speaks of",
        "",
        *table(
            ["what", "now", "kept"],
            [
                *([row["what"], row["now"], row["kept"]] for row in beside_it),
                ["verified full backups", "", f"the last {work.settings.backups_kept} (TIDEGATE_BACKUPS_KEPT), older ones go with the WAL that only they needed"],
                ["a partition that a person has restored", "", f"{retention.RESTORED_FOR.days} days at least"],
                ["passwords of logins after a rotation", "", f"{LASTS.days} days"],
                ["a rehearsal", "", "until `tidegate rehearsal down`; persons are masked when it is made"],
            ],
        ),
    ])  # fmt: skip


def gdpr_checklist(work: Work) -> str:
    """Return the demands of the GDPR on a store of personal data, and by what each is met here."""
    with connect(work.settings) as connection:
        erased = number(connection, "SELECT count(*) FROM ops.erasure")
        overdue = _overdue(connection, load_all(work.settings))
    return _checklist(work, "GDPR: demand, answer, proof", [
        Demand("Art. 5(1)(c)", "no more than the purpose needs", "purpose stands in each contract; whether a column is needed, the contract's owner says"),
        Demand("Art. 5(1)(e)", "no longer than the purpose needs", f"retention of contracts; {overdue} partitions are overdue", tested="tests/publish/test_partitions.py"),
        Demand("Art. 5(1)(f)", "protected against unlawful access", "row-level security by tenant, masked views", held="rls_verification foreign_rows_seen"),
        Demand("Art. 6", "a lawful basis", "no contract names one"),
        Demand("Art. 15, 20", "a person gets a copy of their data", "`tidegate person export COLUMN=VALUE --out FILE`", tested="tests/people/test_erasure.py"),
        Demand("Art. 16", "wrong data are put right", "the source delivers the partition again; no command corrects one person's row"),
        Demand("Art. 17", "a person is erased", f"`tidegate person erase`: tables, landed files, quarantine; {erased} erasures so far", tested="tests/people/test_erasure.py"),
        Demand("Art. 25", "by design and by default", "who adds a classified column gets a masked view and policies with it", held="audit_log_check tables_unwatched"),
        Demand("Art. 30", "a record of what is processed", "contracts, lineage and `ops.audit`", held="documents differing"),
        Demand("Art. 32(1)(a)", "encryption", "confidential values are sealed before they are written", held="pii_encryption findings"),
        Demand("Art. 32(1)(b)", "lasting confidentiality and integrity", "SCRAM, loopback or TLS, least rights", held="auth_audit findings"),
        Demand("Art. 32(1)(c)", "data come back after an incident", "restores are rehearsed, compared row by row", held="backup_restore tables_that_differ"),
        Demand("Art. 32(1)(d)", "measures are tried regularly", "an audit's chain that shows any edit", held="audit_log_check chain_findings"),
        Demand("Art. 33, 34", "breaches are told within 72 hours", "`tidegate audit list` tells who read what; whom to tell, no file says"),
        Demand("Art. 35", "an assessment of the impact", "none is in the repository"),
        Demand("Art. 44", "no transfer to where protection is missing", "the stack listens on loopback; where a house hosts it, the house knows"),
    ])  # fmt: skip


def ccpa_checklist(work: Work) -> str:
    """Return the demands of the CCPA on who keeps data of consumers, and by what each is met here."""
    people = [f"{c.dataset}.{name}" for c in load_all(work.settings) for name in personal(c)]
    return _checklist(work, "CCPA: demand, answer, proof", [
        Demand("§ 1798.100", "consumers are told what is collected", f"what there is to tell: {', '.join(people) or 'no personal column'}"),
        Demand("§ 1798.105", "deletion on request", "`tidegate person erase COLUMN=VALUE --why TEXT`, which also finds archived Parquet", tested="tests/people/test_erasure.py"),
        Demand("§ 1798.106", "correction on request", "bookings are corrected at their source and delivered again: who asks the airline to?"),
        Demand("§ 1798.110", "the right to know", "`tidegate person export` writes every row of a person, opened, to a file of mode 0600", tested="tests/people/test_erasure.py"),
        Demand("§ 1798.120", "no sale against a consumer's will", "tidegate sends rows nowhere; what readers of the marts do with them, they answer for"),
        Demand("§ 1798.121", "limits on sensitive data", "document numbers are sealed", held="pii_encryption findings"),
        Demand("§ 1798.125", "no retaliation", "nothing in a warehouse decides that"),
        Demand("§ 1798.130", "an answer within 45 days", "when a request came in is not recorded, when it was done is (`ops.erasure`)"),
        Demand("§ 1798.140(m)", "what is de-identified stays so", "a rehearsal's masks cannot be computed: their salt is thrown away", tested="tests/rehearsal"),
        Demand("§ 1798.150", "reasonable security", "who may come in, and how", held="auth_audit findings"),
    ])  # fmt: skip


def soc2_checklist(work: Work) -> str:
    """Return the criteria of SOC 2 that a warehouse can show something for, and those that people have to answer."""
    with connect(work.settings) as connection:
        verdicts = number(connection, "SELECT count(*) FROM ops.verdict")
        changes = number(connection, "SELECT count(*) FROM ops.schema_change")
    return _checklist(work, "SOC 2: criterion, answer, proof", [
        Demand("CC1 to CC5", "governance, risk, control environment", "no file of this repository says who answers for it in the house"),
        Demand("CC6.1", "logical access is restricted", "logins by SCRAM, passwords generated", held="auth_audit without_scram"),
        Demand("CC6.2, CC6.3", "access is granted and taken by need", f"`tidegate roles rotate`, passwords last {LASTS.days} days; who leaves, people know"),
        Demand("CC6.6", "the boundary is guarded", "addresses off loopback need TLS, or are refused when settings are read", tested="tests/transport"),
        Demand("CC6.7", "data in motion and at rest", "sealed values, and no plain one beside them", held="pii_encryption findings"),
        Demand("CC6.8", "no foreign software gets in", "every package is locked by its hash", held="pip_audit vulnerabilities"),
        Demand("CC7.1", "weak spots are looked for", "secrets in any commit", held="gitleaks_full leaks"),
        Demand("CC7.2", "systems are watched", "`upkeep_database` looks every five minutes and raises alarms", tested="tests/observe/test_alerts.py"),
        Demand("CC7.3, CC7.4", "incidents are handled", "`docs/how-to.md` says what to do about the database; who is called at night, it does not"),
        Demand("CC7.5", "recovery", "a restore beside the warehouse, compared", held="backup_restore tables_that_differ"),
        Demand("CC8.1", "changes are authorised and tested", f"{changes} changes of the schema stand in `ops.schema_change`, each by whom", held="migration_full_chain tables_that_differ"),
        Demand("CC9", "vendors are chosen with care", "no vendor is named but those of the strategy's table of payments"),
        Demand("A1.2", "the service survives a server", "the primary killed under its clients", held="pg_failover lost"),
        Demand("A1.3", "recovery is rehearsed", "`upkeep_restore_drill`, weekly", tested="tests/backup/test_restore.py"),
        Demand("C1.1", "what is confidential is known", "classification in contracts; see the matrix", held="naming_check violations"),
        Demand("C1.2", "what is confidential is disposed of", "archived by retention, erased on request", tested="tests/people/test_erasure.py"),
        Demand("PI1.2, PI1.4", "processing is complete and right", f"{verdicts} verdicts of gates stand in `ops.verdict`", tested="tests/gates/test_judge.py"),
        Demand("P", "privacy notices and consent", "passengers give theirs to an airline, before anything arrives here"),
    ])  # fmt: skip


def _checklist(work: Work, title: str, demands: Sequence[Demand]) -> str:
    rows = [(one, *_answer(work, one)) for one in demands]
    counted = Counter(status for _, status, _ in rows)
    return "\n".join([
        *head(work, title),
        f"{len(rows)} demands: {counted['met']} met, {counted['not met']} not met, {counted['not measured']} not measured in this delivery, "
        f"{counted[_OPEN]} for a person.",
        "",
        *table(
            ["reference", "demand", "how it is met here", "proof", "state"],
            [[one.where, one.asks, one.how, proof, status] for one, status, proof in rows],
        ),
        "## What is left to people",
        "",
        *table(["reference", "question", "what is known"], [[one.where, f"{one.asks}?", one.how] for one, status, _ in rows if status == _OPEN]),
    ])  # fmt: skip


def _answer(work: Work, demand: Demand) -> tuple[str, str]:
    """Return whether a demand is met, and by what that can be seen."""
    if demand.held:
        probe, _, figure = demand.held.partition(" ")
        found = value(work, probe, figure)
        status = "not measured" if found is None else "not met" if found else "met"
        return status, f"`{demand.held}`: {cite(work, probe, figure)}"
    if demand.tested:
        there = (work.settings.project / demand.tested).exists()
        return ("met" if there else "not met"), f"held by {file(work, demand.tested)}"
    return _OPEN, ""


def _stored(connection: Connection, contract: Contract) -> str:
    """Say in how many tables a dataset lies, by schema, beside its landed files and what was refused."""
    found = (*of_batches(connection, contract.dataset), *of_streams(connection, contract.dataset))
    tables = Counter(one.schema for one in found)
    files = number(
        connection,
        "SELECT count(DISTINCT landing_url) FROM ops.batch WHERE dataset = %s AND landing_url <> ''",
        [contract.dataset],
    )
    refused = number(
        connection,
        "SELECT (SELECT count(*) FROM quarantine.refused_row WHERE dataset = %s) "
        "+ (SELECT count(*) FROM quarantine.refused_message WHERE dataset = %s)",
        [contract.dataset, contract.dataset],
    )
    told = [f"{count} tables in {schema}" for schema, count in sorted(tables.items())]
    return ", ".join([*told, f"{files} landed files", f"{refused} refused rows and messages"])


def _overdue(connection: Connection, contracts: Sequence[Contract]) -> int:
    now = datetime.now(UTC)
    published = sum(one.outlived(now) for contract in contracts for one in retention.partitions(connection, contract))
    return published + sum(one.outlived(now) for c in contracts for one in retention.written(connection, c))


_BESIDE = """
SELECT 'lines of the audit' AS what, count(*)::text AS now, 'for ever: each hashes the one before' AS kept FROM ops.audit
UNION ALL SELECT 'verdicts of gates', count(*)::text, 'for ever' FROM ops.verdict
UNION ALL SELECT 'refused rows', count(*)::text, 'for ever, as open, replayed or dismissed' FROM quarantine.refused_row
UNION ALL SELECT 'erasures', count(*)::text, 'for ever: the person as a keyed hash' FROM ops.erasure
UNION ALL SELECT 'batches that were replaced', count(*)::text, 'their tables in archive' FROM ops.batch WHERE state = 'superseded'
"""
