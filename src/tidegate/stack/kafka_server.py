"""One Kafka broker in one directory, its own controller (KRaft): formatted, configured, started, stopped, recovered.

The embedded stack and the tests use it; who of them starts it, and where, is not known here.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from tidegate.errors import StackError, TidegateError
from tidegate.stack import jars as programs
from tidegate.stack import postgres_binaries
from tidegate.stack.port import LOOPBACK, is_free
from tidegate.stack.process import Process, indent, launch
from tidegate.stores import kafka

PLATFORM, KEEPER, CONTROLLER = "tidegate", "keeper", "controller"

SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "CLIENTS",
    "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
    "listener.name.clients.sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
    # SCRAM's verifiers lie in the metadata, which the controller cannot read before it lets itself in.
    "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.controller.protocol": "PLAIN",
    # Who is not told of by an access rule may do nothing.
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": f"User:{KEEPER};User:{CONTROLLER}",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    # For so long a broker that was killed is taken for alive, and not let in again.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
    # A power cut takes back a second at most; a killed broker nothing.
    "log.flush.interval.ms": "1000",
    # How long messages are kept counts from when they came: those of a year that is played again are old on arrival.
    "log.message.timestamp.type": "LogAppendTime",
    # What is too old goes by whole segments.
    "log.segment.bytes": str(64 * 2**20),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": str(4 * 2**20),
    "group.initial.rebalance.delay.ms": "0",
    **{
        f"{topic}.{option}": "1"
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
        for option in ("replication.factor", "num.partitions")
    },
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.min.isr": "1",
}
JAVA = (
    "-Xms64m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData",
    "-Djava.awt.headless=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
)  # fmt: skip
"""Serial collection and one compiler: a broker of a laptop starts in two seconds and stays small."""
_HEAD = "# Written by tidegate at each start: changes here are lost."
_DIGITS = re.compile(r"(?i)^(\d+)([mg])b$")


@dataclass
class KafkaServer:
    """A broker on loopback whose data lie in `directory`; each connection needs a user's name and password.

    `password` is the platform's, `keeper_password` that of whoever looks after it, `controller_password` what the broker
    shows to its own controller. `jars` is a folder of KAFKA's jars. `memory` (`256mb`) bounds Java's heap; the process takes
    about 150 MB more. `settings` win over SETTINGS. `user` is the account that it runs as when root starts it.
    """

    directory: Path
    jars: Path
    password: str = field(repr=False)
    keeper_password: str = field(repr=False)
    controller_password: str = field(repr=False)
    log: Path
    port: int = 0
    controller_port: int = 0
    memory: str = "256mb"
    settings: Mapping[str, str] = field(default_factory=dict)
    user: str | None = field(default_factory=postgres_binaries.account)

    def url(self, user: str = PLATFORM) -> str:
        """Return the `kafka://` address for a user, password included."""
        password = self.password if user == PLATFORM else self.keeper_password
        return f"kafka://{user}:{quote(password, safe='')}@{LOOPBACK}:{self.port}"

    @property
    def data(self) -> Path:
        """Folder of the log of every partition, and of the metadata."""
        return self.directory / "data"

    def is_made(self) -> bool:
        """Return whether there are data: a formatted folder gets this name once it is whole."""
        return (self.data / "meta.properties").is_file()

    def configuration(self) -> dict[str, str]:
        """Return what `server.properties` says, passwords aside."""
        own = {
            "controller.quorum.voters": f"1@{LOOPBACK}:{self.controller_port}",
            "listeners": f"CLIENTS://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": f"CLIENTS://{LOOPBACK}:{self.port}",
            "log.dirs": str(self.data),
        }
        return {**SETTINGS, **self.settings, **own}

    def command(self) -> list[str | Path]:
        """Return the words that start the broker; no secret is among them."""
        return [*self._java(), "kafka.Kafka", self.directory / "server.properties"]

    def make(self) -> None:
        """Format the data folder, with both users; what an interrupted call has left is taken away first.

        Raises StackError with what the formatting says.
        """
        self._make_directory()
        for left in self.directory.glob("data.making*"):
            shutil.rmtree(left)
        making = self.directory / "data.making"
        self._write("format.properties", {**self.configuration(), **self._secret_lines(), "log.dirs": str(making)})
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # One word: an id may begin with a hyphen.
        words = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config", "format.properties"]
        for user, password in ((PLATFORM, self.password), (KEEPER, self.keeper_password)):
            words += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        # Java reads its words from a file, so that nobody sees passwords in the list of processes.
        self._write_text("format.args", "\n".join(_quoted(str(word)) for word in [*self._java()[1:], *words]))
        done = subprocess.run(
            [programs.java(), "@format.args"], cwd=self.directory, env=_environment(), user=self.user,
            extra_groups=[] if self.user else None, capture_output=True, text=True, check=False,
        )  # fmt: skip
        for name in ("format.args", "format.properties"):
            (self.directory / name).unlink()
        if done.returncode:
            raise StackError(f"Kafka's data folder could not be made in {self.directory}:\n{indent(done.stderr)}")
        making.rename(self.data)

    def running(self) -> Process | None:
        """Return the broker of this directory, whoever remembers it; also sets `port` and `controller_port`."""
        for process in psutil.process_iter():
            if self._works_here(process):
                told = (self.directory / "server.properties").read_text()
                for name in ("CLIENTS", "CONTROLLER"):
                    found = re.search(rf"^listeners=.*{name}://[^:]+:(\d+)", told, re.MULTILINE)
                    if found:
                        setattr(self, "port" if name == "CLIENTS" else "controller_port", int(found[1]))
                return Process(process.pid, process.create_time())
        return None

    def start(self, patience: float = 60) -> Process:
        """Start on `port` and `controller_port`, and return once the platform's user is let in.

        Raises StackError with the log's last lines. A second broker never opens the directory of a running one.
        """
        self.stop()
        if not self.is_made():
            self.make()
        process = self._launch(patience)
        try:
            grant(kafka.Address.of(self.url(KEEPER)))
        except StackError:
            # The data know other passwords than we do.
            process.stop(patience=patience)
            self._set_passwords(patience)
            process = self._launch(patience)
            grant(kafka.Address.of(self.url(KEEPER)))
        return process

    def answers(self) -> bool:
        """Return whether the broker lets the keeper in."""
        here = kafka.Address.of(self.url(KEEPER))
        try:
            with kafka.reached(here), kafka.admin(here, patience=2) as admin:
                admin.list_topics()
        except TidegateError:
            return False
        return True

    def stop(self, patience: float = 30) -> None:
        """Let the broker write its data down and end; only the broker of this directory is touched."""
        process = self.running()
        if process:
            process.stop(patience=patience)

    def _launch(self, patience: float, **settings: str) -> Process:
        """Start the broker with `settings` besides, and return once it listens: it does when it has read its data."""
        self._make_directory()
        self._write("server.properties", {**self.configuration(), **self._secret_lines(), **settings})
        process = launch(
            self.command(), log=self.log, environment=_environment(), user=self.user, folder=self.directory
        )
        deadline = time.monotonic() + patience
        while not self._listens(process):
            if not process.is_alive() or time.monotonic() > deadline:
                process.stop(patience=2)
                taken = [number for number in (self.port, self.controller_port) if not is_free(number)]
                told = f" (a stranger listens on port {taken[0]})" if taken else ""
                raise StackError(
                    f"Kafka did not start on {LOOPBACK}:{self.port}{told}. The end of {self.log}:\n{self._last_words()}\n"
                    "    Mend what it says and run `tidegate up` again."
                )
            time.sleep(0.05)
        return process

    def _last_words(self) -> str:
        """Return the end of the log, without the places in Kafka's code that nobody here can mend."""
        told = self.log.read_text(errors="replace") if self.log.exists() else ""
        return indent("\n".join(line for line in told.splitlines() if not line.startswith("\tat ")), 6)

    def _listens(self, process: Process) -> bool:
        """Return whether this very process, and no stranger, listens for clients."""
        try:
            found = psutil.Process(process.pid).net_connections("tcp")
        except psutil.Error:
            return False
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == self.port for one in found)

    def _set_passwords(self, patience: float) -> None:
        """Have the data know both users by the passwords that we know, whatever they were."""
        process = self._launch(
            patience,
            **{
                "listener.name.clients.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
                "listener.name.clients.plain.sasl.jaas.config": _login(
                    "plain.PlainLoginModule", KEEPER, self.keeper_password, known=True
                ),
            },
        )
        from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

        here = kafka.Address.of(self.url(KEEPER) + "?mechanism=PLAIN")
        try:
            with kafka.reached(here), kafka.admin(here) as admin:
                told = admin.alter_user_scram_credentials(
                    [
                        UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, password)
                        for user, password in ((PLATFORM, self.password), (KEEPER, self.keeper_password))
                    ]
                )
        finally:
            process.stop(patience=patience)
        if any(told.values()):
            raise StackError(f"Kafka in {self.directory} does not take new passwords: {told}")

    def _secret_lines(self) -> dict[str, str]:
        """Return the lines by which the broker shows itself to itself."""
        return {
            "listener.name.clients.scram-sha-512.sasl.jaas.config": _login(
                "scram.ScramLoginModule", KEEPER, self.keeper_password
            ),
            "listener.name.controller.plain.sasl.jaas.config": _login(
                "plain.PlainLoginModule", CONTROLLER, self.controller_password, known=True
            ),
        }

    def _java(self) -> list[str | Path]:
        found = _DIGITS.match(self.memory)
        assert found, self.memory
        return [programs.java(), f"-Xmx{found[1]}{found[2].lower()}", *JAVA, "-cp", f"{self.jars}/*"]

    def _make_directory(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        if self.user:
            shutil.chown(self.directory, self.user)

    def _write(self, name: str, options: Mapping[str, str]) -> None:
        self._write_text(name, "\n".join([_HEAD, *(f"{key}={value}" for key, value in options.items()), ""]))

    def _write_text(self, name: str, text: str) -> None:
        file = self.directory / name
        file.touch(mode=0o600)
        file.chmod(0o600)
        file.write_text(text)
        if self.user:
            shutil.chown(file, self.user)

    def _works_here(self, process: psutil.Process) -> bool:
        try:
            return process.name() == "java" and process.cwd() == str(self.directory.resolve())
        except (psutil.Error, OSError):
            return False


def grant(keeper: kafka.Address) -> None:
    """Have the platform's user may do what it needs, as its keeper says; calling it again changes nothing.

    Raises:
        StackError: the broker knows the keeper by another password.
    """
    with kafka.reached(keeper), kafka.admin(keeper) as admin:
        admin.create_acls(_rules())


def _rules() -> list[Any]:
    """Return what the platform's user may do: make topics, write and read them, see what there is; it removes nothing."""
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType

    who, prefixed = f"User:{PLATFORM}", ACLResourcePatternType.PREFIXED
    topics, groups = (
        ResourcePattern(ResourceType.TOPIC, "*"),
        ResourcePattern(ResourceType.GROUP, kafka.GROUPS, prefixed),
    )
    allowed = [
        *((topics, operation) for operation in ("READ", "WRITE", "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS")),
        *((groups, operation) for operation in ("READ", "DESCRIBE")),
    ]
    rules = [ACL(who, "*", ACLOperation[name], ACLPermissionType.ALLOW, place) for place, name in allowed]
    # Kafka's own: offsets of groups, and transactions.
    inner = ResourcePattern(ResourceType.TOPIC, "__", prefixed)
    return [*rules, ACL(who, "*", ACLOperation.ALL, ACLPermissionType.DENY, inner)]


def _login(module: str, user: str, password: str, *, known: bool = False) -> str:
    """Return a line of JAAS by which the broker logs in; with `known` it also lets that user in."""
    knows = f' user_{user}="{password}"' if known else ""
    return f'org.apache.kafka.common.security.{module} required username="{user}" password="{password}"{knows};'


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
