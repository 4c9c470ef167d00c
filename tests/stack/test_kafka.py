"""Kafka is there where it is asked for, lets nobody in who has no password, and whatever state it was left in, `up` recovers it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from kafka import TopicPartition
from tests.kafka_servers import CONTROLLERS, KEEPERS, PASSWORD, kill, serve
from tests.whole import Stack

from tidegate.errors import StackError, TidegateError, UsageError
from tidegate.settings import Settings
from tidegate.stack import jars, kafka, lifecycle
from tidegate.stack.jars import KAFKA
from tidegate.stack.kafka_server import KEEPER, KafkaServer
from tidegate.stack.memory import Memory
from tidegate.stack.secret import Secrets
from tidegate.stack.shell import shell_environment
from tidegate.stores import kafka as store
from tidegate.stores import topics

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def stack(stack: Stack, warehouse: str, kafka_programs: Path) -> Stack:
    """A home in which Kafka is the only server, and need not be fetched."""
    stack.elsewhere["warehouse_url"] = warehouse
    stack.elsewhere["kafka_memory"] = "192mb"
    stack.home.mkdir(mode=0o711)
    shutil.copytree(kafka_programs, kafka.server_of(stack.settings).jars)
    return stack


def up(stack: Stack, **choice: list[str]) -> Settings:
    lines: list[str] = []
    try:
        return lifecycle.up(stack.settings, lines.append, **choice)  # type: ignore[arg-type]
    finally:
        stack.said = "\n".join(lines)


def server_of(stack: Stack) -> KafkaServer:
    server = kafka.server_of(stack.settings)
    server.running()
    return server


def state(stack: Stack) -> str:
    return stack.status().services["kafka"].state


def send(settings: Settings, *values: str) -> None:
    with store.reached(settings), closing(store.producer(settings)) as producer:
        for value in values:
            producer.send("t", value.encode()).get(30)


def kept(settings: Settings) -> list[str]:
    return sorted((message.value or b"").decode() for message in topics.tail(settings, "t", 100))


def test_it_runs_where_it_is_asked_for_until_it_is_no_longer_wanted(stack: Stack) -> None:
    assert up(stack).kafka_url is None
    assert "kafka" not in stack.status().services
    address = up(stack, more=["kafka"]).kafka_url
    assert stack.settings.kafka_url == address
    assert state(stack) == "running"
    stack.up()
    assert "kafka: already running" in stack.said
    stack.down()
    assert state(stack) == "stopped"
    assert stack.up().kafka_url == address
    assert up(stack, less=["kafka"]).kafka_url is None
    assert "kafka: stopped" in stack.said
    assert "kafka" not in stack.status().services
    with pytest.raises(UsageError, match="no Kafka is configured: `tidegate up --with kafka` starts one"):
        topics.listed(stack.settings)


def test_where_it_can_be_had_it_runs_unless_somebody_has_said_no(stack: Stack) -> None:
    address = up(stack, if_possible=["kafka"]).kafka_url
    assert address is not None
    assert stack.up().kafka_url == address, "it is remembered"
    assert up(stack, less=["kafka"]).kafka_url is None
    assert up(stack, if_possible=["kafka"]).kafka_url is None
    assert up(stack, more=["kafka"]).kafka_url == address
    assert up(stack, if_possible=["kafka"]).kafka_url == address


@pytest.fixture
def no_java(reachable_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which no Java is found."""
    programs = reachable_folder / "programs"
    programs.mkdir()
    # By which root asks what the servers' account may enter.
    (programs / "test").symlink_to(shutil.which("test") or "")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    jars.java.cache_clear()
    yield
    jars.java.cache_clear()


def test_where_it_cannot_be_had_the_rest_starts_and_what_to_type_is_said_in_a_line(stack: Stack, no_java: None) -> None:
    shutil.rmtree(kafka.server_of(stack.settings).jars)
    assert up(stack, if_possible=["kafka"]).kafka_url is None
    (told,) = [line for line in stack.said.splitlines() if line.startswith("kafka: goes without it")]
    assert "no Java 17 or newer" in told
    assert "apt-get install --yes openjdk-17-jre-headless maven" in told
    assert "kafka" not in stack.status().services
    assert stack.up().kafka_url is None, "what was tried is not wanted"
    with pytest.raises(StackError, match="no Java 17 or newer"):
        up(stack, more=["kafka"])


def test_messages_outlive_down_kill_9_and_an_up_that_was_cut_short(stack: Stack) -> None:
    settings = up(stack, more=["kafka"])
    topics.create(settings, "t")
    send(settings, "one")
    stack.down()
    settings = stack.up()
    send(settings, "two")
    kill(server_of(stack))
    assert state(stack) == "dead"
    settings = stack.up()
    assert "kafka: was not running any more" in stack.said
    send(settings, "three")
    # What an `up` leaves that is killed before it could remember what it had started.
    first = server_of(stack).running()
    memory = Memory.load(stack.home)
    memory.processes.pop("kafka")
    memory.save()
    settings = stack.up()
    assert first
    assert not first.is_alive()
    assert kept(settings) == ["one", "three", "two"]
    assert [state(stack), stack.status().services["kafka"].version] == ["running", KAFKA.version]


def test_taken_ports_are_no_obstacle(stack: Stack) -> None:
    settings = up(stack, more=["kafka"])
    topics.create(settings, "t")
    send(settings, "one")
    server = server_of(stack)
    stack.down()
    with socket.create_server(("127.0.0.1", server.port)), socket.create_server(("127.0.0.1", server.controller_port)):
        after = stack.up()
        assert f"kafka: port {server.port} is taken" in stack.said
        assert f"kafka-controller: port {server.controller_port} is taken" in stack.said
        assert after.kafka_url != settings.kafka_url
        assert kept(after) == ["one"]


def test_passwords_that_were_lost_are_made_anew_and_messages_stay(stack: Stack) -> None:
    settings = up(stack, more=["kafka"])
    topics.create(settings, "t")
    send(settings, "one")
    stack.down()
    before = Secrets.load(stack.home)
    (stack.home / "secrets.json").unlink()
    after = stack.up()
    assert Secrets.load(stack.home).kafka_password != before.kafka_password
    assert kept(after) == ["one"]
    old = store.Address.of(str(after.kafka_url and after.kafka_url.get_secret_value()).replace(
        Secrets.load(stack.home).kafka_password, before.kafka_password
    ))  # fmt: skip
    with pytest.raises(StackError, match="refuses the user"):
        store.admin(old)


def test_a_half_made_data_folder_is_made_anew(stack: Stack) -> None:
    up(stack, more=["kafka"])
    server = server_of(stack)
    stack.down()
    server.data.rename(server.directory / "data.making")
    stack.up()
    assert state(stack) == "running"
    assert not (server.directory / "data.making").exists()


def test_any_id_of_a_cluster_will_do(
    reachable_folder: Path, kafka_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(bytes=b"\xfb" * 16))  # begins with a hyphen in their spelling
    server = serve(reachable_folder, kafka_programs)
    server.make()
    assert "cluster.id=-" in (server.data / "meta.properties").read_text()
    shutil.rmtree(server.directory)


def test_a_changed_configuration_is_taken_in(stack: Stack) -> None:
    up(stack, more=["kafka"])
    first = server_of(stack).running()
    stack.elsewhere["kafka_memory"] = "200mb"
    stack.up()
    assert "a configuration that is not the present one" in stack.said
    again = server_of(stack).running()
    assert first
    assert again
    assert "-Xmx200m" in psutil.Process(again.pid).cmdline()


def test_nobody_comes_in_without_a_password_to_either_door(shared_kafka: KafkaServer) -> None:
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    for number in (shared_kafka.port, shared_kafka.controller_port):
        for protocol in ("PLAINTEXT", "SASL_PLAINTEXT"):
            with pytest.raises(KafkaError):
                KafkaAdminClient(
                    bootstrap_servers=[f"127.0.0.1:{number}"], security_protocol=protocol, bootstrap_timeout_ms=1500,
                    sasl_mechanism="PLAIN" if protocol != "PLAINTEXT" else None, sasl_plain_username=KEEPER,
                    sasl_plain_password="guess", kafka_client=store.Address.of(shared_kafka.url()).options()["kafka_client"],
                )  # fmt: skip
    with pytest.raises(StackError, match="refuses the user"):
        store.admin(store.Address.of(shared_kafka.url().replace(PASSWORD, "guess")))


def test_the_platform_makes_reads_and_writes_topics_and_nothing_else(kafka: Settings) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType, ScramMechanism, UserScramCredentialDeletion

    name = f"t_{uuid.uuid4().hex}"
    topics.create(kafka, name)
    assert topics.committed(kafka, name, store.GROUPS) == {}
    options = ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": "1"})
    with closing(store.admin(kafka)) as admin:
        for attempt in (
            lambda: admin.delete_topics([name]),
            lambda: admin.create_partitions({name: 9}),
            lambda: admin.alter_configs([options]),
            lambda: admin.delete_records({TopicPartition(name, 0): 0}),
            lambda: admin.delete_groups(["tidegate"]),
            lambda: admin.alter_user_scram_credentials([UserScramCredentialDeletion(KEEPER, ScramMechanism.SCRAM_SHA_512)]),
        ):  # fmt: skip
            try:
                with store.reached(kafka):
                    told = str(attempt())  # some raise, others tell
            except StackError as refused:
                told = str(refused)
            assert re.search("(?i)authoriz|needs ALTER permission", told), told
    assert [topic.partitions for topic in topics.listed(kafka) if topic.name == name] == [topics.PARTITIONS]
    with closing(store.producer(kafka)) as producer, pytest.raises(StackError), store.reached(kafka):
        producer.send("__consumer_offsets", b"x").get(30)
    with closing(store.consumer(kafka, group="others")) as consumer, pytest.raises(StackError), store.reached(kafka):
        consumer.committed(TopicPartition(name, 0))


def test_no_topic_comes_to_be_by_being_named(kafka: Settings) -> None:
    for asking in (True, False):
        producing = closing(store.producer(kafka, max_block_ms=1000, allow_auto_create_topics=asking))
        with producing as producer, pytest.raises(TidegateError), store.reached(kafka):
            producer.send("misspelt", b"x").get(5)
        assert not topics.exists(kafka, "misspelt")


def test_no_secret_is_seen_in_arguments_logs_or_readable_files(
    reachable_folder: Path, kafka_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(reachable_folder, kafka_programs)
    secrets = (PASSWORD, KEEPERS, CONTROLLERS)
    seen: list[str] = []
    run = subprocess.run

    def watched(words: list[str], **options: object) -> object:
        seen.append(repr(words) + repr(options.get("env")))
        return run(words, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", watched)
    process = server.start()
    try:
        running = psutil.Process(process.pid)
        told = " ".join([*seen, *running.cmdline(), *running.environ().values(), server.log.read_text(), repr(server)])
        assert [secret for secret in secrets if secret in told] == []
        assert "format.args" in told
        assert server.directory.stat().st_mode & 0o777 == 0o700
        assert (server.directory / "server.properties").stat().st_mode & 0o077 == 0
        found = run(["grep", "-rlE", "|".join(secrets), server.directory], capture_output=True, text=True, check=False)
        # What the data keep of a password does not tell it.
        assert found.stdout.split() == [str(server.directory / "server.properties")]
        listening = {one.laddr for one in running.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
        assert {(address.ip.removeprefix("::ffff:"), address.port) for address in listening} == {
            ("127.0.0.1", server.port),
            ("127.0.0.1", server.controller_port),
        }
    finally:
        server.stop()
        shutil.rmtree(server.directory)


def test_it_says_in_its_log_when_it_started_and_what_is_wrong(stack: Stack) -> None:
    up(stack, more=["kafka"])
    server = server_of(stack)
    assert "Kafka Server started" in server.log.read_text()
    stack.down()
    meta = server.data / "meta.properties"
    meta.write_text(meta.read_text().replace("version=1", "version=9"))
    with pytest.raises(StackError, match=r"Kafka did not start on .*(?s:.*)version(?s:.*)run `tidegate up` again"):
        stack.up()
    meta.write_text(meta.read_text().replace("version=9", "version=1"))
    stack.up()
    assert state(stack) == "running"


def test_a_machine_without_java_or_maven_is_told_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match=r"no `mvn` on this machine.*Type: .*maven"):
        KAFKA.provide(tmp_path / "jars")
    jars.java.cache_clear()
    with pytest.raises(StackError, match=r"no Java 17 or newer .*found: none.*Type: .*openjdk"):
        jars.java()
    assert list(tmp_path.iterdir()) == []


def test_jars_that_are_not_the_pinned_ones_are_not_used(
    tmp_path: Path, kafka_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {jar.name for jar in kafka_programs.iterdir()} == set(KAFKA.wanted())
    assert f"kafka_2.13-{KAFKA.version}.jar" in KAFKA.wanted()
    spoilt = tmp_path / "spoilt"
    shutil.copytree(kafka_programs, spoilt)
    (spoilt / "zstd-jni-1.5.6-10.jar").write_bytes(b"something else")
    monkeypatch.setattr(jars.Jars, "_fetch", lambda _, folder: shutil.copytree(spoilt, folder, dirs_exist_ok=True))
    with pytest.raises(StackError, match=r"is not what kafka\.sha256 tells: zstd-jni"):
        KAFKA.provide(tmp_path / "jars")
    assert [path.name for path in tmp_path.iterdir()] == ["spoilt"]


def test_a_shell_is_told_how_to_reach_it(shared_kafka: KafkaServer, kafka: Settings) -> None:
    assert shell_environment(kafka)["TIDEGATE_KAFKA_URL"] == shared_kafka.url()


def test_a_kafka_of_ones_own_is_used_and_nothing_is_started(stack: Stack) -> None:
    shutil.rmtree(stack.home)
    stack.elsewhere["kafka_url"] = "kafkas://me:secret-canary@k1.example.org:9093,k2.example.org:9093?mechanism=PLAIN"
    up(stack, more=["kafka"])
    service = stack.status().services["kafka"]
    assert (service.state, service.address) == ("external", "kafkas://me@k1.example.org:9093,k2.example.org:9093")
    assert not (stack.home / "kafka").exists()
    assert not re.search("secret-canary", stack.said)
