"""Marts that follow a stream: refreshed from the rows of each micro-batch, a second after it or when nothing more comes.

dbt makes such a mart and says how it is refreshed (macros/live.sql); PostgreSQL does it (ops.refresh_mart). Here is
when, and that a mart which cannot follow never stops the stream.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

import psycopg
import structlog

from tidegate.errors import BusyError, first_line
from tidegate.stores.postgres import Connection, impatient

log = structlog.get_logger(__name__)

#: Seconds between two refreshes while rows come.
_PAUSE = 1.0
#: Whoever locks a mart makes it anew, with all rows; and a mart that takes so long is no live one.
_COURTESY, _LONGEST = "100ms", "20s"


@dataclass(frozen=True)
class Mart:
    """One row of ops.stream_mart whose table is there, in whichever schema it stands."""

    oid: int
    name: str
    refreshed_at: datetime | None
    trouble: str | None


class LiveMarts:
    """The marts of one worker's dataset, as its turns go by."""

    def __init__(self, connection: Connection, dataset: str) -> None:
        self._connection, self._dataset = connection, dataset
        # A worker that was killed may have left them behind.
        self._behind, self._refreshed = True, float("-inf")

    def turn(self, came: bool) -> None:
        """Tell that a micro-batch has come, or that nothing did; the marts follow when it is time."""
        self._behind |= came
        if self._behind and (not came or time.monotonic() - self._refreshed >= _PAUSE):
            self.catch_up()

    def catch_up(self) -> None:
        """Let the marts follow now, whatever others have left."""
        refresh(self._connection, self._dataset)
        self._behind, self._refreshed = False, time.monotonic()


def refresh(connection: Connection, dataset: str) -> int:
    """Bring every live mart of a dataset up to date, each in a transaction of its own; return how many rows changed.

    A mart that another process refreshes, or that dbt makes anew at this moment, is left to them. One that fails is told
    in the log and in ops.stream_mart, and tried again by the next call.

    Raises:
        psycopg.OperationalError: the warehouse went away.
    """
    return sum(_refreshed(connection, mart) for mart in marts(connection, dataset))


def marts(connection: Connection, dataset: str) -> list[Mart]:
    """Return the live marts of a dataset: those that readers see, and those of the builds before and after."""
    with connection.transaction():
        rows = connection.execute(
            "SELECT mart::oid AS oid, mart::text AS name, refreshed_at, trouble FROM ops.stream_mart "
            "WHERE dataset = %s AND EXISTS (SELECT FROM pg_class WHERE oid = mart) ORDER BY 2",
            [dataset],
        ).fetchall()
    return [Mart(**row) for row in rows]


def _refreshed(connection: Connection, mart: Mart) -> int:
    try:
        with impatient(connection, _COURTESY):
            connection.execute(f"SET LOCAL statement_timeout = '{_LONGEST}'")
            row = connection.execute("SELECT ops.refresh_mart(%s::oid) AS changed", [mart.oid]).fetchone()
            return int(row["changed"] or 0) if row else 0
    except BusyError:
        return 0
    except psycopg.Error as error:
        if connection.closed:
            raise
        _tell(connection, mart, first_line(error))
        return 0


def _tell(connection: Connection, mart: Mart, reason: str) -> None:
    """Write down why a mart stands still; in the log once, however often and by however many workers it is tried."""
    with connection.transaction():
        told = connection.execute(
            "UPDATE ops.stream_mart SET trouble = %(reason)s WHERE mart = %(oid)s::oid AND trouble IS DISTINCT FROM %(reason)s",
            {"reason": reason, "oid": mart.oid},
        )
    if told.rowcount:
        log.error("live mart stands still", mart=mart.name, reason=reason)
