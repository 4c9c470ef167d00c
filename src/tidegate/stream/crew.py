"""Which partitions of a topic this worker reads: workers share them by advisory locks of the warehouse, not by the broker.

A lock is held by the session that also writes. Whatever ends the one ends the other, so a partition is free as soon as
its worker can write no more; and should two ever read the same one, the offsets in the ledger let only one of them write.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tidegate.errors import BusyError
from tidegate.stores.postgres import Connection

_MOST_WORKERS = 1_000


class Crew:
    """One worker among those of its dataset."""

    def __init__(self, connection: Connection, dataset: str) -> None:
        """Enter the crew.

        Raises:
            BusyError: there are a thousand workers already.
        """
        self._connection = connection
        self._dataset, self._partitions = dataset, f"partitions of {dataset}"
        self._slot = next((slot for slot in range(_MOST_WORKERS) if self._locked(_workers(dataset), slot)), None)
        if self._slot is None:
            raise BusyError(f"{_MOST_WORKERS} workers read {dataset} already; end some of them")
        self.mine: set[int] = set()

    def share(self, partitions: Sequence[int]) -> set[int]:
        """Take this worker's share of the partitions, give back what is more than that, and return it.

        As workers come and go, the shares follow the next time that each of them asks.
        """
        assert self._slot is not None
        quota = math.ceil(len(partitions) / max(1, count(self._connection, self._dataset)))
        self.leave(self.mine - set(partitions))
        self.leave(sorted(self.mine)[quota:])
        turned = self._slot % max(1, len(partitions))
        # Each begins at another place, so that those who come at once do not ask for the same ones.
        for number in (*partitions[turned:], *partitions[:turned]):
            if len(self.mine) >= quota:
                break
            if number not in self.mine and self._locked(self._partitions, number):
                self.mine.add(number)
        return set(self.mine)

    def leave(self, partitions: Iterable[int]) -> None:
        """Give partitions back."""
        for number in list(partitions):
            self._connection.execute("SELECT pg_advisory_unlock(hashtext(%s), %s)", [self._partitions, number])
            self.mine.discard(number)
        self._connection.commit()

    def _locked(self, what: str, number: int) -> bool:
        row = self._connection.execute(
            "SELECT pg_try_advisory_lock(hashtext(%s), %s) AS granted", [what, number]
        ).fetchone()
        self._connection.commit()
        return bool(row and row["granted"])


def count(connection: Connection, dataset: str) -> int:
    """Return how many workers read a dataset's topic now, in whatever processes."""
    row = connection.execute(
        "SELECT count(*) AS workers FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 "
        # pg_locks shows the key's first half as an unsigned number.
        "AND classid::bigint = hashtext(%s)::bigint & 4294967295 "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        [_workers(dataset)],
    ).fetchone()
    connection.commit()
    return int(row["workers"]) if row else 0


def _workers(dataset: str) -> str:
    return f"workers of {dataset}"
