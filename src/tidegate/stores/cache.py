"""A cache of JSON values: computed once however many ask at once, kept for a while, given up when memory is short.

What is in it may be gone at any moment, and without Redis every value is computed. A copy here has no row-level
security: whose rights a value was read with is part of its name.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import structlog

from tidegate.errors import BusyError, UnavailableError
from tidegate.stores import lease
from tidegate.stores.redis import PREFIX, Store

log = structlog.get_logger(__name__)


@dataclass
class Cache:
    """Values of one kind, each kept for `seconds`.

    `audience` names whose rights they were read with (a role, a role and a tenant): another audience has its own.
    `hits` counts what Redis had, `misses` what was computed.
    """

    store: Store
    name: str
    audience: str
    seconds: float
    patience: float = 5.0
    """Seconds that one who asks waits for another who computes; after that it computes for itself."""
    hits: int = field(default=0, init=False)
    misses: int = field(default=0, init=False)

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return the value of `key`, computing it if nobody has; what `compute` gives must be fit for JSON.

        Of many who ask at once for what is not there, one computes and the others wait for it, up to `patience`
        seconds. What `compute` raises is raised, and nothing is kept.
        """
        found, turn = self._look(key)
        if found is not None:
            self.hits += 1
            return json.loads(found)
        self.misses += 1
        try:
            value = compute()
            if turn:
                self._quietly(lambda: self._keep(key, value))
            return value
        finally:
            if turn:
                self._quietly(lambda: lease.release(self.store, turn))

    def forget(self, key: str) -> None:
        """Drop one value; the next who asks computes it anew. Raises UnavailableError."""
        with self.store.reached() as client:
            client.delete(self._place(key))

    def _look(self, key: str) -> tuple[bytes | None, lease.Lease | None]:
        """Return the value, or the turn to compute it; neither where Redis is away or another takes too long."""
        subject, holder = f"compute {self._place(key)}", f"{os.getpid()} {uuid.uuid4().hex[:8]}"
        deadline = time.monotonic() + self.patience
        turn = None
        try:
            found = self._find(key)
            while found is None and turn is None and time.monotonic() < deadline:
                try:
                    turn = lease.take(self.store, subject, holder, self.patience)
                except BusyError:
                    time.sleep(0.02)
                # Whoever had the turn before may have just put it there.
                found = self._find(key)
            if found is not None and turn:
                lease.release(self.store, turn)
        except UnavailableError as away:
            log.warning("cache away", cache=self.name, reason=str(away))
            return None, None
        return found, turn

    def _find(self, key: str) -> bytes | None:
        with self.store.reached() as client:
            found: bytes | None = client.get(self._place(key))
        return found

    def _keep(self, key: str, value: Any) -> None:
        text = json.dumps(value)
        with self.store.reached() as client:
            client.set(self._place(key), text, px=max(1, round(self.seconds * 1000)))

    def _quietly(self, action: Callable[[], object]) -> None:
        """Do what helps the next one; that Redis went away, or has no room, does not take the value from this one."""
        try:
            action()
        except UnavailableError as away:
            log.warning("value not kept", cache=self.name, reason=str(away))

    def _place(self, key: str) -> str:
        # Quoted, so that no audience can be taken for another whose name goes on in the key.
        return f"{PREFIX}cache:{quote(self.name, safe='')}:{quote(self.audience, safe='')}:{key}"
