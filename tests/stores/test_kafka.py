"""Clients of Kafka find their broker again after its death, say why they cannot, and leave nothing open."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import signal
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata
from tests.kafka_servers import CONTROLLERS, KEEPERS, PASSWORD, kill, reaching, serve
from tests.transport.conftest import certificate
from tests.whole import eventually

from tidegate.errors import StackError, TerminalError, UnavailableError, UsageError
from tidegate.settings import Settings, load_settings
from tidegate.stack import port
from tidegate.stack.kafka_server import KEEPER, KafkaServer
from tidegate.stores import kafka as store
from tidegate.stores import topics
from tidegate.stores.kafka import Address

NOWHERE = Address.of("kafka://me:hush@127.0.0.1:1")
CLIENTS = [store.admin, store.consumer, store.producer]


def values(settings: Settings, name: str) -> list[bytes]:
    return sorted(message.value or b"" for message in topics.tail(settings, name, 10_000))


def test_an_address_is_read_and_shown_without_its_password() -> None:
    one = Address.of("kafka://me:p%40w@localhost")
    assert (one.hosts, one.username, one.password, one.tls) == ((("localhost", 9092),), "me", "p@w", False)
    assert one.options()["security_protocol"] == "SASL_PLAINTEXT"
    many = Address.of("kafkas://me:hush@k1.example.org:1,[::1]:2,k3.example.org?mechanism=PLAIN")
    assert many.hosts == (("k1.example.org", 1), ("::1", 2), ("k3.example.org", 9092))
    assert str(many) == "kafkas://me@k1.example.org:1,::1:2,k3.example.org:9092"
    told = many.options()
    assert (told["security_protocol"], told["sasl_mechanism"]) == ("SASL_SSL", "PLAIN")
    assert told["bootstrap_servers"][1] == "[::1]:2"
    context = told["ssl_context"]
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert Address.of("kafka://localhost:1").options()["security_protocol"] == "PLAINTEXT"
    assert "hush" not in repr(many) + str(many)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://me:hush@127.0.0.1", "begins with 'redis'"),
        ("kafka:///", "names no host"),
        ("kafka://me:hush@127.0.0.1:port", "names no host, or no port"),
        ("kafka://me:hush@127.0.0.1/topic", "something behind its hosts"),
        ("kafka://me:hu/sh@127.0.0.1", "must be percent-encoded"),
        ("kafka://me:hush@127.0.0.1?mechanism=NONE", "expected one of SCRAM-SHA-512"),
        ("kafka://me:hush@127.0.0.1?mechanics=PLAIN", "the option 'mechanics', expected mechanism or cafile"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_without_its_password(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        Address.of(url)
    assert "hu" not in re.sub("such|should", "", str(refused.value))


def test_an_authority_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"names cafile=\S+, which cannot be read"):
        store.admin(Address.of(f"kafkas://me:hush@127.0.0.1:1?cafile={tmp_path / 'none.pem'}"))


def test_without_any_kafka_it_is_said_how_to_get_one(settings: Settings) -> None:
    for attempt in (lambda: store.consumer(settings), lambda: topics.listed(settings)):
        with pytest.raises(UsageError, match="no Kafka is configured: `tidegate up --with kafka` starts one"):
            attempt()


def test_a_broker_of_another_machine_is_spoken_to_with_tls_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_KAFKA_URL", "kafka://me:hush@127.0.0.1:1,k.example.org:9092")
    with pytest.raises(UsageError, match=r"names k.example.org, which is another machine.*write kafkas://") as refused:
        load_settings()
    assert "hush" not in str(refused.value)
    monkeypatch.setenv("TIDEGATE_TRUSTED_HOSTS", "k.example.org")
    assert load_settings().kafka_url
    monkeypatch.setenv("TIDEGATE_KAFKA_URL", "kafkas://me:hush@k.example.org:9092")
    monkeypatch.delenv("TIDEGATE_TRUSTED_HOSTS")
    assert "hush" not in repr(load_settings())


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Hold that what happens inside leaves no thread and no descriptor behind; a socket that is lost warns besides."""
    threads, me = set(threading.enumerate()), psutil.Process()
    before = me.num_fds()
    yield
    eventually(lambda: set(threading.enumerate()) <= threads, patience=10)
    assert me.num_fds() <= before


@pytest.mark.parametrize("client", CLIENTS)
def test_where_nobody_answers_it_is_transient_and_nothing_stays_open(client: Callable[..., object]) -> None:
    with nothing_left_open(), pytest.raises(UnavailableError, match=r"kafka://me@127.0.0.1:1 does not answer"):
        client(NOWHERE, patience=0.5)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_listener_that_never_answers_is_given_up(client: Callable[..., object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        here = Address.of(f"kafka://me:hush@127.0.0.1:{silent.getsockname()[1]}")
        with nothing_left_open(), pytest.raises(UnavailableError, match="does not answer"):
            client(here, patience=0.5)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_wrong_password_is_told_as_such_and_not_tried_until_time_is_up(
    client: Callable[..., object], shared_kafka: KafkaServer
) -> None:
    wrong = Address.of(shared_kafka.url().replace(PASSWORD, "a-guess"))
    with nothing_left_open(), pytest.raises(StackError, match="refuses the user") as refused:
        client(wrong, patience=3600)
    assert "a-guess" not in str(refused.value)


def test_a_mechanism_that_the_broker_does_not_know_is_told_as_such(shared_kafka: KafkaServer) -> None:
    with pytest.raises(StackError, match=r"mechanism"):
        store.admin(Address.of(shared_kafka.url() + "?mechanism=PLAIN"), patience=3600)


def test_what_the_broker_refuses_has_the_type_that_says_whether_to_try_again(
    kafka: Settings, shared_kafka: KafkaServer, topic: Callable[..., str]
) -> None:
    name = topic()
    large = closing(store.producer(kafka, max_request_size=10**8))
    with large as producer, pytest.raises(TerminalError, match=r"refuses: .*(?i:large)"), store.reached(kafka):
        producer.send(name, b"x" * 3 * 10**6).get(30)
    keeper = Address.of(shared_kafka.url(KEEPER))
    with closing(store.admin(keeper)) as admin, pytest.raises(UsageError, match="no such topic"), store.reached(keeper):
        admin.delete_topics(["never-made"])


def test_live_clients_outlive_a_broker_that_is_killed(
    own_kafka: KafkaServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = reaching(settings, own_kafka, monkeypatch)
    topics.create(settings, "t", partitions=2)
    got: dict[str, list[bytes]] = {"assigned": [], "in a group": []}
    with (
        closing(store.producer(settings)) as producer,
        closing(store.consumer(settings)) as assigned,
        closing(store.consumer(settings, group="tidegate-test")) as grouped,
        closing(store.admin(settings)) as admin,
    ):
        assigned.assign([TopicPartition("t", 0), TopicPartition("t", 1)])
        grouped.subscribe(["t"])
        readers = {"assigned": assigned, "in a group": grouped}

        def everything(count: int) -> bool:
            for who, consumer in readers.items():
                with store.reached(settings):
                    got[who] += [record.value for records in store.poll(consumer, 0.2).values() for record in records]
            return all(len(values) >= count for values in got.values())

        sent = [producer.send("t", b"%d" % number) for number in range(100)]
        eventually(lambda: everything(100))
        for round_ in (1, 2):
            kill(own_kafka)
            sent += [producer.send("t", b"%d" % number) for number in range(100 * round_, 100 * round_ + 100)]
            for attempt in (lambda: everything(10**6), admin.list_topics):
                with pytest.raises(UnavailableError), store.reached(settings):
                    eventually(lambda attempt=attempt: attempt() is NotImplemented)  # type: ignore[misc]
            own_kafka.start()

            def again(count: int = 100 * round_ + 100) -> bool:
                try:
                    return everything(count)
                except UnavailableError:
                    return False

            eventually(again)
            eventually(lambda: answered(settings, admin))
        assert [one.exception for one in sent if not one.succeeded()] == []
    # No message is lost, none is there twice.
    assert values(settings, "t") == sorted(b"%d" % number for number in range(300))
    assert {who: sorted(found) for who, found in got.items()} == dict.fromkeys(got, values(settings, "t"))


def answered(settings: Settings, admin: object) -> bool:
    try:
        with store.reached(settings):
            return "t" in admin.list_topics()  # type: ignore[attr-defined]
    except UnavailableError:
        return False


def test_clients_come_in_again_when_the_broker_asks_for_the_password_anew(
    reachable_folder: Path, kafka_programs: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(reachable_folder, kafka_programs, settings={"connections.max.reauth.ms": "1500"})
    server.start()
    try:
        settings = reaching(settings, server, monkeypatch)
        topics.create(settings, "t")
        with (
            closing(store.producer(settings)) as producer,
            closing(store.consumer(settings, group="tidegate-t")) as consumer,
        ):
            consumer.subscribe(["t"])
            got, sent, until = [], 0, time.monotonic() + 4
            while time.monotonic() < until or len(got) < sent:
                if time.monotonic() < until:
                    for _ in range(50):
                        producer.send("t", b"%d" % sent)
                        sent += 1
                with store.reached(settings):
                    got += [record.value for records in store.poll(consumer, 0.05).values() for record in records]
        assert sorted(got) == sorted(b"%d" % number for number in range(sent))
    finally:
        server.stop()


def test_a_broker_that_stands_still_is_transient(own_kafka: KafkaServer) -> None:
    here, process = Address.of(own_kafka.url()), own_kafka.running()
    assert process
    os.kill(process.pid, signal.SIGSTOP)
    try:
        for client in CLIENTS:
            with nothing_left_open(), pytest.raises(UnavailableError, match="does not answer"):
                client(here, patience=1)  # type: ignore[operator]
    finally:
        os.kill(process.pid, signal.SIGCONT)
    eventually(own_kafka.answers)


class Guarded(KafkaServer):
    """A broker with a third door, for TLS."""

    tls, keys = 0, Path()

    def configuration(self) -> dict[str, str]:
        found = super().configuration()
        for name in ("listeners", "advertised.listeners"):
            found[name] += f",TLS://127.0.0.1:{self.tls}"
        found["listener.security.protocol.map"] += ",TLS:SASL_SSL"
        own = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.keys),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        }
        return found | {f"listener.name.tls.{name}": value for name, value in own.items()}

    def _secret_lines(self) -> dict[str, str]:
        found = super()._secret_lines()
        return found | {
            name.replace("clients", "tls"): value
            for name, value in found.items()
            if name.startswith("listener.name.clients")
        }


def test_with_tls_a_broker_is_known_by_its_certificate(reachable_folder: Path, kafka_programs: Path) -> None:
    folder = reachable_folder / "guarded-kafka"
    folder.mkdir(mode=0o711)
    cert, key = certificate(folder, "kafka.test")
    ports: set[int] = set()
    for _ in range(3):
        ports.add(port.choose(27000, folder, ports))
    own, controllers, tls = sorted(ports)
    server = Guarded(
        folder / "kafka", kafka_programs, PASSWORD, KEEPERS, CONTROLLERS, folder / "log", own, controllers, "192mb"
    )
    server.tls, server.keys = tls, folder / "both.pem"
    server.keys.touch(mode=0o600)
    server.keys.write_bytes(key.read_bytes() + cert.read_bytes())
    if server.user:
        shutil.chown(server.keys, server.user)
    server.start()
    try:
        guarded = f"kafkas://tidegate:{PASSWORD}@127.0.0.1:{tls}"
        with closing(store.admin(Address.of(f"{guarded}?cafile={cert}"))) as admin:
            assert admin.list_topics() == []
        with nothing_left_open(), pytest.raises(UnavailableError, match=r"(?i)certificate verify failed"):
            store.admin(Address.of(guarded), patience=1)
        other = guarded.replace("127.0.0.1", "localhost")
        with nothing_left_open(), pytest.raises(UnavailableError, match=r"(?i)hostname mismatch"):
            store.admin(Address.of(f"{other}?cafile={cert}"), patience=1)
        with nothing_left_open(), pytest.raises(UnavailableError):
            store.admin(Address.of(f"kafka://tidegate:{PASSWORD}@127.0.0.1:{tls}"), patience=1)
    finally:
        server.stop()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_whatever_a_sender_compresses_with_can_be_read(kafka: Settings, topic: Callable[..., str], codec: str) -> None:
    name = topic(partitions=1)
    sent = [b"%d " % number * 500 for number in range(2000)]
    with closing(store.producer(kafka, compression_type=codec, linger_ms=50)) as producer:
        for value in sent:
            producer.send(name, value)
    assert [message.value for message in topics.tail(kafka, name, 5000)] == sent


def test_checksums_are_computed_in_c() -> None:
    from kafka.record import util

    assert util._crc32c.__module__ != "kafka.record._crc32c"


def test_a_topic_is_made_listed_and_known_by_its_name_alone(kafka: Settings) -> None:
    name = f"t_{uuid.uuid4().hex}"
    assert not topics.exists(kafka, name)
    topics.create(kafka, name, partitions=3, retention=dt.timedelta(hours=6))
    assert topics.exists(kafka, name)
    (found,) = [one for one in topics.listed(kafka) if one.name == name]
    assert found == topics.Topic(name, 3, 0, dt.timedelta(hours=6))
    assert [one.name for one in topics.listed(kafka) if one.name.startswith("__")] == []
    for wrong, says in (
        (name, "already"),
        ("a b", "letters, digits"),
        ("", "letters"),
        (".", "letters"),
        ("__x", "Kafka's own"),
    ):
        with pytest.raises(UsageError, match=says):
            topics.create(kafka, wrong)


def test_how_long_a_message_is_kept_counts_from_its_arrival_whatever_its_sender_says(kafka: Settings) -> None:
    name = f"t_{uuid.uuid4().hex}"
    topics.create(kafka, name, partitions=1)
    with closing(store.producer(kafka)) as producer:
        producer.send(name, b"old", timestamp_ms=1_356_998_400_000).get(30)
    (message,) = topics.tail(kafka, name, 1)
    assert dt.datetime.now(dt.UTC) - message.at < dt.timedelta(hours=1)


def test_the_last_messages_are_shown_in_their_order_and_then_what_comes(
    kafka: Settings, topic: Callable[..., str]
) -> None:
    name = topic(partitions=3)
    assert list(topics.tail(kafka, name, 5)) == []
    with closing(store.producer(kafka)) as producer:
        for number in range(30):
            producer.send(name, b"%d" % number, key=b"k%d" % number, headers=[("v", b"1")]).get(30)
        shown = topics.tail(kafka, name, 4, follow=True)
        assert [next(shown).value for _ in range(4)] == [b"26", b"27", b"28", b"29"]
        producer.send(name, None, key=b"gone").get(30)
        last = next(shown)
        assert (last.key, last.value, last.headers) == (b"gone", None, ())
        shown.close()  # type: ignore[attr-defined]
    assert list(topics.tail(kafka, name, 0)) == []
    assert len(list(topics.tail(kafka, name, 1000))) == 31
    with pytest.raises(UsageError, match="there is no topic 'never-made'"):
        list(topics.tail(kafka, "never-made", 1))


def test_lag_is_what_is_still_to_be_read(kafka: Settings, topic: Callable[..., str]) -> None:
    name = topic(partitions=2)
    with closing(store.producer(kafka)) as producer:
        for number in range(10):
            producer.send(name, b"%d" % number, partition=0).get(30)
    assert topics.lag(kafka, name, {0: 4}) == [topics.Lag(0, 0, 10, 4, 6), topics.Lag(1, 0, 0, None, 0)]
    assert topics.lag(kafka, name, {}) == [topics.Lag(0, 0, 10, None, 10), topics.Lag(1, 0, 0, None, 0)]
    assert topics.lag(kafka, name, {0: 99})[0].lag == 0
    assert topics.committed(kafka, name, "tidegate-t") == {}
    with closing(store.consumer(kafka, group="tidegate-t")) as consumer:
        consumer.assign([TopicPartition(name, 0)])
        consumer.commit({TopicPartition(name, 0): OffsetAndMetadata(7, "", -1)})
    assert topics.committed(kafka, name, "tidegate-t") == {0: 7}
    with pytest.raises(UsageError, match="there is no topic 'never-made'"):
        topics.lag(kafka, "never-made", {})
