"""Connections to Redis, straight or through sentinels; whatever cannot be reached is a transient error that says where it looked.

What is kept there is `lease.py`'s and `cache.py`'s matter. None of it is the truth: PostgreSQL is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tidegate.errors import StackError, UnavailableError, UsageError, first_line

if TYPE_CHECKING:
    import redis

PREFIX = "tidegate:"
"""Of every key: the platform's user may touch no other."""

_SCHEMES = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379, "rediss+sentinel": 26379}


@dataclass(frozen=True)
class Address:
    """Where Redis is: one server, or sentinels that know which server is the master called `service`."""

    hosts: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None
    database: int
    tls: bool
    service: str | None

    @classmethod
    def of(cls, url: str) -> Address:
        """Read `redis[s]://user:password@host:port/0` or `redis[s]+sentinel://user:password@host:port,…/service`.

        Raises:
            UsageError: it is neither. (Whether it needs TLS is decided where settings are read.)
        """
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES:
            raise UsageError(f"TIDEGATE_REDIS_URL begins with {parts.scheme!r}, expected one of {', '.join(_SCHEMES)}")
        login, _, places = parts.netloc.rpartition("@")
        username, _, password = login.partition(":")
        hosts = tuple(_host(place, _SCHEMES[parts.scheme]) for place in places.split(","))
        tail = unquote(parts.path.strip("/"))
        sentinels = parts.scheme.endswith("+sentinel")
        if sentinels == (tail.isdigit() or not tail) and (sentinels or tail):
            wanted = "the name of the master that the sentinels watch" if sentinels else "the number of a database"
            raise UsageError(f"TIDEGATE_REDIS_URL ends in {tail!r}, expected {wanted}")
        tls = parts.scheme.startswith("rediss")
        database = int(tail or 0) if not sentinels else 0
        return cls(
            hosts, unquote(username) or None, unquote(password) or None, database, tls, tail if sentinels else None
        )

    def __str__(self) -> str:
        """Return the address as it may be shown: without its password."""
        scheme = ("rediss" if self.tls else "redis") + ("+sentinel" if self.service else "")
        user = f"{self.username}@" if self.username else ""
        places = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{scheme}://{user}{places}/{self.service or self.database}"


def _host(place: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise UsageError("TIDEGATE_REDIS_URL names no host: redis://user:password@host:6379/0")
    return parts.hostname, parts.port or port


class Store:
    """A Redis to talk to; safe to share among threads. `client` is redis-py's, to be used inside `reached()`."""

    def __init__(self, url: str, *, retries: int = 3, patience: float = 2) -> None:
        """Prepare to connect; nothing is sent yet. `patience` is how many seconds each attempt may take."""
        from redis.backoff import ExponentialWithJitterBackoff
        from redis.retry import Retry

        self.address = Address.of(url)
        self._options: dict[str, Any] = {
            "username": self.address.username,
            "password": self.address.password,
            "socket_timeout": patience,
            "socket_connect_timeout": patience,
            # Asking for what a 7.0 does not know costs a round trip a connection.
            "protocol": 2,
            "ssl": self.address.tls,
        }
        self._retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries)
        self.client: redis.Redis = self._connect()

    def _connect(self) -> redis.Redis:
        import redis
        from redis.sentinel import Sentinel

        if self.address.service is None:
            host, port = self.address.hosts[0]
            return redis.Redis(host, port, self.address.database, retry=self._retry, **self._options)
        sentinels = Sentinel(list(self.address.hosts), sentinel_kwargs=self._options, **self._options)
        return sentinels.master_for(self.address.service, retry=self._retry)

    @contextmanager
    def reached(self) -> Iterator[redis.Redis]:
        """Hand out the client; what goes wrong between here and the server becomes a typed error.

        Raises:
            UnavailableError: the server does not answer, or is not fit to (loading, full, a replica by now).
            StackError: it refuses the user, or what that user asks for.
        """
        from redis import exceptions

        try:
            yield self.client
        except (
            exceptions.AuthenticationError,
            exceptions.AuthorizationError,
            exceptions.NoPermissionError,
        ) as refused:
            raise StackError(
                f"Redis at {self.address} refuses the user or its command ({first_line(refused)}): TIDEGATE_REDIS_URL needs "
                "a user with the rights that src/tidegate/stack/redis_server.py lists"
            ) from refused
        except exceptions.RedisError as error:
            raise UnavailableError(
                f"Redis at {self.address} does not answer ({first_line(error)}); `tidegate status` shows the stack, "
                "`tidegate up --with redis` starts it"
            ) from error

    def close(self) -> None:
        """Let go of every connection."""
        self.client.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
