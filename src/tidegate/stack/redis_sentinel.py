"""A Redis that survives its server: a master, a replica, and three sentinels that agree on who is the master.

For tests and probes, which start it on loopback and kill parts of it; in production sentinels stand on machines of
their own, and TIDEGATE_REDIS_URL names them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.errors import StackError
from tidegate.stack import port
from tidegate.stack.port import LOOPBACK
from tidegate.stack.redis_server import KEEPER, PLATFORM, RedisServer

SERVICE = "tidegate"
_USERS: Mapping[str, str] = {
    "default": "off resetpass ~* &* +@all",
    PLATFORM: "resetchannels -@all +ping +hello +sentinel|masters +sentinel|replicas +sentinel|slaves",
    KEEPER: "&* -@all +ping +hello +info +sentinel +client|setname +@pubsub",
}


@dataclass
class SentinelServer(RedisServer):
    """A sentinel in a directory of its own; `follows` is the port of the master that it is told of at first.

    It writes what it learns into its own configuration, which is therefore made once.
    """

    quorum: int = 2
    down_after_milliseconds: int = 500

    def configure(self) -> None:
        """Write the configuration, unless the sentinel has one that it may have changed since."""
        if not (self.directory / "redis.conf").exists():
            super().configure()

    def configuration(self) -> dict[str, str]:
        """Return what a sentinel is told, passwords aside."""
        kept = ("bind", "port", "dir", "pidfile", "aclfile", "protected-mode", "daemonize", "tcp-keepalive")
        watch = {
            "sentinel monitor": f"{SERVICE} {LOOPBACK} {self.follows} {self.quorum}",
            f"sentinel auth-user {SERVICE}": KEEPER,
            f"sentinel down-after-milliseconds {SERVICE}": str(self.down_after_milliseconds),
            f"sentinel failover-timeout {SERVICE}": str(10 * self.down_after_milliseconds),
            f"sentinel parallel-syncs {SERVICE}": "1",
            "sentinel sentinel-user": KEEPER,
        }
        return {name: value for name, value in super().configuration().items() if name in kept} | watch

    def secret_lines(self) -> list[str]:
        """Return the lines by which it shows itself to servers and to other sentinels."""
        return [
            f"sentinel auth-pass {SERVICE} {self.keeper_password}",
            f"sentinel sentinel-pass {self.keeper_password}",
        ]

    def access(self, users: Mapping[str, str]) -> str:
        """Return who may ask a sentinel what."""
        return super().access({**_USERS, **{name: users[name] for name in self.users}})

    def command(self) -> list[str | Path]:
        """Return the words that start a sentinel."""
        return [*super().command(), "--sentinel"]


@dataclass
class Watched:
    """The five servers under one folder; `servers` are two, and which of them is the master changes."""

    folder: Path
    password: str = field(repr=False)
    keeper_password: str = field(repr=False)
    users: Mapping[str, str] = field(default_factory=dict)
    down_after_milliseconds: int = 500
    servers: list[RedisServer] = field(default_factory=list, init=False)
    sentinels: list[SentinelServer] = field(default_factory=list, init=False)

    def start(self) -> None:
        """Start everything; return when every sentinel knows the replica and the other sentinels."""
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        taken: set[int] = set()

        def common(name: str) -> tuple[Path, str, str, Path, int]:
            taken.add(port.choose(24000, self.folder, taken))
            number = max(taken)
            return self.folder / name, self.password, self.keeper_password, self.folder / f"{name}.log", number

        quick = {"repl-diskless-sync-delay": "0"}
        master = RedisServer(*common("one"), users=self.users, settings=quick)
        replica = RedisServer(*common("other"), users=self.users, settings=quick, follows=master.port)
        self.servers = [master, replica]
        self.sentinels = [
            SentinelServer(
                *common(f"sentinel-{n}"), follows=master.port, down_after_milliseconds=self.down_after_milliseconds
            )
            for n in (1, 2, 3)
        ]
        for server in (*self.servers, *self.sentinels):
            server.start()
        self._settle()

    def stop(self) -> None:
        """Stop everything, the sentinels first: they would take it for a failure."""
        for server in (*self.sentinels, *self.servers):
            server.stop()

    def url(self, user: str = PLATFORM) -> str:
        """Return the address of whichever server is the master, by way of the sentinels."""
        password = self.password if user == PLATFORM else self.keeper_password
        places = ",".join(f"{LOOPBACK}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{user}:{password}@{places}/{SERVICE}"

    def master(self) -> RedisServer:
        """Return the server that the sentinels take for the master."""
        number = int(self._ask(self.sentinels[0])["port"])
        return next(server for server in self.servers if server.port == number)

    def _settle(self, patience: float = 30) -> None:
        deadline = time.monotonic() + patience
        while not all(self._knows_all(self._ask(sentinel)) for sentinel in self.sentinels):
            if time.monotonic() > deadline:
                raise StackError(f"the sentinels in {self.folder} do not find each other; their logs lie there")
            time.sleep(0.05)

    @staticmethod
    def _knows_all(state: dict[str, str]) -> bool:
        return (int(state["num-slaves"]), int(state["num-other-sentinels"])) == (1, 2)

    def _ask(self, sentinel: SentinelServer) -> dict[str, str]:
        import redis

        with redis.Redis(LOOPBACK, sentinel.port, username=KEEPER, password=self.keeper_password) as client:
            found: dict[str, str] = client.sentinel_masters()[SERVICE]
            return found
