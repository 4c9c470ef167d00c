"""A lease: the right to work on something, for as long as its holder shows signs of life, with a fencing token.

All leases stand in one hash without a time to live, so that a full memory evicts none; when each ends is judged by
the server's clock. Tokens come from one counter, in the same script that grants. Redis may forget both (a power cut,
a failover): whoever writes what counts shows the token to PostgreSQL, too (gates.claim).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from tidegate.errors import BusyError, StackError, UnavailableError
from tidegate.stores.redis import PREFIX, Store

log = structlog.get_logger(__name__)

LEASES, TOKEN = f"{PREFIX}leases", f"{PREFIX}token"
SECONDS = 15.0
"""How long a lease outlives the last sign of life of its holder, who gives one three times as often."""

_HEAD = """#!lua flags=allow-oom
local function now() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end
local function lease(subject)
    local text = redis.call('HGET', KEYS[1], subject)
    return text and cjson.decode(text)
end
local function put(subject, holder, token, since, milliseconds)
    redis.call('HSET', KEYS[1], subject, cjson.encode(
        {holder = holder, token = token, since = since, ends = now() + milliseconds}))
end
"""

# subject, holder, milliseconds → the lease's text if another holds it, else the token. Asked again, it answers the same.
_TAKE = f"""{_HEAD}
local held = lease(ARGV[1])
if held and held.holder == ARGV[2] then return held.token end
if held and held.ends > now() then return cjson.encode(held) end
local others = redis.call('HGETALL', KEYS[1])
for i = 1, #others, 2 do
    -- Of workers that died, and whose work nobody has taken up: gone after an hour.
    if cjson.decode(others[i + 1]).ends < now() - 3600000 then redis.call('HDEL', KEYS[1], others[i]) end
end
local token = redis.call('INCR', KEYS[2])
put(ARGV[1], ARGV[2], token, now(), ARGV[3])
return token
"""

# subject, holder, milliseconds, token → whether it is held still. One that the server has forgotten, counter and all, is put back.
_RENEW = f"""{_HEAD}
local held, token = lease(ARGV[1]), tonumber(ARGV[4])
if held and held.token == token and held.holder == ARGV[2] then
    put(ARGV[1], ARGV[2], token, held.since, ARGV[3])
    return 1
end
if held or tonumber(redis.call('GET', KEYS[2]) or 0) >= token then return 0 end
redis.call('SET', KEYS[2], ARGV[4])
put(ARGV[1], ARGV[2], token, now(), ARGV[3])
return 1
"""

# subject, holder, token → whether it was still held.
_RELEASE = f"""{_HEAD}
local held = lease(ARGV[1])
if not held or held.token ~= tonumber(ARGV[3]) or held.holder ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
"""


@dataclass(frozen=True)
class Lease:
    """Who works on what: `token` is greater than that of every lease before it, `since` and `ends` are seconds since 1970."""

    subject: str
    holder: str
    token: int
    since: float = 0
    ends: float = 0


def take(store: Store, subject: str, holder: str, seconds: float = SECONDS) -> Lease:
    """Take a lease, or find the one that `holder` has already.

    Raises:
        BusyError: somebody else holds it.
        UnavailableError: Redis does not answer.
    """
    with store.reached() as client:
        answer = client.eval(_TAKE, 2, LEASES, TOKEN, subject, holder, str(round(seconds * 1000)))
    if isinstance(answer, int):
        return Lease(subject, holder, answer)
    other = _read(subject, answer)
    raise BusyError(
        f"{subject} is being worked on by another process ({other.holder}, token {other.token}); try again when it has ended"
    )


def find(store: Store, subject: str) -> Lease | None:
    """Return the lease on something, also one that has run out and that nobody has taken since."""
    with store.reached() as client:
        text = client.hget(LEASES, subject)
    return _read(subject, text) if text else None


def everybody(store: Store) -> list[Lease]:
    """Return all leases, the oldest first; those that have run out are among them."""
    with store.reached() as client:
        found = client.hgetall(LEASES)
    return sorted((_read(_text(name), value) for name, value in found.items()), key=lambda one: one.token)


def renew(store: Store, lease: Lease, seconds: float = SECONDS) -> bool:
    """Give a sign of life; return whether the lease is still held (one that Redis lost altogether is put back)."""
    words = (lease.subject, lease.holder, str(round(seconds * 1000)), str(lease.token))
    with store.reached() as client:
        return bool(client.eval(_RENEW, 2, LEASES, TOKEN, *words))


def release(store: Store, lease: Lease) -> bool:
    """Give the lease back, if it is still this one; return whether it was."""
    with store.reached() as client:
        return bool(client.eval(_RELEASE, 2, LEASES, TOKEN, lease.subject, lease.holder, str(lease.token)))


@contextmanager
def held(store: Store, subject: str, holder: str, seconds: float = SECONDS) -> Iterator[Lease]:
    """Hold a lease for as long as the block runs.

    A lease that is lost meanwhile is logged and not taken again: a holder that comes late is stopped by its token.

    Raises:
        BusyError: somebody else holds it.
        UnavailableError: Redis does not answer.
    """
    lease = take(store, subject, holder, seconds)
    done = threading.Event()
    living = threading.Thread(target=_live, args=(store, lease, seconds, done), name=f"lease {subject}", daemon=True)
    living.start()
    try:
        yield lease
    finally:
        done.set()
        living.join()
        try:
            release(store, lease)
        except (UnavailableError, StackError) as away:
            log.warning("lease not given back", subject=subject, token=lease.token, reason=str(away))


def _live(store: Store, lease: Lease, seconds: float, done: threading.Event) -> None:
    while not done.wait(seconds / 3):
        try:
            if not renew(store, lease, seconds):
                log.warning("lease lost", subject=lease.subject, token=lease.token)
                return
        except (UnavailableError, StackError) as away:
            log.warning("lease not renewed", subject=lease.subject, token=lease.token, reason=str(away))


def _read(subject: str, text: bytes | str) -> Lease:
    kept = json.loads(text)
    return Lease(subject, kept["holder"], int(kept["token"]), kept["since"] / 1000, kept["ends"] / 1000)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
