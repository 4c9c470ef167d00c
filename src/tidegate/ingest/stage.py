"""Stage a batch: copy its landed Parquet into a table of its own in `staging`, not yet visible to readers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import structlog
from psycopg import sql

from tidegate.contracts import Contract, access, ddl
from tidegate.errors import ContractError, TerminalError, UnavailableError, first_line
from tidegate.gates import ledger
from tidegate.gates.claim import Claim, claim
from tidegate.gates.ledger import Batch
from tidegate.gates.verdict import Evidence, Verdict, counted, evidence_folder, written_in
from tidegate.sealing import columns
from tidegate.settings import Settings
from tidegate.stores import objects
from tidegate.stores.postgres import Connection, connect, number, table

log = structlog.get_logger(__name__)

#: Rows from which two connections copy at once; below, a second connection costs more than it saves.
_PARALLEL_FROM = 200_000
_STREAMS = 2
_READ_ROWS = 65_536


def stage(settings: Settings, contract: Contract, batch_id: str) -> Batch:
    """Copy a landed batch into `staging` and make the table fit to be published.

    A batch that is staged already, or has gone further, is left as it is. A table that a killed run left
    behind is replaced: its rows are those of the landing file, so nothing is lost.

    Raises:
        ContractError: the batch was landed under another version of the contract.
        BusyError: another process works on the batch.
        UnavailableError: the warehouse or the landing area cannot be used at the moment.
    """
    with claim(settings, batch_id) as mine:
        connection = mine.connection
        batch = ledger.get_batch(connection, batch_id)
        if batch.state != "landed":
            return batch
        if batch.contract_version != contract.version:
            raise ContractError(
                f"batch {batch.batch_id} of {batch.dataset} {batch.partition} was landed under version "
                f"{batch.contract_version} of {contract.reference}, which is {contract.version} now: take the delivery in "
                "again (`tidegate ingest`), and it is a batch of this version; nothing was published"
            )
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table("staging", batch.table)))
        connection.execute(ddl.batch_table(contract, batch.table))
        if access.is_watched(contract):
            connection.execute(access.watch_loading(batch.table))
        mine.check()
        connection.commit()
        with ledger.timed(settings, batch_id, "stage") as timing:
            timing.rows = _copy(settings, contract, batch, mine)
            with connection.transaction():
                connection.execute(ddl.finish_batch_table(contract, batch.table, batch.partition, batch.batch_id))
                if access.is_watched(contract):
                    connection.execute(sql.SQL("; ").join(access.watch(contract, "staging", batch.table)))
                judged = _reconcile(settings, connection, batch)
                ledger.set_state(connection, batch_id, "staged")
                ledger.record_verdicts(connection, batch_id, batch.dataset, batch.partition, *judged)
                mine.check()
            # The gate that follows joins by the key; autovacuum looks at the other columns in its own time.
            analyzed = sql.SQL(", ").join(map(sql.Identifier, contract.key or [contract.columns[0].name]))
            connection.execute(sql.SQL("ANALYZE {} ({})").format(table("staging", batch.table), analyzed))
            connection.commit()
        log.info("batch staged", dataset=batch.dataset, batch_id=batch_id, rows=timing.rows)
        return ledger.get_batch(connection, batch_id)


def _reconcile(settings: Settings, connection: Connection, batch: Batch) -> tuple[list[Verdict], list[Evidence]]:
    staged = number(connection, sql.SQL("SELECT count(*) FROM {}").format(table("staging", batch.table)))
    verdict = Verdict(
        gate="reconciliation",
        rule="rows staged = rows accepted",
        verdict="PASS" if staged == batch.accepted_count else "FAIL",
        value=str(staged),
        target=str(batch.accepted_count),
        target_source=written_in(_reconcile),
        rule_set_version=version("tidegate"),
    )
    figures = {"batch": batch.batch_id, "accepted": batch.accepted_count, "staged": staged}
    folder = evidence_folder(settings.home, batch.dataset, batch.batch_id)
    return counted(folder / "staged.json", figures, [verdict])


def _copy(settings: Settings, contract: Contract, batch: Batch, mine: Claim) -> int:
    import pyarrow.parquet as pq

    with objects.opened(batch.landing_url) as stream:
        parquet = pq.ParquetFile(stream)
        columns.require_sealed(contract, parquet.schema_arrow, f"batch {batch.batch_id}")
        metadata = parquet.metadata
    groups = list(range(metadata.num_row_groups))
    streams = _STREAMS if metadata.num_rows >= _PARALLEL_FROM else 1
    shares = [share for share in (groups[n::streams] for n in range(streams)) if share]
    with ThreadPoolExecutor(max_workers=max(1, len(shares))) as pool:
        return sum(pool.map(lambda share: _copy_groups(settings, batch, mine, share), shares))


def _copy_groups(settings: Settings, batch: Batch, mine: Claim, groups: list[int]) -> int:
    """Copy some row groups over one connection, in one transaction; PostgreSQL's binary COPY, streamed."""
    import psycopg
    import pyarrow.parquet as pq
    from pgpq import ArrowToPostgresBinaryEncoder

    copy = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT BINARY)")
    with objects.opened(batch.landing_url) as stream, connect(settings) as connection, connection.cursor() as cursor:
        parquet = pq.ParquetFile(stream)
        names = sql.SQL(", ").join(map(sql.Identifier, parquet.schema_arrow.names))
        encoder = ArrowToPostgresBinaryEncoder(parquet.schema_arrow)
        # This session outlives the one that holds the lock: nobody else can begin before its rows are in or gone.
        mine.check(connection)
        try:
            with cursor.copy(copy.format(table("staging", batch.table), names)) as target:
                target.write(encoder.write_header())
                for rows in parquet.iter_batches(batch_size=_READ_ROWS, row_groups=groups):
                    target.write(encoder.write_batch(rows))
                target.write(encoder.finish())
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError) as error:
            raise TerminalError(
                f"batch {batch.batch_id}: the warehouse refused the rows: {first_line(error)}"
            ) from error
        except psycopg.Error as error:
            raise UnavailableError(
                f"batch {batch.batch_id}: the warehouse stopped taking rows ({first_line(error)}); run it again: "
                "nothing was published"
            ) from error
        return cursor.rowcount
