"""Clients of Kafka: consumers, producers and administrators at one address, whose errors are the platform's.

What is read from a topic, and how far, is no matter of Kafka's groups but of the warehouse: it is kept where the rows are.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tidegate.errors import StackError, TerminalError, UnavailableError, UsageError, first_line
from tidegate.settings import Settings

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

GROUPS = "tidegate"
"""How the name of every group of consumers begins: the platform's user may be in no other."""
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
PATIENCE = 10.0
"""Seconds in which a broker has to be found."""


@dataclass(frozen=True)
class Address:
    """Where Kafka is, and as whom one comes in."""

    hosts: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None = field(repr=False)
    tls: bool
    mechanism: str
    cafile: str | None

    @classmethod
    def of(cls, url: str) -> Address:
        """Read `kafka[s]://user:password@host:9092,host:9092?mechanism=SCRAM-SHA-512&cafile=/path/ca.pem`.

        Raises:
            UsageError: it is something else; the password is not repeated. (Whether it needs TLS is decided where settings
                are read.)
        """
        parts = urlsplit(url)
        if parts.scheme not in ("kafka", "kafkas"):
            raise UsageError(f"TIDEGATE_KAFKA_URL begins with {parts.scheme!r}, expected kafka:// or kafkas:// (TLS)")
        if "@" in url and "@" not in parts.netloc:
            raise UsageError(
                "TIDEGATE_KAFKA_URL has an @ where no host can be: special characters of the password must be percent-encoded"
            )
        if parts.path.strip("/"):
            raise UsageError(
                "TIDEGATE_KAFKA_URL names something behind its hosts, expected kafka://user:password@host:9092"
            )
        login, _, places = parts.netloc.rpartition("@")
        username, _, password = login.partition(":")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(set(options) - {"mechanism", "cafile"})
        if unknown:
            raise UsageError(f"TIDEGATE_KAFKA_URL has the option {unknown[0]!r}, expected mechanism or cafile")
        mechanism = options.get("mechanism", MECHANISMS[0])
        if mechanism not in MECHANISMS:
            raise UsageError(f"TIDEGATE_KAFKA_URL has mechanism={mechanism}, expected one of {', '.join(MECHANISMS)}")
        return cls(
            tuple(_host(place) for place in places.split(",")), unquote(username) or None, unquote(password) or None,
            parts.scheme == "kafkas", mechanism, options.get("cafile") or None,
        )  # fmt: skip

    def __str__(self) -> str:
        """Return the address as it may be shown: without its password."""
        user = f"{self.username}@" if self.username else ""
        return f"{'kafkas' if self.tls else 'kafka'}://{user}{','.join(f'{host}:{port}' for host, port in self.hosts)}"

    def options(self) -> dict[str, Any]:
        """Return what every client of kafka-python is told; the password is among it."""
        from tidegate.stores.kafka_connections import Client

        return {
            "bootstrap_servers": [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts],
            "client_id": "tidegate",
            "kafka_client": Client,
            "security_protocol": ("SASL_" if self.username else "") + ("SSL" if self.tls else "PLAINTEXT"),
            "ssl_context": self._context() if self.tls else None,
            "sasl_mechanism": self.mechanism if self.username else None,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password,
            # A broker that was restarted is found again within a second, not within thirty.
            "reconnect_backoff_max_ms": 1000,
        }

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.cafile)
        except OSError as error:
            raise UsageError(
                f"TIDEGATE_KAFKA_URL names cafile={self.cafile}, which cannot be read ({first_line(error)}): expected the "
                "certificate of the authority, in PEM"
            ) from None


def _host(place: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname, parts.port or 9092
    except ValueError:
        host, port = None, 0
    if not host:
        raise UsageError("TIDEGATE_KAFKA_URL names no host, or no port: kafka://user:password@host:9092,host:9092")
    return host, port


def address(settings: Settings) -> Address:
    """Return where Kafka is.

    Raises:
        UsageError: nobody has told.
    """
    if settings.kafka_url is None:
        raise UsageError(
            "no Kafka is configured: `tidegate up --with kafka` starts one, TIDEGATE_KAFKA_URL names one of your own"
        )
    return Address.of(settings.kafka_url.get_secret_value())


def consumer(
    place: Settings | Address, *, group: str | None = None, patience: float = PATIENCE, **options: Any
) -> KafkaConsumer:
    """Return a consumer that commits nothing by itself, to be closed; `options` are kafka-python's and win.

    A `group`'s name begins with GROUPS. Raises as `reached` does.
    """
    from kafka import KafkaConsumer

    own = {
        "group_id": group, "enable_auto_commit": False, "auto_offset_reset": "earliest", "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
    }  # fmt: skip
    return _client(KafkaConsumer, place, patience, {**own, **options})


def producer(place: Settings | Address, *, patience: float = PATIENCE, **options: Any) -> KafkaProducer:
    """Return a producer, to be closed: each message is acknowledged by all, and written once however often it is sent.

    `options` are kafka-python's and win. Raises as `reached` does.
    """
    from kafka import KafkaProducer

    own = {"acks": "all", "enable_idempotence": True, "allow_auto_create_topics": False}
    return _client(KafkaProducer, place, patience, {**own, **options})


def admin(place: Settings | Address, *, patience: float = PATIENCE) -> KafkaAdminClient:
    """Return a client for topics and rights, to be closed; raises as `reached` does."""
    from kafka import KafkaAdminClient

    return _client(KafkaAdminClient, place, patience, {})


def _client(kind: Any, place: Settings | Address, patience: float, options: Mapping[str, Any]) -> Any:
    here = place if isinstance(place, Address) else address(place)
    with reached(here):
        return kind(**{**here.options(), "bootstrap_timeout_ms": round(patience * 1000), **options})


def poll(consumer: KafkaConsumer, seconds: float, most: int | None = None) -> dict[Any, list[Any]]:
    """Return what has come by partition, waiting up to `seconds`; to be used inside `reached`.

    kafka-python waits in silence where there is no broker any more: here its reason is raised when nothing came.
    """
    from tidegate.stores.kafka_connections import trouble

    found: dict[Any, list[Any]] = consumer.poll(timeout_ms=round(seconds * 1000), max_records=most)
    if not found and (why := trouble(consumer)):
        raise why
    return found


@contextmanager
def reached(place: Settings | Address) -> Iterator[Address]:
    """Turn what goes wrong between here and the broker into a typed error.

    Raises:
        UsageError: no Kafka is configured, or it has no such topic.
        UnavailableError: no broker answers, or none is fit to by now.
        StackError: it refuses the user, or what that user asks for.
        TerminalError: it cannot do what it is asked, however often it is.
    """
    from kafka import errors

    here = place if isinstance(place, Address) else address(place)
    try:
        yield here
    except errors.UnknownTopicOrPartitionError as error:
        raise UsageError(
            f"Kafka at {here} has no such topic or partition ({first_line(error)}): `tidegate topic list` shows those that "
            "there are, `tidegate topic create NAME` makes one"
        ) from error
    except (
        errors.SaslAuthenticationFailedError,
        errors.AuthorizationError,
        errors.UnsupportedSaslMechanismError,
        errors.IllegalSaslStateError,
    ) as refused:
        raise StackError(
            f"Kafka at {here} refuses the user or what it asks for ({first_line(refused)}): TIDEGATE_KAFKA_URL needs a user "
            "with the rights that src/tidegate/stack/kafka_server.py lists, and the mechanism of its password"
        ) from refused
    except (errors.BrokerResponseError, errors.KafkaConfigurationError) as error:
        if getattr(error, "retriable", False):
            raise _away(here, error) from error
        raise TerminalError(f"Kafka at {here} refuses: {first_line(error)}") from error
    except (errors.KafkaError, OSError) as error:
        raise _away(here, error) from error


def _away(here: Address, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"Kafka at {here} does not answer ({first_line(error)}); `tidegate status` shows the stack, `tidegate up --with kafka` "
        "starts it"
    )
