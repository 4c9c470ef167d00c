"""One Redis server in one directory: configured, started, stopped, recovered.

The embedded stack, the tests and the probes use it; who of them starts it, and where, is not known here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

from tidegate.errors import StackError
from tidegate.stack import postgres_binaries
from tidegate.stack.port import LOOPBACK, is_free
from tidegate.stack.process import Process, launch, tail

PLATFORM, KEEPER = "tidegate", "keeper"
PREFIX = "tidegate:"
"""Of every key that the platform may touch."""

USERS: Mapping[str, str] = {
    # Nobody can come in as this one: it is off. But Redis 7.0 reads transactions back from its log of writes as this
    # user, and drops those that it may not do.
    "default": "off resetpass ~* &* +@all",
    # What stores.lease and stores.cache ask for, on their own keys; TIME, H… and INCR are asked for inside scripts.
    PLATFORM: f"~{PREFIX}* resetchannels -@all +ping +hello +select +eval +get +set +del +time +incr +hget +hset +hdel +hgetall",
    # Replicas, sentinels and probes: they look at everything and change no row.
    KEEPER: (
        "~* &* -@all +ping +hello +select +client|setname +client|kill +client|list +@pubsub +psync +replconf +slaveof +role "
        "+multi +exec +script|kill +shutdown +bgsave +bgrewriteaof +lastsave +wait +config|get +config|rewrite +info "
        "+memory +latency +slowlog +dbsize +scan +type +strlen +llen +hlen +scard +zcard +xlen +object|freq +acl|list"
    ),
}

SETTINGS: Mapping[str, str] = {
    "protected-mode": "yes",
    "daemonize": "no",
    "databases": "1",
    "appendonly": "yes",
    # A power cut takes back a second at most; what must not go back stands in PostgreSQL (ops.fence).
    "appendfsync": "everysec",
    # A cut tail is found and archived by `start`, not passed over in silence.
    "aof-load-truncated": "no",
    "save": "3600 1 300 100 60 10000",
    # Only what has a time to live goes when memory is full: the cache. Leases have none.
    "maxmemory-policy": "volatile-lru",
    "maxclients": "1000",
    "tcp-keepalive": "60",
    "latency-monitor-threshold": "100",
    "enable-protected-configs": "no",
    "enable-debug-command": "no",
    "enable-module-command": "no",
    "oom-score-adj": "no",
}


_HEAD = "# Written by tidegate at each start: changes here are lost."


def program() -> str:
    """Return the path of `redis-server`; raises StackError with the command to type when there is none."""
    found = shutil.which("redis-server")
    if found is None:
        sudo = "" if os.geteuid() == 0 else "sudo "
        raise StackError(
            "no `redis-server` on this machine (Redis 7 or newer). "
            f"Type: {sudo}apt-get update && {sudo}apt-get install --yes redis-server"
        )
    return found


@cache
def version() -> str:
    """Return the installed server's version."""
    answer = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\S+)", answer)
    return found[1] if found else ""


@dataclass
class RedisServer:
    """A server on loopback whose data lie in `directory`; each connection needs a user's name and password.

    `password` is the platform's, `keeper_password` that of replicas, sentinels and probes. `memory` bounds what is
    kept (`64mb`). `follows` is the port of the server that this one is a replica of. `settings` win over SETTINGS,
    `users` (name → rules of Redis' ACL, with the keeper's password) come on top of USERS. `user` is the account
    that the server runs as when root starts it.
    """

    directory: Path
    password: str = field(repr=False)
    keeper_password: str = field(repr=False)
    log: Path
    port: int = 0
    memory: str = "64mb"
    follows: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    user: str | None = field(default_factory=postgres_binaries.account)

    def url(self, user: str = PLATFORM) -> str:
        """Return the `redis://` address for a user, password included."""
        password = self.password if user == PLATFORM else self.keeper_password
        return f"redis://{user}:{password}@{LOOPBACK}:{self.port}/0"

    def configuration(self) -> dict[str, str]:
        """Return what `redis.conf` says, passwords aside."""
        own = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": _quoted(str(self.directory)),
            "pidfile": _quoted(str(self._pid_file)),
            "aclfile": _quoted(str(self.directory / "users.acl")),
            "maxmemory": self.memory,
        }
        if self.follows:
            own["replicaof"] = f"{LOOPBACK} {self.follows}"
        return {**SETTINGS, **self.settings, **own}

    def configure(self) -> None:
        """Write `redis.conf` and who may come in, for the server's account alone; takes effect at the next start."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        lines = [f"{name} {value}" for name, value in self.configuration().items()]
        lines += self.secret_lines()
        self._write("redis.conf", "\n".join([_HEAD, *lines, ""]))
        self._write("users.acl", self.access({**USERS, **self.users}))
        if self.user:
            shutil.chown(self.directory, self.user)

    def secret_lines(self) -> list[str]:
        """Return the lines by which a replica shows itself to its master."""
        return [f"masteruser {KEEPER}", f"masterauth {self.keeper_password}"]

    def access(self, users: Mapping[str, str]) -> str:
        """Return the text of the file that says who may do what, passwords as hashes."""
        lines = []
        for name, rules in users.items():
            password = self.password if name == PLATFORM else self.keeper_password
            door = "" if name == "default" else f"on #{hashlib.sha256(password.encode()).hexdigest()} "
            lines.append(f"user {name} {door}{rules}")
        return "\n".join([*lines, ""])

    def command(self) -> list[str | Path]:
        """Return the words that start the server; no secret is among them."""
        return [program(), self.directory / "redis.conf"]

    def running(self) -> Process | None:
        """Return the server process of this directory, whoever remembers it; also sets `port`.

        The pid file is believed only when its process works in this very directory.
        """
        try:
            process = psutil.Process(int(self._pid_file.read_text()))
            if process.status() == psutil.STATUS_ZOMBIE or not self._works_here(process):
                return None
            port = re.search(r"^port (\d+)$", (self.directory / "redis.conf").read_text(), re.MULTILINE)
            self.port = int(port[1]) if port else self.port
            return Process(process.pid, process.create_time())
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None

    def start(self, patience: float = 30) -> Process:
        """Start on `port` and return once the data are read and commands are taken.

        Raises StackError with the log's last lines. A second server never opens the directory of a running one.
        """
        for left in [p for p in psutil.process_iter() if self._works_here(p)]:
            Process(left.pid, left.create_time()).stop()
        self._pid_file.unlink(missing_ok=True)
        self.configure()
        process = launch(
            self.command(),
            log=self.log,
            environment={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            user=self.user,
        )
        deadline = time.monotonic() + patience
        while not self.answers():
            if not process.is_alive() or time.monotonic() > deadline:
                process.stop(patience=2)
                taken = " (a stranger listens there)" if not is_free(self.port) else ""
                raise StackError(
                    f"Redis did not start on {LOOPBACK}:{self.port}{taken}. The end of {self.log}:\n{tail(self.log)}\n"
                    "    Mend what it says and run `tidegate up` again."
                )
            time.sleep(0.02)
        return process

    def answers(self) -> bool:
        """Return whether the server takes commands, from whoever knows its passwords."""
        import redis

        with redis.Redis(LOOPBACK, self.port, username=KEEPER, password=self.keeper_password, retry=None) as client:
            try:
                return bool(client.ping())
            except redis.exceptions.RedisError:
                return False

    def stop(self, patience: float = 15) -> None:
        """Let the server write its data down and end; only the server of this directory is touched."""
        process = self.running()
        if process:
            process.stop(patience=patience)

    def damage(self) -> str | None:
        """Return what `redis-check-aof` finds wrong with the stopped server's log of writes; None where it is whole."""
        if not self._manifest.exists():
            return None
        done = subprocess.run(["redis-check-aof", self._manifest], capture_output=True, text=True, check=False)
        return None if done.returncode == 0 else (done.stdout + done.stderr).strip().splitlines()[-1]

    def repair(self) -> bool:
        """Cut the log of writes behind its last whole command; return whether it can be read now."""
        subprocess.run(
            ["redis-check-aof", "--fix", self._manifest], input="y\ny\n", capture_output=True, text=True, check=False
        )
        return self.damage() is None

    @property
    def append_only(self) -> Path:
        """Folder of the log of writes."""
        return self.directory / "appendonlydir"

    @property
    def _manifest(self) -> Path:
        return self.append_only / "appendonly.aof.manifest"

    @property
    def _pid_file(self) -> Path:
        return self.directory / "redis.pid"

    def _write(self, name: str, text: str) -> None:
        file = self.directory / name
        file.touch(mode=0o600)
        file.chmod(0o600)
        file.write_text(text)
        if self.user:
            shutil.chown(file, self.user)

    def _works_here(self, process: psutil.Process) -> bool:
        try:
            return process.name().startswith("redis-server") and process.cwd() == str(self.directory.resolve())
        except (psutil.Error, OSError):
            return False


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
