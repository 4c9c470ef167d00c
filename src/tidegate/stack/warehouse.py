"""The embedded warehouse: one PostgreSQL under `.tidegate/postgres` with the platform's two databases.

It repairs what an interrupted or killed run has left and says so; the server itself is `postgres.py`.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import psycopg

from tidegate.errors import StackError
from tidegate.settings import Settings
from tidegate.stack import addresses, postgres_binaries, standby, wal_archive
from tidegate.stack.cluster import SECOND, Cluster
from tidegate.stack.home import Home
from tidegate.stack.port import LOOPBACK
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import (
    COUNTER,
    READS_LOGGED,
    ensure_databases,
    ensure_roles,
    ensure_statements_are_counted,
)
from tidegate.stack.postgres_tuning import TUNING
from tidegate.stack.secret import Secrets
from tidegate.stack.supervisor import Supervisor

NAME = "postgres"
WAL = "wal"
BASE_PORT = 5432
SYSTEM_FOLDER = Path("/var/lib/tidegate")
OWNER = "tidegate"


def server_of(settings: Settings) -> PostgresServer:
    """Return the server of this checkout, started or not; nothing is made or asked yet."""
    return _server_in(settings, Cluster.load(settings.home).primary)


def twin_of(settings: Settings) -> PostgresServer:
    """Return the server in the other folder: the replica, or what is to become one."""
    return _server_in(settings, Cluster.load(settings.home).standby)


def _server_in(settings: Settings, folder: str) -> PostgresServer:
    return PostgresServer(
        (settings.home / folder).resolve(), "", Home(settings.home).logs / f"{folder}.log",
        programs_in=settings.postgres_bin,
    )  # fmt: skip


def archive_of(settings: Settings) -> Path:
    """Return the folder of the server's WAL archive, where PostgreSQL's own user can write."""
    return (settings.home / "backups" / WAL).resolve()


def reach(settings: Settings) -> PostgresServer:
    """Return the running server of this checkout, its superuser's password with it.

    Raises StackError when it does not run, or when the warehouse is somebody else's server.
    """
    server = mine(settings)
    if not server.running():
        raise StackError("the warehouse does not run: `tidegate up` starts it")
    return server


def is_mine(settings: Settings) -> bool:
    """Return whether the warehouse is the embedded server."""
    return "warehouse_url" not in addresses.external(settings)


def mine(settings: Settings) -> PostgresServer:
    """Return the server of this checkout, running or not; raises StackError when the warehouse is somebody else's."""
    if not is_mine(settings):
        raise StackError(
            "the warehouse is a server of your own (TIDEGATE_WAREHOUSE_URL), whose files tidegate has no hand on: "
            "whoever runs it backs it up. `tidegate backup` is for the embedded one"
        )
    server = server_of(settings)
    server.password = Secrets.load(settings.home).postgres_password
    return server


def start(settings: Settings, supervisor: Supervisor) -> PostgresServer:
    """Make the server run with both databases and return it; what is broken is mended, and said."""
    make_places(settings, supervisor)
    server = server_of(settings)
    server.password = Secrets.load(settings.home).postgres_password
    _set_aside_unfinished(server, supervisor)
    if not server.is_made():
        server.make()
        supervisor.say(f"{NAME}: data directory made")
    configuration = configure(settings, server)
    running = server.running()
    remembered = supervisor.memory.processes.get(NAME)
    if running and remembered and (remembered.pid, remembered.configuration) == (running.pid, configuration):
        supervisor.say(f"{NAME}: already running on {LOOPBACK}:{server.port} (pid {running.pid})")
    else:
        if running:
            supervisor.say(f"{NAME}: runs with a configuration that is not the present one, starting it anew")
            server.stop()
        _start(server, configuration, supervisor)
    if not server.takes_password():
        supervisor.say(f"{NAME}: its data know another password than secrets.json, setting the one of the file")
        server.stop()
        server.reset_password()
        _start(server, configuration, supervisor)
    # What Airflow may have forgotten after a power cut is run again, and ends in the same rows.
    ensure_databases(server, _owners(settings), relaxed=["airflow"])
    ensure_statements_are_counted(server, "warehouse", OWNER)
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        ensure_roles(connection, settings.project, OWNER, Secrets.load(settings.home).logins)
    return server


def configure(settings: Settings, server: PostgresServer) -> str:
    """Give a made server of this checkout its settings; return their fingerprint, the same for primary and replica."""
    server.settings = {**wal_archive.prepare(server, archive_of(settings)), **modules(server)}
    return hashlib.sha256(repr(sorted({**TUNING, **server.settings}.items())).encode()).hexdigest()[:16]


def stop(settings: Settings, supervisor: Supervisor) -> None:
    """Stop the server of this folder, whether it is remembered or not."""
    supervisor.end(NAME, server_of(settings))


def modules(server: PostgresServer) -> dict[str, str]:
    """Return the settings that load the contributed modules which this build of PostgreSQL has."""
    there = [name for name in (COUNTER, *READS_LOGGED) if server.programs().has_library(name)]
    own = {key: value for name in there for key, value in READS_LOGGED.get(name, {}).items()}
    return {"shared_preload_libraries": ", ".join(there), **own} if there else {}


def _owners(settings: Settings) -> dict[str, tuple[str, str]]:
    secrets = Secrets.load(settings.home)
    return {
        "warehouse": ("tidegate", secrets.warehouse_password),
        "airflow": ("airflow", secrets.airflow_database_password),
    }


def _start(server: PostgresServer, configuration: str, supervisor: Supervisor) -> None:
    notes = []
    if server.clear_stale_pid_file():
        notes.append("stale pid file moved aside")
    supervisor.memory.processes.pop(NAME, None)
    process = supervisor.start_listening(NAME, BASE_PORT, server)
    supervisor.remember(NAME, process, configuration)
    if server.standby_mark.exists():
        # A failover was cut short. The decision stands which of the two is the primary, and it begins a timeline.
        standby.promote(server)
        notes.append("an interrupted failover was ended")
    notes.append(f"started on {LOOPBACK}:{server.port} (pid {process.pid})")
    supervisor.say(f"{NAME}: {', '.join(notes)}")


def _set_aside_unfinished(server: PostgresServer, supervisor: Supervisor) -> None:
    base = server.directory.parent
    unfinished = sorted(base.glob(f"{server.directory.name}.making-*"))
    if server.directory.exists() and not server.is_made() and any(server.directory.iterdir()):
        unfinished.append(server.directory)
    for path in unfinished:
        moved = supervisor.home.archive(path)
        supervisor.say(f"{NAME}: an interrupted `initdb` had left {path.name}, moved to {moved}")


def place_of(settings: Settings, name: str) -> Path:
    """Return the folder that PostgreSQL's own user can reach and that this checkout keeps `name` in."""
    user = postgres_binaries.account()
    if user is None or can_enter(user, settings.home):
        return settings.home / name
    key = hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]
    return SYSTEM_FOLDER / f"{settings.project.name}-{key}" / name


def make_places(settings: Settings, supervisor: Supervisor) -> None:
    """Where PostgreSQL's user cannot enter root's checkout, keep data and WAL where it can and link there."""
    user = postgres_binaries.account()
    backups = settings.home / "backups"
    # Dumps inside are files of mode 0600: the folder may be passed through, never listed.
    backups.mkdir(exist_ok=True)
    backups.chmod(0o711 if user else 0o700)
    second = [settings.home / SECOND] if Cluster.load(settings.home).replica else []
    for place in (settings.home / NAME, *second, backups / WAL):
        target = place_of(settings, place.name)
        blocked = target.parent != settings.home
        if place.is_symlink() and place.readlink() == target:
            continue
        if place.is_symlink() or (blocked and place.exists()):
            moved = supervisor.home.archive(place)
            supervisor.say(f"{NAME}: {place} belongs to another checkout or user, moved to {moved}")
        if blocked:
            target.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            place.symlink_to(target)
            supervisor.say(f"{NAME}: user {user} cannot enter {settings.home}, so its {place.name} lies in {target}")


def link(settings: Settings, supervisor: Supervisor, name: str) -> None:
    """Where the servers' account cannot enter the home, let the home show where the data of `name` lie."""
    place, target = settings.home / name, place_of(settings, name)
    if target == place or (place.is_symlink() and place.readlink() == target):
        return
    if place.is_symlink() or place.exists():
        moved = supervisor.home.archive(place)
        supervisor.say(f"{name}: {place} belongs to another checkout or user, moved to {moved}")
    target.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    place.symlink_to(target)


def can_enter(user: str, folder: Path) -> bool:
    """Return whether the account that the server runs as may pass through `folder`; asked by root."""
    return subprocess.run(["test", "-x", folder], user=user, extra_groups=[], cwd="/", check=False).returncode == 0
