"""One PgBouncer before one PostgreSQL: configured, started, drained, pointed elsewhere, asked how it fares, stopped.

Transaction pooling: a client has a connection to the server for as long as its transaction lasts. Who may come in, and
when it runs, is its owner's matter (`pool.py` for the embedded one).
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
from psycopg.rows import dict_row

from tidegate.errors import BusyError, StackError, UnavailableError, first_line
from tidegate.stack import postgres_binaries, scram
from tidegate.stack.home import write_private
from tidegate.stack.port import LOOPBACK, is_free
from tidegate.stack.process import Process, launch, tail

ADMIN = "pool_admin"
#: The strategy's: at most so many connections to the server.
MOST = 100
_PLACES = ("/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")


def program() -> Path | None:
    """Return where PgBouncer is on this machine; None where it is not installed."""
    found = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), *_PLACES]))
    return Path(found) if found else None


def version(found: Path) -> tuple[int, int]:
    """Return the version of the program, such as (1, 18)."""
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    numbers = re.search(r"PgBouncer (\d+)\.(\d+)", said)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


@dataclass(frozen=True)
class Sizes:
    """How many clients are let in, and how many connections to the server they share, by user and in all."""

    clients: int
    per_user: int
    in_all: int

    @classmethod
    def of(cls, max_connections: int) -> Sizes:
        """Leave half of the server's connections to those who come directly (Airflow, loads, superusers).

        One user has half of the rest, so that none can take it all. Clients cost two kilobytes each: many may wait.
        """
        in_all = max(2, min(MOST, max_connections // 2))
        return cls(clients=10 * in_all, per_user=max(1, in_all // 2), in_all=in_all)


@dataclass(frozen=True)
class Load:
    """How the pool fares: clients that are served and that wait, and how much of it is taken.

    `utilisation` (0 to 1) is the fullest of: one user's share, and the whole. `longest_wait` is in seconds.
    """

    paused: bool
    clients: int
    waiting: int
    longest_wait: float
    busy: int
    idle: int
    size: int
    utilisation: float
    pools: tuple[dict[str, Any], ...]


@dataclass
class PgBouncer:
    """A pooler on loopback whose files lie in `folder`; `password` is that of its console, `user` as for PostgreSQL."""

    folder: Path
    password: str = field(repr=False)
    log: Path
    port: int = 0
    user: str | None = field(default_factory=postgres_binaries.account)

    def configure(self, databases: Mapping[str, int], users: Mapping[str, str], sizes: Sizes) -> bool:
        """Write down which databases are at which ports, who may come in (SCRAM verifiers), and how many.

        Returns whether anything has changed; a running one learns of it by `reload`.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = {ADMIN: self._kept_verifier() or scram.verifier(self.password), **users}
        listed = "".join(f'"{name.replace(chr(34), chr(34) * 2)}" "{key}"\n' for name, key in keys.items())
        written = [self._write("userlist.txt", listed), self._write("pgbouncer.ini", self._text(databases, sizes))]
        if self.user:
            shutil.chown(self.folder, self.user)
        return any(written)

    def running(self) -> Process | None:
        """Return the process that serves this folder, whoever remembers it."""
        try:
            process = psutil.Process(int((self.folder / "pgbouncer.pid").read_text()))
            if process.status() == psutil.STATUS_ZOMBIE or str(self._ini) not in process.cmdline():
                return None
            return Process(process.pid, process.create_time())
        except (OSError, ValueError, psutil.Error):
            return None

    def start(self, patience: float = 20) -> Process:
        """Start on `port` and return once it lets clients in; raises StackError with the log's last lines."""
        found = program()
        if found is None:
            raise StackError("PgBouncer is not installed: `apt-get install pgbouncer`, then `tidegate up`")
        (self.folder / "pgbouncer.pid").unlink(missing_ok=True)
        process = launch([found, "-q", self._ini], log=self.log, environment={"LC_ALL": "C"}, user=self.user)
        deadline = time.monotonic() + patience
        while not self._lets_in():
            if not process.is_alive() or time.monotonic() > deadline:
                process.stop(patience=1)
                taken = " (a stranger listens there)" if not is_free(self.port) else ""
                raise StackError(
                    f"PgBouncer did not start on {LOOPBACK}:{self.port}{taken}. The end of {self.log}:\n{tail(self.log)}\n"
                    "    Mend what it says and run `tidegate up` again."
                )
            time.sleep(0.01)
        return process

    def stop(self) -> None:
        """End it at once: clients are cut, as the server is about to cut them anyway."""
        process = self.running()
        if process:
            process.stop(patience=5)

    def dsn(self, database: str, user: str, password: str) -> str:
        """Return the `postgresql://` address of a database behind the pool, password included."""
        return f"postgresql://{quote(user)}:{quote(password, safe='')}@{LOOPBACK}:{self.port}/{quote(database)}"

    def reload(self) -> None:
        """Have it read its files again."""
        self._command("RELOAD")

    def pause(self, patience: float = 30) -> None:
        """Let transactions end and hold back new ones; when it returns, no connection to the server is left.

        Raises:
            BusyError: a transaction was still open after `patience` seconds; clients are served again.
        """
        deadline = time.monotonic() + patience
        with self._console() as console:
            # By name: of what is paused as a whole the console does not tell that it is.
            for place in self._places(console):
                if int(place["paused"]):
                    continue
                console.pgconn.send_query(f"PAUSE {place['name']}".encode())
                while console.pgconn.is_busy():
                    if not select.select([console.pgconn.socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
                        console.close()
                        self.resume()
                        raise BusyError(
                            f"the pool was not drained within {patience:.0f} s: a transaction is open. `tidegate pool "
                            "status` shows whose; clients are served again"
                        )
                    console.pgconn.consume_input()
                while console.pgconn.get_result():
                    pass

    def resume(self) -> None:
        """Serve clients again; nothing happens where they are served."""
        with self._console() as console:
            for place in self._places(console):
                if int(place["paused"]):
                    console.execute(f"RESUME {place['name']}".encode())

    def reconnect(self) -> None:
        """Have each connection to the server replaced by a new one as soon as it is free."""
        self._command("RECONNECT")

    @contextmanager
    def held(self, patience: float = 30) -> Iterator[None]:
        """Hold clients back while the block runs: they see a longer query, and no error. Raises as `pause`."""
        self.pause(patience)
        try:
            yield
        finally:
            self.resume()

    def load(self) -> Load:
        """Ask how it fares; raises UnavailableError when it does not answer."""
        with self._console() as console:
            pools = [row for row in self._rows(console, "SHOW POOLS") if row["database"] != "pgbouncer"]
            places = self._places(console)
        sizes = {row["name"]: int(row["pool_size"]) for row in places}
        limit = sum(int(row["max_connections"]) for row in places)
        busy = sum(int(row["sv_active"]) for row in pools)
        shares = [int(row["sv_active"]) / sizes[row["database"]] for row in pools if row["database"] in sizes]
        return Load(
            paused=any(int(row["paused"]) for row in places),
            clients=sum(int(row["cl_active"]) for row in pools),
            waiting=sum(int(row["cl_waiting"]) for row in pools),
            longest_wait=max((int(row["maxwait"]) + int(row["maxwait_us"]) / 1e6 for row in pools), default=0.0),
            busy=busy,
            idle=sum(int(row["sv_idle"]) + int(row["sv_used"]) for row in pools),
            size=limit,
            utilisation=max([*shares, busy / limit if limit else 0.0]),
            pools=tuple(pools),
        )

    @property
    def _ini(self) -> Path:
        return self.folder / "pgbouncer.ini"

    def _text(self, databases: Mapping[str, int], sizes: Sizes) -> str:
        # A setting, a temporary table, a lock that a client leaves behind is another one's surprise: the session is
        # cleared after each transaction, which costs one more round trip to a server on the same machine.
        options = {
            "listen_addr": LOOPBACK,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "pidfile": self.folder / "pgbouncer.pid",
            "auth_type": "scram-sha-256",
            "auth_file": self.folder / "userlist.txt",
            "admin_users": ADMIN,
            "pool_mode": "transaction",
            "max_client_conn": sizes.clients,
            "default_pool_size": sizes.per_user,
            "max_db_connections": sizes.in_all,
            "server_reset_query": "DISCARD ALL",
            "server_reset_query_always": 1,
            # A server that is being started or promoted is tried again soon: after a failover of a third of a second,
            # clients would otherwise wait for the rest of the second.
            "server_login_retry": 0.1,
            "query_wait_timeout": 120,
            "ignore_startup_parameters": "extra_float_digits",
            "log_connections": 0,
            "log_disconnections": 0,
        }
        found = program()
        if found and version(found) >= (1, 21):
            # From there on the pool can follow statements that are prepared by protocol. Clearing the session would
            # take them from under it: psycopg must not prepare (prepare_threshold=None), as with the versions before.
            options["max_prepared_statements"] = 0
        places = [f"{name} = host={LOOPBACK} port={port} dbname={name}" for name, port in databases.items()]
        lines = [f"{name} = {value}".rstrip() for name, value in options.items()]
        head = "; Written by tidegate: changes here are lost."
        return "\n".join([head, "[databases]", *places, "[pgbouncer]", *lines, ""])

    def _write(self, name: str, text: str) -> bool:
        file = self.folder / name
        if file.exists() and file.read_text() == text:
            return False
        write_private(file, text)
        if self.user:
            shutil.chown(file, self.user)
        return True

    def _kept_verifier(self) -> str | None:
        """Return the console's key as it is written down, if it is still that of the password."""
        file = self.folder / "userlist.txt"
        kept = re.search(f'^"{ADMIN}" "(.+)"$', file.read_text(), re.M) if file.exists() else None
        return kept[1] if kept and scram.matches(kept[1], self.password) else None

    def _lets_in(self) -> bool:
        try:
            with self._console():
                return True
        except UnavailableError:
            return False

    @contextmanager
    def _console(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        try:
            address = self.dsn("pgbouncer", ADMIN, self.password)
            with psycopg.connect(address, autocommit=True, row_factory=dict_row, connect_timeout=5) as connection:
                yield connection
        except psycopg.Error as error:
            raise UnavailableError(
                f"the pool at {LOOPBACK}:{self.port} does not answer ({first_line(error)}); `tidegate up` starts it"
            ) from error

    def _command(self, words: str) -> None:
        with self._console() as console:
            console.execute(words.encode())

    def _places(self, console: psycopg.Connection[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in self._rows(console, "SHOW DATABASES") if row["name"] != "pgbouncer"]

    @staticmethod
    def _rows(console: psycopg.Connection[dict[str, Any]], words: str) -> list[dict[str, Any]]:
        return console.execute(words.encode()).fetchall()
