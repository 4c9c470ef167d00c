"""What runs and where: read from memory, verified against the machine; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tidegate.settings import Settings
from tidegate.stack import (
    addresses,
    airflow,
    kafka,
    pgbouncer,
    pool,
    redis,
    redis_server,
    replica,
    sail,
    warehouse,
)
from tidegate.stack.home import Home
from tidegate.stack.jars import KAFKA
from tidegate.stack.lifecycle import API, SAIL, Embedded
from tidegate.stack.memory import Memory
from tidegate.stack.port import LOOPBACK
from tidegate.stack.postgres import PostgresServer
from tidegate.stores.kafka import Address as KafkaAddress
from tidegate.stores.postgres import without_password
from tidegate.stores.redis import Address

SERVICES = (warehouse.NAME, replica.NAME, pool.NAME, *airflow.COMPONENTS, SAIL, redis.NAME, kafka.NAME)


@dataclass(frozen=True)
class Service:
    """One server; `state` is running, stopped, dead (it was started and has died), external or not installed."""

    state: str
    address: str | None
    pid: int | None
    version: str | None


@dataclass(frozen=True)
class Status:
    """The whole stack of one checkout."""

    home: str
    warehouse_dsn: str | None
    pool_dsn: str | None
    replica_dsn: str | None
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
    pool_dsn, replica_dsn = addresses.plain(settings.pool_url), addresses.plain(settings.replica_url)
    services = {warehouse.NAME: _postgres(settings, memory) if here.postgres else _external(dsn)}
    if replica.wanted(settings) or (replica_dsn and not here.warehouse):
        services[replica.NAME] = _replica(settings, memory) if here.warehouse else _external(replica_dsn)
    services[pool.NAME] = _pool(settings, memory) if here.warehouse else _external(pool_dsn)
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
    if not here.kafka:
        shown = str(KafkaAddress.of(addresses.plain(settings.kafka_url) or ""))
        services[kafka.NAME] = Service("external", shown, None, None)
    elif kafka.NAME in memory.wanted:
        services[kafka.NAME] = _kafka(settings, memory)
    return Status(
        home=str(settings.home),
        warehouse_dsn=without_password(dsn) if dsn else None,
        pool_dsn=without_password(pool_dsn) if pool_dsn else None,
        replica_dsn=without_password(replica_dsn) if replica_dsn else None,
        airflow_url=settings.airflow_url,
        spark_remote=settings.spark_remote,
        services=services,
        audit="every change of the schema is recorded"
        if here.warehouse
        else "changes of the schema that do not pass tidegate are recorded only where an administrator ran "
        "migrations/audit.sql (`tidegate audit verify` tells); ops.schema_change has the others",
    )


def log_of(settings: Settings, service: str) -> Path:
    """Return the log of a service; of a PostgreSQL it is called as its data directory, and moves with it."""
    if service == warehouse.NAME:
        return warehouse.server_of(settings).log
    if service == replica.NAME:
        return warehouse.twin_of(settings).log
    return Home(settings.home).logs / f"{service}.log"


def _external(address: str | None) -> Service:
    shown = without_password(address) if address and "@" in address else address
    return Service("external", shown, None, None)


def _postgres(settings: Settings, memory: Memory) -> Service:
    return _server(warehouse.server_of(settings), warehouse.NAME, memory)


def _replica(settings: Settings, memory: Memory) -> Service:
    return _server(warehouse.twin_of(settings), replica.NAME, memory)


def _server(server: PostgresServer, name: str, memory: Memory) -> Service:
    running = server.running()
    if running:
        return Service("running", f"{LOOPBACK}:{server.port}", running.pid, server.programs().version)
    return Service("dead" if name in memory.processes else "stopped", None, None, None)


def _pool(settings: Settings, memory: Memory) -> Service:
    program = pgbouncer.program()
    if program is None:
        return Service("not installed", None, None, None)
    version = ".".join(map(str, pgbouncer.version(program)))
    running = pool.of(settings).running()
    if running:
        return Service("running", f"{LOOPBACK}:{memory.ports.get(pool.NAME)}", running.pid, version)
    return Service("dead" if pool.NAME in memory.processes else "stopped", None, None, version)


def _redis(settings: Settings, memory: Memory) -> Service:
    server = redis.server_of(settings)
    running = server.running()
    if running:
        return Service("running", f"{LOOPBACK}:{server.port}", running.pid, redis_server.version())
    return Service("dead" if redis.NAME in memory.processes else "stopped", None, None, None)


def _kafka(settings: Settings, memory: Memory) -> Service:
    server = kafka.server_of(settings)
    running = server.running()
    if running:
        return Service("running", f"{LOOPBACK}:{server.port}", running.pid, KAFKA.version)
    return Service("dead" if kafka.NAME in memory.processes else "stopped", None, None, None)


def _remembered(memory: Memory, name: str, address: str | None, version: str) -> Service:
    process = memory.processes.get(name)
    if process is None:
        return Service("stopped", None, None, version)
    if process.is_alive():
        return Service("running", address, process.pid, version)
    return Service("dead", None, process.pid, version)
