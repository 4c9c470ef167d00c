"""How long readers see a partition: what its contract promises, counted on the calendar. How it goes is told in `partitions`."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tidegate.contracts import Contract
from tidegate.errors import ContractError
from tidegate.gates import ledger
from tidegate.gates.ledger import Batch
from tidegate.publish import ahead
from tidegate.stores.postgres import Connection

#: What a person has brought back stays so long, however old it is.
RESTORED_FOR = timedelta(days=30)
_PERIOD = re.compile(r"(\d+) (d|day|days|w|week|weeks|m|mo|month|months|y|year|years)\Z", re.I)


@dataclass(frozen=True)
class Kept:
    """A partition that was published: its batch, and until when readers see it; None is for ever."""

    batch: Batch
    until: datetime | None

    def outlived(self, now: datetime) -> bool:
        """Return whether it is published still, and its time is over."""
        return self.batch.state == "published" and self.until is not None and self.until <= now


def partitions(connection: Connection, contract: Contract) -> list[Kept]:
    """Return the partitions of a dataset that are published or archived, by name.

    Raises:
        ContractError: nobody can tell how long the contract's retention is.
    """
    rows = connection.execute(
        """
        SELECT partition, min(published_at) AS since,
            max(decided_at) FILTER (WHERE action = 'restore') AS restored_at
        FROM ops.batch LEFT JOIN ops.decision ON subject = batch_id
        WHERE dataset = %s AND published_at IS NOT NULL GROUP BY partition
        """,
        [contract.dataset],
    ).fetchall()
    times = {row["partition"]: (row["since"], row["restored_at"]) for row in rows}
    found = [
        Kept(batch, until(contract, batch.partition, *times[batch.partition]))
        for batch in ledger.batches(connection, dataset=contract.dataset)
        if batch.state in ("published", "archived") and batch.partition in times
    ]
    return sorted(found, key=lambda kept: (kept.batch.partition, kept.batch.created_at))


@dataclass(frozen=True)
class Written:
    """A partition that rows of a topic are written to, no batch: until when readers see it; None is for ever."""

    partition: str
    until: datetime | None

    def outlived(self, now: datetime) -> bool:
        """Return whether its time is over."""
        return self.until is not None and self.until <= now


def written(connection: Connection, contract: Contract) -> list[Written]:
    """Return the partitions of a stream that hold rows and were noticed (`notice`), by name; none of other datasets.

    Raises as `partitions` does.
    """
    if contract.topic is None:
        return []
    rows = connection.execute(
        "SELECT partition, noticed_at FROM ops.stream_partition WHERE dataset = %s", [contract.dataset]
    ).fetchall()
    since = {row["partition"]: row["noticed_at"] for row in rows}
    return [
        Written(one.partition, until(contract, one.partition, since[one.partition]))
        for one in ahead.standing(connection, contract)
        if not one.empty and one.partition in since
    ]


def notice(connection: Connection, contract: Contract, now: datetime) -> None:
    """Write down that the partitions of a stream hold rows as of now, where it is not known since when: within a day of it."""
    found = [one.partition for one in ahead.standing(connection, contract) if not one.empty]
    connection.execute(
        "INSERT INTO ops.stream_partition (dataset, partition, noticed_at) SELECT %s, unnest(%s::text[]), %s "
        "ON CONFLICT DO NOTHING",
        [contract.dataset, found, now],
    )


def until(contract: Contract, partition: str, since: datetime, restored_at: datetime | None = None) -> datetime | None:
    """Return when a partition has outlived its contract's retention; None where it has no interval of time, or no end.

    The retention counts from the end of the interval, but not from before the partition was first published: years of
    the past that are taken in today would be archived tonight.
    """
    if contract.retention is None or contract.partitioning is None or contract.partitioning.grain is None:
        return None
    named = contract.partitioning
    end = _later(max(named.start_of(named.following(partition)), since.astimezone(UTC)), contract)
    return end if end is None or restored_at is None else max(end, restored_at + RESTORED_FOR)


def _later(start: datetime, contract: Contract) -> datetime | None:
    period = _PERIOD.match(contract.retention or "")
    if period is None:
        raise ContractError(
            f"{contract.reference}: found a retention of {contract.retention!r}, expected a whole number of days (d), weeks "
            "(w), months (m) or years (y)"
        )
    count, unit = int(period[1]), period[2][0].lower()
    try:
        if unit in "dw":
            return start + timedelta(days=count * (7 if unit == "w" else 1))
        years, month = divmod(start.month - 1 + count * (12 if unit == "y" else 1), 12)
        last = calendar.monthrange(start.year + years, month + 1)[1]
        return start.replace(year=start.year + years, month=month + 1, day=min(start.day, last))
    except (OverflowError, ValueError, calendar.IllegalMonthError):
        # The calendar ends before it does.
        return None
