"""One PostgreSQL server in one directory: made, configured, started, stopped, recovered.

The embedded stack and the test suite both use it. Its databases are `postgres_databases.py`'s matter.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psutil

from tidegate.errors import StackError
from tidegate.stack import postgres_binaries
from tidegate.stack.port import LOOPBACK, is_free
from tidegate.stack.postgres_binaries import Binaries
from tidegate.stack.postgres_tuning import TUNING
from tidegate.stack.process import Process, launch, tail

SUPERUSER = "postgres"


@dataclass
class PostgresServer:
    """A server on loopback whose data lie in `directory`; every connection needs a SCRAM password.

    `password` is the superuser's. `settings` win over TUNING (a test's server passes `fsync: off`).
    `user` is the account that the server runs as when root starts it; `programs_in` names the folder of the
    programs to use instead of the newest that fit. `admits` says which role may connect; who that is, is written
    into the server's files at each `configure`.
    """

    directory: Path
    password: str = field(repr=False)
    log: Path
    port: int = 0
    programs_in: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    user: str | None = field(default_factory=postgres_binaries.account)
    admits: str = "all"
    _programs: Binaries | None = field(default=None, init=False, repr=False)

    def is_made(self) -> bool:
        """Return whether the directory holds a whole cluster: it is named only after `initdb` has ended."""
        return (self.directory / "PG_VERSION").is_file() and (self.directory / "global" / "pg_control").is_file()

    def made_by(self) -> int | None:
        """Return the major version of PostgreSQL that made the directory, None if it is not made."""
        return int((self.directory / "PG_VERSION").read_text()) if self.is_made() else None

    def identity(self) -> str:
        """Return the number by which PostgreSQL tells this cluster from all others; a copy has its original's."""
        with (self.directory / "global" / "pg_control").open("rb") as control:
            return str(int.from_bytes(control.read(8), sys.byteorder))

    def programs(self) -> Binaries:
        """Return the programs that fit the directory; raises StackError when the machine has none."""
        if self._programs is None:
            made_by = self.made_by()
            self._programs = postgres_binaries.find(self.programs_in, major=made_by)
        return self._programs

    def make(self) -> None:
        """Run `initdb` beside the directory's place and move the finished cluster there in one step."""
        base = self.directory.parent
        base.mkdir(parents=True, exist_ok=True)
        # A name of its own each time: an `initdb` whose parent was killed may still write into the last one.
        making = Path(tempfile.mkdtemp(prefix=f"{self.directory.name}.making-", dir=base))
        secret = making / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        cluster = making / "cluster"
        if self.user:
            for path in (making, secret):
                shutil.chown(path, self.user)
        try:
            self.run(
                "initdb",
                f"--pgdata={cluster}",
                f"--username={SUPERUSER}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--data-checksums",
                *(["--no-sync"] if self.settings.get("fsync") == "off" else []),
            )
        finally:
            secret.unlink(missing_ok=True)
        with (cluster / "postgresql.conf").open("a") as conf:
            conf.write("include 'tidegate.conf'  # written anew at each start\n")
        cluster.rename(self.directory)
        making.rmdir()

    @property
    def standby_mark(self) -> Path:
        """The file that keeps PostgreSQL from ever accepting writes here, until it is promoted."""
        return self.directory / "standby.signal"

    def mark_standby(self) -> None:
        """Make the directory a standby's, on disk before this returns; takes effect at the next start."""
        self.standby_mark.touch()
        if self.user:
            shutil.chown(self.standby_mark, self.user)
        folder = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def configure(self) -> None:
        """Write `tidegate.conf` and who may come in; takes effect at the next start."""
        own = {"listen_addresses": LOOPBACK, "port": str(self.port), "unix_socket_directories": ""}
        lines = [f"{name} = {_quoted(value)}" for name, value in {**TUNING, **self.settings, **own}.items()]
        # `all` does not mean replication, by which backups are taken.
        doors = [f"host {database} {self.admits} {LOOPBACK}/32 scram-sha-256" for database in ("all", "replication")]
        for name, text in (("tidegate.conf", lines), ("pg_hba.conf", doors)):
            file = self.directory / name
            file.write_text("\n".join(["# Written by tidegate at each start: changes here are lost.", *text, ""]))
            if self.user:
                shutil.chown(file, self.user)

    def running(self) -> Process | None:
        """Return the server process of this directory, whoever remembers it; also sets `port`.

        `postmaster.pid` is believed only when its process works in this very directory.
        """
        try:
            pid, _, _, port = (self.directory / "postmaster.pid").read_text().splitlines()[:4]
            process = psutil.Process(int(pid))
            if process.status() == psutil.STATUS_ZOMBIE or not self._works_here(process):
                return None
            self.port = int(port)
            return Process(process.pid, process.create_time())
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None

    def clear_stale_pid_file(self) -> Path | None:
        """Move a `postmaster.pid` whose server is gone out of the way, or return None if there is none.

        PostgreSQL itself refuses to start when a stranger has that pid by now. Children of a killed server
        hold its shared memory for a moment: they are waited for, then ended.
        """
        file = self.directory / "postmaster.pid"
        if not file.exists() or self.running():
            return None
        self.end_orphans()
        return file.rename(self.directory / "postmaster.pid.stale")

    def start(self, patience: float = 60) -> Process:
        """Start on `port` and return once connections are accepted.

        The directory is made when it is missing. Raises StackError with the log's last lines.
        """
        if not self.is_made():
            self.make()
        self.clear_stale_pid_file()
        self.configure()
        process = launch(
            [self.programs().folder / "postgres", "-D", self.directory],
            log=self.log,
            environment={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            user=self.user,
        )
        deadline = time.monotonic() + patience
        while not self._accepts(process.pid):
            if not process.is_alive() or time.monotonic() > deadline:
                process.stop(gently=signal.SIGQUIT, patience=2)
                taken = " (a stranger listens there)" if not is_free(self.port) else ""
                raise StackError(
                    f"PostgreSQL did not start on {LOOPBACK}:{self.port}"
                    f"{taken}. The end of {self.log}:\n{tail(self.log)}\n"
                    "    Mend what it says and run `tidegate up` again."
                )
            time.sleep(0.02)
        return process

    def reload(self) -> None:
        """Write the configuration and have the running server take over what needs no restart."""
        process = self.running()
        self.configure()
        if process:
            process.ask_to_end(signal.SIGHUP)

    def takes_password(self) -> bool:
        """Return whether the running server knows the superuser by this password."""
        import psycopg

        try:
            psycopg.connect(self.dsn()).close()
        except psycopg.OperationalError as refused:
            if "password authentication failed" in str(refused):
                return False
            raise
        return True

    def reset_password(self) -> None:
        """Set the superuser's password in the stopped server's directory, where no old one is asked for."""
        self.run("postgres", "--single", "-D", str(self.directory), "postgres", said=self._password_statement())

    def stop(self, patience: float = 30) -> None:
        """Disconnect clients, write a checkpoint, end; only the server of this directory is touched."""
        process = self.running()
        if process:
            process.stop(gently=signal.SIGINT, patience=patience)

    def end_orphans(self) -> None:
        """End what a killed server has left behind: its children hold its shared memory, and write, for a moment."""
        orphans = [p for p in psutil.process_iter() if self._works_here(p)]
        _, alive = psutil.wait_procs(orphans, timeout=5)
        for orphan in alive:
            orphan.send_signal(signal.SIGQUIT)
        psutil.wait_procs(alive, timeout=5)

    def dsn(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """Return the `postgresql://` address of a database, password included."""
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{quote(user)}:{secret}@{LOOPBACK}:{self.port}/{quote(database)}"

    def _accepts(self, pid: int) -> bool:
        try:
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _works_here(self, process: psutil.Process) -> bool:
        try:
            return process.cwd() == str(self.directory.resolve()) and process.name().startswith("postgres")
        except (psutil.Error, OSError):
            return False

    def _password_statement(self) -> str:
        quoted = self.password.replace("'", "''")
        return f"ALTER ROLE {SUPERUSER} PASSWORD '{quoted}'\n"

    def run(self, program: str, *arguments: str, said: str = "", environment: Mapping[str, str] | None = None) -> str:
        """Run one of PostgreSQL's programs as the server's user, which owns the data; return what it printed.

        Raises StackError with its words when it fails.
        """
        command = [str(self.programs().folder / program), *arguments]
        done = subprocess.run(
            command,
            user=self.user,
            extra_groups=[] if self.user else None,
            cwd="/",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", **(environment or {})},
            input=said,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(
                f"`{program}` ended with status {done.returncode}: {done.stderr.strip()}. "
                "Mend what it says and run `tidegate up` again."
            )
        return done.stdout


def _quoted(value: str) -> str:
    """Return a value as the configuration file wants it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
