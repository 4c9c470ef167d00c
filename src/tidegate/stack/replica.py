"""The embedded warehouse's replica: kept when it is wanted, made anew when it cannot follow, made the primary on demand.

What a standby is, `standby.py` knows; how two change places, `failover.py`.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from tidegate.errors import StackError, UsageError
from tidegate.settings import Settings
from tidegate.stack import pool, rejoin, standby, wal_archive, warehouse
from tidegate.stack.cluster import Cluster
from tidegate.stack.failover import Failover, failover
from tidegate.stack.home import Home
from tidegate.stack.port import LOOPBACK
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.secret import Secrets
from tidegate.stack.standby import Link, StrandedError
from tidegate.stack.supervisor import Supervisor

NAME = "replica"
BASE_PORT = 5932


def wanted(settings: Settings) -> bool:
    """Return whether this checkout is to have a replica."""
    return Cluster.load(settings.home).replica


def want(home: Path, wish: bool) -> None:
    """Remember whether there is to be a replica; the next `up` sees to it."""
    cluster = Cluster.load(home)
    if cluster.replica != wish:
        cluster.with_replica(wish).save()


def mine(settings: Settings) -> PostgresServer:
    """Return the replica, running or not, with the superuser's password, which is the primary's."""
    server = warehouse.twin_of(settings)
    server.password = Secrets.load(settings.home).postgres_password
    return server


def reach(settings: Settings) -> PostgresServer:
    """Return the running replica; raises StackError when there is none."""
    warehouse.mine(settings)
    server = mine(settings)
    if not server.running():
        raise StackError("no replica runs: `tidegate up --with replica` makes one, and `tidegate up` starts it again")
    return server


def loosen(settings: Settings) -> None:
    """Where the replica is gone, have no commit wait for it any more: `up` itself writes before it has it back."""
    if not (wanted(settings) and warehouse.is_mine(settings)):
        return
    primary = warehouse.mine(settings)
    if primary.running() and not warehouse.twin_of(settings).running():
        warehouse.configure(settings, primary)
        standby.insist(primary, False)


def start(settings: Settings, supervisor: Supervisor, primary: PostgresServer) -> PostgresServer | None:
    """Make the replica follow the running primary and return it; None where none is wanted.

    One that is stale, diverged or damaged is brought back by pg_rewind, or made anew, and said.
    """
    server = mine(settings)
    if not wanted(settings):
        _remove(server, primary, supervisor)
        return None
    link = link_of(settings, primary)
    configuration = warehouse.configure(settings, primary)
    server.settings = primary.settings
    running = server.running()
    remembered = supervisor.memory.processes.get(NAME)
    if running and remembered and (remembered.pid, remembered.configuration) == (running.pid, configuration):
        told = f"already running on {LOOPBACK}:{server.port} (pid {running.pid})"
    else:
        server.stop()
        server.port = supervisor.port_for(NAME, BASE_PORT)
        told = ""
    try:
        standby.admit(primary, link)
        if told:
            standby.wait_until_fed(primary, server, server.log.stat().st_size)
        elif _is_copy_of(server, primary):
            standby.start(primary, server, link)
        else:
            rejoin.rebuild(primary, server, link, _aside(settings, server))
            told = f"copied from the primary, started on {LOOPBACK}:{server.port}"
    except StrandedError as error:
        supervisor.say(f"{NAME}: {str(error).splitlines()[0]}")
        server.stop(patience=5)
        how = rejoin.rejoin(primary, server, link, supervisor.say, _aside(settings, server))
        told = f"{how}, started on {LOOPBACK}:{server.port}"
    process = server.running()
    if process is None:
        raise StackError(f"the replica has ended; `tidegate logs {NAME}` says why")
    supervisor.remember(NAME, process, configuration)
    supervisor.say(f"{NAME}: {told or f'started on {LOOPBACK}:{server.port} (pid {process.pid})'}")
    standby.insist(primary, settings.replica_synchronous)
    return server


def stop(settings: Settings, supervisor: Supervisor) -> None:
    """Stop the replica, whether it is remembered or not."""
    supervisor.end(NAME, warehouse.twin_of(settings))


def fail_over(settings: Settings, supervisor: Supervisor) -> Failover:
    """Make the replica the primary and the primary, dead or alive, the replica; to be called under the home's lock.

    Raises:
        UsageError: there is to be no replica.
        StackError: it does not run, or was not promoted.
    """
    cluster, primary = Cluster.load(settings.home), warehouse.mine(settings)
    if not cluster.replica:
        raise UsageError("there is no replica to fail over to: `tidegate up --with replica` makes one")
    server = reach(settings)
    synchronous = settings.replica_synchronous
    configuration = warehouse.configure(settings, server)
    if not primary.running():
        primary.port = supervisor.memory.ports[warehouse.NAME]
    if primary.is_made():
        warehouse.configure(settings, primary)
    primary.settings = server.settings

    def decide() -> None:
        cluster.turned().save()
        memory = supervisor.memory
        memory.ports[warehouse.NAME], memory.ports[NAME] = server.port, primary.port
        process = server.running()
        memory.processes.pop(NAME, None)
        if process:
            supervisor.remember(warehouse.NAME, process, configuration)

    done = failover(
        primary, server, link_of(settings, server), pool=pool.mine(settings), say=supervisor.say, decide=decide,
        archive=warehouse.archive_of(settings), aside=_aside(settings, primary), synchronous=synchronous,
    )  # fmt: skip
    if process := primary.running():
        supervisor.remember(NAME, process, configuration)
    return done


def link_of(settings: Settings, server: PostgresServer) -> Link:
    """Return how the replica is fed: through the slot, and what that has no more from the archive of the WAL."""
    folder = warehouse.archive_of(settings)
    return Link(
        Secrets.load(settings.home).replication_password,
        wal_archive.fetching(folder, [folder / server.identity()]),
    )


def _is_copy_of(server: PostgresServer, primary: PostgresServer) -> bool:
    return server.is_made() and server.identity() == primary.identity() and server.made_by() == primary.made_by()


def _aside(settings: Settings, server: PostgresServer) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return Home(settings.home).path / "archive" / f"{server.directory.name}-{stamp}"


def _remove(server: PostgresServer, primary: PostgresServer, supervisor: Supervisor) -> None:
    """Let go of a replica that is not wanted any more: it holds nothing that the primary has not."""
    if not server.directory.exists() and NAME not in supervisor.memory.processes:
        return
    standby.insist(primary, False)
    server.stop()
    standby.dismiss(primary)
    supervisor.forget(NAME)
    if rejoin.fenced_mark(server).exists():
        moved = supervisor.home.archive(server.directory)
        supervisor.say(f"{NAME}: not wanted any more; it was a primary once, and is kept in {moved}")
    else:
        shutil.rmtree(server.directory, ignore_errors=True)
        supervisor.say(f"{NAME}: not wanted any more, removed")
