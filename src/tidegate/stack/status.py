"""What runs and where: read from memory, verified against the machine; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.settings import Settings
from tidegate.stack import addresses, airflow, redis, redis_server, sail, warehouse
from tidegate.stack.lifecycle import API, SAIL, Embedded
from tidegate.stack.memory import Memory
from tidegate.stack.port import LOOPBACK
from tidegate.stores.postgres import without_password
from tidegate.stores.redis import Address

SERVICES = (warehouse.NAME, *airflow.COMPONENTS, SAIL, redis.NAME)


@dataclass(frozen=True)
class Service:
    """One server; `state` is running, stopped, dead (it was started and has died) or external."""

    state: str
    address: str | None
    pid: int | None
    version: str | None


@dataclass(frozen=True)
class Status:
    """The whole stack of one checkout."""

    home: str
    warehouse_dsn: str | None
    airflow_url: str | None
    spark_remote: str | None
    services: dict[str, Service]
    audit: str
    """Which changes of the schema leave a line in ops.audit."""


def look(settings: Settings) -> Status:
    """Return the state of every server; external ones are named, not asked."""
    memory = Memory.load(settings.home)
    here = Embedded.of(settings)
    dsn = addresses.plain(settings.warehouse_url)
    services = {warehouse.NAME: _postgres(settings, memory) if here.postgres else _external(dsn)}
    for name in airflow.COMPONENTS:
        address = settings.airflow_url if name == API else None
        services[name] = (
            _remembered(memory, name, address, airflow.running_version()) if here.airflow else _external(address)
        )
    services[SAIL] = (
        _remembered(memory, SAIL, settings.spark_remote, sail.running_version())
        if here.spark
        else _external(settings.spark_master or settings.spark_remote)
    )
    if not here.redis:
        services[redis.NAME] = Service(
            "external", str(Address.of(addresses.plain(settings.redis_url) or "")), None, None
        )
    elif redis.NAME in memory.wanted:
        services[redis.NAME] = _redis(settings, memory)
    return Status(
        home=str(settings.home),
        warehouse_dsn=without_password(dsn) if dsn else None,
        airflow_url=settings.airflow_url,
        spark_remote=settings.spark_remote,
        services=services,
        audit="every change of the schema is recorded"
        if here.warehouse
        else "changes of the schema that do not pass tidegate are recorded only where an administrator ran "
        "migrations/audit.sql (`tidegate audit verify` tells); ops.schema_change has the others",
    )


def _external(address: str | None) -> Service:
    shown = without_password(address) if address and "@" in address else address
    return Service("external", shown, None, None)


def _postgres(settings: Settings, memory: Memory) -> Service:
    server = warehouse.server_of(settings)
    running = server.running()
    if running:
        return Service("running", f"{LOOPBACK}:{server.port}", running.pid, server.programs().version)
    return Service("dead" if warehouse.NAME in memory.processes else "stopped", None, None, None)


def _redis(settings: Settings, memory: Memory) -> Service:
    server = redis.server_of(settings)
    running = server.running()
    if running:
        return Service("running", f"{LOOPBACK}:{server.port}", running.pid, redis_server.version())
    return Service("dead" if redis.NAME in memory.processes else "stopped", None, None, None)


def _remembered(memory: Memory, name: str, address: str | None, version: str) -> Service:
    process = memory.processes.get(name)
    if process is None:
        return Service("stopped", None, None, version)
    if process.is_alive():
        return Service("running", address, process.pid, version)
    return Service("dead", None, process.pid, version)
