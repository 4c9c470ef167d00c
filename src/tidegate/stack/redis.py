"""The embedded Redis: one server under `.tidegate/redis`, started when asked for (`tidegate up --with redis`).

It repairs what an interrupted or killed run has left and says so; the server itself is `redis_server.py`.
"""

from __future__ import annotations

import hashlib
import shutil

from tidegate.settings import Settings
from tidegate.stack import warehouse
from tidegate.stack.home import Home
from tidegate.stack.port import LOOPBACK
from tidegate.stack.redis_server import RedisServer
from tidegate.stack.secret import Secrets
from tidegate.stack.supervisor import Supervisor

NAME = "redis"
BASE_PORT = 6379


def server_of(settings: Settings) -> RedisServer:
    """Return the server of this checkout, started or not; nothing is made or asked yet."""
    secrets = Secrets.load(settings.home)
    log = Home(settings.home).logs / f"{NAME}.log"
    place = warehouse.place_of(settings, NAME).resolve()
    return RedisServer(place, secrets.redis_password, secrets.redis_keeper_password, log, memory=settings.redis_memory)


def start(settings: Settings, supervisor: Supervisor) -> RedisServer:
    """Make the server run and return it; what is broken is mended, and said."""
    warehouse.link(settings, supervisor, NAME)
    server = server_of(settings)
    fingerprint = repr(sorted({**server.configuration(), "port": "", "password": server.password}.items()))
    configuration = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
    running = server.running()
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
    process = supervisor.start_listening(NAME, BASE_PORT, server, mend=lambda: _mended(server, supervisor))
    supervisor.remember(NAME, process, configuration)
    supervisor.say(f"{NAME}: started on {LOOPBACK}:{server.port} (pid {process.pid})")
    return server


def stop(settings: Settings, supervisor: Supervisor) -> None:
    """Stop the server of this folder, whether it is remembered or not."""
    if not (settings.home / NAME).exists():
        return
    supervisor.end(NAME, server_of(settings))


def _mended(server: RedisServer, supervisor: Supervisor) -> bool:
    """Mend the log of writes, a copy of which goes to the archive first; return whether there was damage."""
    damage = server.damage()
    if damage is None:
        return False
    copy = server.append_only.with_name("appendonlydir.damaged")
    shutil.copytree(server.append_only, copy)
    kept = supervisor.home.archive(copy)
    if server.repair():
        supervisor.say(
            f"{NAME}: its log of writes was damaged ({damage}), cut behind the last whole one; as it was: {kept}"
        )
    else:
        aside = supervisor.home.archive(server.directory)
        supervisor.say(
            f"{NAME}: its log of writes is damaged beyond repair ({damage}), moved to {aside}: it starts empty, which "
            "costs time and nothing else"
        )
    return True
