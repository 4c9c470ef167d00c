"""A fast filter in front: messages that were taken in minutes ago fall away before they are sifted.

Redis remembers a digest of each message that came to rest as a row, with the micro-batch that took it. Its word alone counts
for nothing: only where the ledger has that micro-batch, the message was taken. What Redis has forgotten, or cannot say while
it is away, the key of the warehouse's table says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from tidegate.contracts import Contract
from tidegate.errors import StackError, UnavailableError
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection
from tidegate.stores.redis import PREFIX, Store
from tidegate.stream.feed import Haul
from tidegate.stream.sieve import Sieve, Sifted
from tidegate.stream.write import Written

log = structlog.get_logger(__name__)

#: Seconds for which a message is remembered: what producers and brokers send twice comes within them.
REMEMBERED = 600
#: Bytes of a digest; and how many digests Redis is asked for at once, for it does nothing else meanwhile.
_BYTES, _AT_ONCE = 16, 5_000
#: Seconds for which a Redis that did not answer is not asked again.
_PAUSE = 10.0

# prefix, digests end to end → the place of each that is known, and its micro-batch, in turns.
_LOOK = f"""
local found = {{}}
for i = 0, #ARGV[2] / {_BYTES} - 1 do
    local batch = redis.call('GET', ARGV[1] .. string.sub(ARGV[2], i * {_BYTES} + 1, (i + 1) * {_BYTES}))
    if batch then found[#found + 1] = i found[#found + 1] = batch end
end
return found
"""
# prefix, digests end to end, micro-batch, seconds.
_REMEMBER = f"""
for i = 0, #ARGV[2] / {_BYTES} - 1 do
    redis.call('SET', ARGV[1] .. string.sub(ARGV[2], i * {_BYTES} + 1, (i + 1) * {_BYTES}), ARGV[3], 'EX', ARGV[4])
end
"""


@dataclass(frozen=True)
class Look:
    """What the filter says of a haul: the digest of each message, and the places of those that were taken in before."""

    digests: Sequence[bytes | None]
    known: Sequence[int]


class Filter:
    """The filter of one worker, where there is a Redis; of a discreet dataset not even digests are kept there."""

    def __init__(self, settings: Settings, contract: Contract) -> None:
        url = settings.redis_url if not contract.discreet else None
        self._store = Store(url.get_secret_value(), retries=0, patience=0.5) if url else None
        self._dataset, self._prefix = contract.dataset, f"{PREFIX}seen:{contract.dataset}:"
        self._asked_again = 0.0

    def close(self) -> None:
        """Let go of Redis."""
        if self._store is not None:
            self._store.close()

    def look(self, connection: Connection, sieve: Sieve, haul: Haul) -> Look:
        """Return which messages were taken in before."""
        if self._store is None or time.monotonic() < self._asked_again:
            return Look((), ())
        digests = sieve.digests(haul)
        asked = [place for place, digest in enumerate(digests) if digest is not None]
        told: dict[int, str] = {}
        try:
            for first in range(0, len(asked), _AT_ONCE):
                places = asked[first : first + _AT_ONCE]
                with self._store.reached() as redis:
                    found = redis.eval(_LOOK, 0, self._prefix, b"".join(digests[place] or b"" for place in places))
                told |= {places[n]: batch.decode() for n, batch in zip(found[::2], found[1::2], strict=True)}
        except (UnavailableError, StackError) as trouble:
            self._leave(trouble)
            return Look((), ())
        committed = self._committed(connection, set(told.values()))
        return Look(digests, sorted(place for place, batch in told.items() if batch in committed))

    def remember(self, look: Look, haul: Haul, sifted: Sifted, written: Written) -> None:
        """Tell Redis of the messages that a micro-batch has just taken."""
        # Where the warehouse refused one that the sieve let pass, none is remembered: which one it was is not told here.
        if self._store is None or not look.digests or written.refused != len(sifted.refused):
            return
        refused = {(message.topic_partition, message.message_offset) for message in sifted.refused}
        places = zip(haul.topic_partition, haul.message_offset, strict=True)
        taken = [d for d, place in zip(look.digests, places, strict=True) if d is not None and place not in refused]
        try:
            for first in range(0, len(taken), _AT_ONCE):
                some = b"".join(taken[first : first + _AT_ONCE])
                with self._store.reached() as redis:
                    redis.eval(_REMEMBER, 0, self._prefix, some, written.batch_id, str(REMEMBERED))
        except (UnavailableError, StackError) as trouble:
            self._leave(trouble)

    def _leave(self, trouble: Exception) -> None:
        self._asked_again = time.monotonic() + _PAUSE
        log.warning("filter away, the warehouse tells copies", dataset=self._dataset, reason=str(trouble))

    def _committed(self, connection: Connection, batches: set[str]) -> set[str]:
        if not batches:
            return set()
        rows = connection.execute(
            "SELECT batch_id FROM ops.stream_batch WHERE dataset = %s AND batch_id = ANY(%s)",
            [self._dataset, list(batches)],
        ).fetchall()
        connection.commit()
        return {row["batch_id"] for row in rows}
