"""Kafka for tests: a real broker, started once for each worker of the run; topics have names of their own."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from tidegate.errors import StackError
from tidegate.settings import Settings
from tidegate.stack import port
from tidegate.stack.jars import KAFKA
from tidegate.stack.kafka_server import KEEPER, KafkaServer
from tidegate.stores import kafka as store

PASSWORD, KEEPERS, CONTROLLERS = "kafka-test", "keeper-test", "controller-test"


def serve(folder: Path, jars: Path, **options: object) -> KafkaServer:
    """Return a broker of a test's own, not started."""
    directory = folder / f"kafka-{uuid.uuid4().hex[:8]}"
    first = port.choose(25000, directory, set())
    second = port.choose(26000, directory, {first})
    own = {"memory": "192mb", **options}
    return KafkaServer(
        directory, jars, PASSWORD, KEEPERS, CONTROLLERS, directory.with_suffix(".log"), first, second, **own  # type: ignore[arg-type]
    )  # fmt: skip


def kill(server: KafkaServer) -> None:
    """Kill a broker with -9, and wait until it is gone."""
    process = server.running()
    assert process
    gone = psutil.Process(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs([gone], timeout=10)
    process.is_alive()  # reaps it


@pytest.fixture(scope="session")
def kafka_programs(reachable_folder: Path) -> Path:
    """Kafka's jars, where the broker's account can read them."""
    return KAFKA.provide(reachable_folder / "kafka-jars")


@pytest.fixture(scope="session")
def shared_kafka(reachable_folder: Path, kafka_programs: Path) -> Iterator[KafkaServer]:
    """A broker for the whole run: not to be stopped by a test."""
    server = serve(reachable_folder, kafka_programs)
    try:
        server.start()
    except StackError:
        # Another worker of this run may have taken the port since it was chosen.
        server = serve(reachable_folder, kafka_programs)
        server.start()
    yield server
    server.stop()
    shutil.rmtree(server.directory)


@pytest.fixture
def own_kafka(reachable_folder: Path, kafka_programs: Path) -> Iterator[KafkaServer]:
    """A running broker of one test's own, to be killed and started again."""
    server = serve(reachable_folder, kafka_programs)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(server.directory)


@pytest.fixture
def kafka(shared_kafka: KafkaServer, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The test's settings with a running Kafka in them; `get_settings()` and subprocesses agree."""
    return reaching(settings, shared_kafka, monkeypatch)


def reaching(settings: Settings, server: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings, and set the environment, so that they lead to this broker."""
    monkeypatch.setenv("TIDEGATE_KAFKA_URL", server.url())
    return settings.model_copy(update={"kafka_url": SecretStr(server.url())})


@pytest.fixture
def topic(shared_kafka: KafkaServer) -> Iterator[Callable[..., str]]:
    """Makes a topic with a name of its own: `topic()`, `topic(partitions=4)`; they are taken away afterwards."""
    made: list[str] = []
    here = store.Address.of(shared_kafka.url(KEEPER))

    def make(partitions: int = 2, **options: str) -> str:
        name = f"t_{uuid.uuid4().hex[:10]}"
        with store.reached(here), store.admin(here) as admin:
            wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": options}
            admin.create_topics({name: wanted}, wait_for_metadata=True)
        made.append(name)
        return name

    yield make
    if made:
        with store.reached(here), store.admin(here) as admin:
            admin.delete_topics(made)
