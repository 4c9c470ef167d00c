"""Partitions that stand before their first row: whoever writes row by row finds one, and changes no schema on its way.

A batch brings its partition along and attaches it (`batches`); what is made here gives way to it while it is empty.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

import structlog
from psycopg import sql

from tidegate.contracts import Contract
from tidegate.errors import TerminalError, UsageError
from tidegate.publish import evolve
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect, impatient, table, take_turn

log = structlog.get_logger(__name__)

#: Intervals after the present one.
COUNT = 2
_LONGEST_NAME = 63


class PutAwayError(TerminalError):
    """The partition was archived, or taken back: made anew it would be half of what it was."""


@dataclass(frozen=True)
class Ahead:
    """A partition that no batch has brought along: its table in the dataset's schema, and whether a row stands in it."""

    dataset: str
    partition: str
    table: str
    empty: bool

    @property
    def state(self) -> str:
        """`ahead` until its first row, `written` from then on."""
        return "ahead" if self.empty else "written"


def make_ahead(settings: Settings, contract: Contract, now: datetime, count: int = COUNT) -> list[str]:
    """Make the empty partitions of the interval of `now` and of the `count` after it; return those that were not there.

    Each is made in a transaction of its own, so that what is cut short goes on where it was.

    Raises:
        UsageError: the dataset is not parted by the calendar, which alone knows what comes next.
        ContractError: the published table cannot be brought to the contract.
        BusyError: another change of the published table does not end; what is missing is made by the next call.
    """
    named = contract.partitioning
    if named is None or named.grain is None:
        raise UsageError(
            f"{contract.dataset} is parted by {named or 'nothing'}: only of a year, month or day can be told what comes next"
        )
    wanted = [named.of_instant(now)]
    while len(wanted) <= count:
        wanted.append(named.following(wanted[-1]))
    with connect(settings) as connection:
        made = [partition for partition in wanted if standing_table(connection, contract, partition) is None]
        connection.commit()
        for partition in made:
            ensure_partition(connection, contract, partition)
            connection.commit()
    return made


def ensure_partition(connection: Connection, contract: Contract, partition: str) -> str:
    """Return the table that takes a partition's rows, which stands in the dataset's schema; it is made if there is none.

    No reader and no writer of the published table is waited for, and none waits. One that stands costs a look into the
    catalog, without a lock. What is made is seen by others when the caller's transaction ends, for which a second that
    wants the same waits: commit before the rows are written. The published table is made, or brought to its contract,
    with it.

    Raises:
        UsageError: the contract has no partition of that name.
        PutAwayError: it is one of a stream, and was archived.
        ContractError: the published table cannot be brought to the contract.
        BusyError: another change of the published table does not end; nothing was done.
    """
    contract.parts_of(partition)
    if (there := standing_table(connection, contract, partition)) is not None:
        return there
    with impatient(connection):
        take_turn(connection, turn(contract.dataset, partition))
        evolve.ensure(connection, contract)
        if (there := standing_table(connection, contract, partition)) is not None:
            return there
        # Under the lock that whoever archives it has held.
        _require_not_put_away(connection, contract, partition)
        name = name_of(contract, partition)
        parent, own = table(contract.schema, contract.table), table(contract.schema, name)
        # Not PARTITION OF: that waits for every reader of the published table, and lets none in meanwhile.
        connection.execute(
            sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING CONSTRAINTS INCLUDING INDEXES)").format(own, parent)
        )
        evolve.adapt(connection, contract, contract.schema, name)
        connection.execute(
            sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})").format(parent, own, sql.Literal(partition))
        )
    log.info("partition made", dataset=contract.dataset, partition=partition, table=name)
    return name


def _require_not_put_away(connection: Connection, contract: Contract, partition: str) -> None:
    if contract.topic is None:
        # A batch brings all of a partition along.
        return
    row = connection.execute(
        "SELECT state FROM ops.batch WHERE dataset = %s AND partition = %s AND state IN ('archived', 'undone') "
        "ORDER BY created_at DESC LIMIT 1",
        [contract.dataset, partition],
    ).fetchone()
    if row is not None:
        raise PutAwayError(
            f"a row of a partition that is kept, and {partition} is {row['state']}: `tidegate partition restore {contract.dataset} "
            f"{partition} --why …` brings an archived one back, and then it takes rows again"
        )


def turn(dataset: str, partition: str) -> str:
    """Return the name of the lock under which one transaction at a time changes what stands for a partition."""
    return f"partition {dataset} {partition}"


def name_of(contract: Contract, partition: str) -> str:
    """Return the name of the table that a partition's rows are written to: `flight_event__2013_01`."""
    part = "".join(c if c.isalnum() else "_" for c in partition.lower())
    plain = f"{contract.dataset}__{part}"
    calendar = contract.partitioning is not None and contract.partitioning.grain is not None
    if calendar and len(plain) <= _LONGEST_NAME:
        return plain
    # What is cut, or written in other characters, may be alike; the digest is not.
    digest = hashlib.sha256(f"{contract.dataset} {partition}".encode()).hexdigest()[:12]
    return f"{contract.dataset[:24]}__{part[:18]}__{digest}"


def standing(connection: Connection, contract: Contract) -> list[Ahead]:
    """Return the partitions of a dataset that no batch has brought along, by name."""
    rows = connection.execute(
        """
        SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bound
        FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
        WHERE inhparent = to_regclass(format('%%I.%%I', %s::text, %s::text))
            AND NOT EXISTS (SELECT FROM ops.batch WHERE batch_id = right(c.relname, 16))
        ORDER BY c.relname
        """,
        [contract.schema, contract.table],
    ).fetchall()
    _see_all(connection, contract)
    found = []
    for row in rows:
        partition = row["bound"].removeprefix("FOR VALUES IN ('").removesuffix("')").replace("''", "'")
        found.append(Ahead(contract.dataset, partition, row["name"], _is_empty(connection, contract, row["name"])))
    return sorted(found, key=lambda ahead: ahead.partition)


def standing_table(connection: Connection, contract: Contract, partition: str) -> str | None:
    """Return the name of the table that is attached for a partition, a batch's or another; None if there is none."""
    row = connection.execute(
        """
        SELECT c.relname AS name FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
        WHERE inhparent = to_regclass(format('%%I.%%I', %s::text, %s::text))
            AND pg_get_expr(c.relpartbound, c.oid) = 'FOR VALUES IN (' || quote_literal(%s::text) || ')'
        """,
        [contract.schema, contract.table, partition],
    ).fetchone()
    return row["name"] if row else None


def give_way(connection: Connection, contract: Contract, partition: str) -> None:
    """Take the empty partition away, in the caller's transaction, for a batch that brings its own table along.

    That waits for every reader of the published table, as to replace a batch does.

    Raises:
        TerminalError: rows were written to it, which the batch would hide.
    """
    name = standing_table(connection, contract, partition)
    if name != name_of(contract, partition):
        return
    place = table(contract.schema, name)
    # The locks first, in the order of those who read: then nobody can add a row to what is found empty.
    connection.execute(
        sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(table(contract.schema, contract.table), place)
    )
    _see_all(connection, contract)
    if not _is_empty(connection, contract, name):
        raise TerminalError(
            f"{contract.dataset} {partition} has rows that came one by one (table {contract.schema}.{name}), and a batch would take "
            "their place; nothing was changed. Write its rows the way the others came, or move those into a delivery first"
        )
    connection.execute(sql.SQL("DROP TABLE {}").format(place))


def _see_all(connection: Connection, contract: Contract) -> None:
    """Let the owner see every tenant's rows: a table must not seem empty for a policy."""
    if contract.tenant is not None:
        connection.execute("SELECT ops.enter_all()")


def _is_empty(connection: Connection, contract: Contract, name: str) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM {}) AS found").format(table(contract.schema, name))
    row = connection.execute(query).fetchone()
    return row is not None and not row["found"]
