"""The embedded Kafka: one broker under `.tidegate/kafka`, started when asked for (`tidegate up --with kafka`).

It repairs what an interrupted or killed run has left and says so; the broker itself is `kafka_server.py`.
"""

from __future__ import annotations

import hashlib

from tidegate.settings import Settings
from tidegate.stack import port, warehouse
from tidegate.stack.home import Home
from tidegate.stack.jars import KAFKA
from tidegate.stack.kafka_server import KafkaServer
from tidegate.stack.port import LOOPBACK
from tidegate.stack.secret import Secrets
from tidegate.stack.supervisor import Supervisor

NAME, CONTROLLER = "kafka", "kafka-controller"
BASE_PORTS = {NAME: 9092, CONTROLLER: 10092}


def server_of(settings: Settings) -> KafkaServer:
    """Return the broker of this checkout, started or not; nothing is made or asked yet."""
    secrets = Secrets.load(settings.home)
    place = warehouse.place_of(settings, NAME).resolve()
    return KafkaServer(
        place, place / f"jars-{KAFKA.version}", secrets.kafka_password, secrets.kafka_keeper_password,
        secrets.kafka_controller_password, Home(settings.home).logs / f"{NAME}.log", memory=settings.kafka_memory,
    )  # fmt: skip


def start(settings: Settings, supervisor: Supervisor) -> KafkaServer:
    """Make the broker run and return it; what is broken is mended, and said."""
    warehouse.link(settings, supervisor, NAME)
    server = server_of(settings)
    if not server.jars.is_dir():
        supervisor.say(f"{NAME}: fetching Kafka {KAFKA.version} ({KAFKA.size})")
        KAFKA.provide(server.jars)
    running = server.running()
    configuration = _fingerprint(server)
    remembered = supervisor.memory.processes.get(NAME)
    if running and remembered and (remembered.pid, remembered.configuration) == (running.pid, configuration):
        supervisor.say(f"{NAME}: already running on {LOOPBACK}:{server.port} (pid {running.pid})")
        return server
    if running:
        supervisor.say(f"{NAME}: runs with a configuration that is not the present one, starting it anew")
        server.stop()
    elif remembered:
        supervisor.say(f"{NAME}: was not running any more (pid {remembered.pid} is gone)")
    supervisor.forget(NAME)

    def choose_the_other_port() -> None:
        server.controller_port = supervisor.port_for(CONTROLLER, BASE_PORTS[CONTROLLER])

    process = supervisor.start_listening(
        NAME, BASE_PORTS[NAME], server, choose_the_other_port, mend=lambda: not port.is_free(server.controller_port)
    )
    supervisor.remember(NAME, process, configuration)
    supervisor.say(f"{NAME}: started on {LOOPBACK}:{server.port} (pid {process.pid})")
    return server


def stop(settings: Settings, supervisor: Supervisor) -> None:
    """Stop the broker of this folder, whether it is remembered or not."""
    if not (settings.home / NAME).exists():
        return
    supervisor.end(NAME, server_of(settings))


def _fingerprint(server: KafkaServer) -> str:
    """Return what tells two configurations apart: everything but the ports, which move."""
    ports = ("listeners", "advertised.listeners", "controller.quorum.voters")
    said = {name: value for name, value in server.configuration().items() if name not in ports}
    secrets = (server.password, server.keeper_password, server.controller_password)
    return hashlib.sha256(repr((sorted(said.items()), server.jars, server.memory, secrets)).encode()).hexdigest()[:16]
