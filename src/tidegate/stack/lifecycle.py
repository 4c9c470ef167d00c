"""`up` and `down`: the whole stack in order, each server only where no address from outside replaces it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from tidegate.errors import StackError, UsageError, first_line
from tidegate.migrate import door
from tidegate.settings import Settings
from tidegate.stack import addresses, airflow, kafka, manifest, pool, port, redis, replica, sail, warehouse
from tidegate.stack.airflow_environment import airflow_environment, passwords, passwords_file
from tidegate.stack.failover import Failover
from tidegate.stack.home import Home, Say, write_private
from tidegate.stack.port import LOOPBACK
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_ddl_is_recorded
from tidegate.stack.process import Process, inherited, tail
from tidegate.stack.secret import Secrets
from tidegate.stack.supervisor import Supervisor

SAIL, API = "sail", "airflow-api-server"
OPTIONS = (kafka.NAME, redis.NAME, replica.NAME)
"""Servers that run only where somebody asks for them (`tidegate up --with NAME`)."""
BASE_PORTS = {API: 8080, SAIL: 15002}
PATIENCE = 120
"""Seconds that the servers may take until they answer; a cold disk and a busy machine need most of it."""


@dataclass(frozen=True)
class Embedded:
    """Which servers this checkout runs by itself; the others have an address from outside."""

    warehouse: bool
    airflow: bool
    airflow_database: bool
    spark: bool
    redis: bool
    """Whether one would be ours; it runs where it is asked for."""
    kafka: bool
    """Likewise."""

    @classmethod
    def of(cls, settings: Settings) -> Embedded:
        """Read it off the settings."""
        theirs = addresses.external(settings)
        here = "airflow_url" not in theirs
        return cls(
            warehouse="warehouse_url" not in theirs,
            airflow=here,
            airflow_database=here and "airflow_database_url" not in theirs,
            spark="spark_remote" not in theirs and settings.spark_master is None,
            redis="redis_url" not in theirs,
            kafka="kafka_url" not in theirs,
        )

    @property
    def postgres(self) -> bool:
        """Whether a PostgreSQL of our own is needed, for either database."""
        return self.warehouse or self.airflow_database


def up(
    settings: Settings,
    say: Say,
    *,
    more: Iterable[str] = (),
    less: Iterable[str] = (),
    if_possible: Iterable[str] = (),
) -> Settings:
    """Start what does not run, mend what is broken, and return the settings with every address filled in.

    `more` and `less` name servers of OPTIONS that are to run from now on, or no longer; it is remembered. `if_possible` are
    like `more`, but one that somebody has said no to is left alone, and one that cannot be had is said, and does without.

    Raises StackError when a server cannot be had; what has started stays up, and `up` can be repeated.
    """
    home = Home(settings.home)
    with home.lock(say), ThreadPoolExecutor(1) as beside:
        supervisor = Supervisor(home, say)
        here = Embedded.of(settings)
        ours: dict[str, str] = {}
        _choose(supervisor, more, less)
        optional = kafka.NAME in if_possible and kafka.NAME not in supervisor.memory.declined
        broker_wanted = here.kafka and (optional or kafka.NAME in supervisor.memory.wanted)
        if broker_wanted:
            # Made here, not by whichever of two threads comes first.
            Secrets.load(settings.home)
        # It takes seconds, and to be fetched some more; but for streams, nothing waits for it.
        brokers = beside.submit(_provide_kafka, settings, supervisor, wanted=broker_wanted, optional=optional)
        if here.postgres:
            replica.loosen(settings)
            server = warehouse.start(settings, supervisor)
            secrets = Secrets.load(settings.home)
            if here.warehouse:
                ours["warehouse_url"] = server.dsn("warehouse", "tidegate", secrets.warehouse_password)
                if "encryption_keys" not in addresses.external(settings):
                    ours["encryption_keys"] = secrets.encryption_keys
                ours |= _beside_the_warehouse(settings, supervisor, server)
            if here.airflow_database:
                ours["airflow_database_url"] = server.dsn("airflow", "airflow", secrets.airflow_database_password)
        if here.airflow:
            ours["airflow_url"] = f"http://{LOOPBACK}:{supervisor.port_for(API, BASE_PORTS[API])}"
            if "airflow_password" not in addresses.external(settings):
                ours["airflow_password"] = Secrets.load(settings.home).airflow_admin_password
        if here.spark:
            ours["spark_remote"] = f"sc://{LOOPBACK}:{supervisor.port_for(SAIL, BASE_PORTS[SAIL])}"
        # An address that the last `up` wrote is no longer good where none is wanted now.
        before = addresses.plain(settings.kafka_url) if broker_wanted else None
        gone = {knob: None for knob, embedded in (("redis_url", here.redis), ("kafka_url", here.kafka)) if embedded}
        settings = settings.model_copy(update=gone)
        ours |= _provide_redis(settings, supervisor, here)
        settings = _without_what_is_gone(settings, ours)
        # Before Airflow starts: its tasks read their addresses there. A broker that runs stays known meanwhile.
        addresses.write(settings.home, ours | ({"kafka_url": before} if before else {}))
        settings = addresses.fill(settings, ours)
        if here.spark:
            _start_sail(supervisor)
        # Its tables exist before anything runs that may want them, also in a warehouse of one's own.
        _make_tables(settings, server if here.warehouse else None)
        if here.airflow:
            with manifest.renewed(settings):
                _start_airflow(settings, supervisor)
        if here.spark:
            _wait_for_sail(supervisor)
        ours |= brokers.result()
        addresses.write(settings.home, ours)
    return addresses.fill(settings, ours)


def _make_tables(settings: Settings, ours: PostgresServer | None) -> None:
    """Apply the migrations; on `ours` also let whatever changes the schema leave a line, which takes its superuser."""
    door.upgrade(addresses.plain(settings.warehouse_url) or "", settings.project)
    if ours:
        ensure_ddl_is_recorded(ours, settings.project, "warehouse")


def fail_over(settings: Settings, say: Say) -> Failover:
    """Make the replica the primary, have the old primary follow it, and bring everybody else to the new address.

    Raises:
        UsageError: there is to be no replica.
        StackError: it does not run, or was not promoted; `up` brings the old primary back then.
    """
    home = Home(settings.home)
    with home.lock(say):
        done = replica.fail_over(settings, Supervisor(home, say))
    up(settings, say)
    return done


def _beside_the_warehouse(settings: Settings, supervisor: Supervisor, server: PostgresServer) -> dict[str, str]:
    """Start the replica that is wanted, and the pool; return their addresses."""
    logins, found = Secrets.load(settings.home).logins, {}
    copy = replica.start(settings, supervisor, server)
    if copy is not None:
        found["replica_url"] = copy.dsn(pool.DATABASE, "readonly", logins["readonly"])
    before = pool.start(settings, supervisor, server)
    if before is not None:
        found["pool_url"] = before.dsn(pool.DATABASE, "app", logins["app"])
    theirs = addresses.external(settings)
    return {knob: address for knob, address in found.items() if knob not in theirs}


def _without_what_is_gone(settings: Settings, ours: dict[str, str]) -> Settings:
    """Return the settings without the addresses that an earlier `up` wrote, of a pool or a replica that is no more."""
    gone = {"pool_url", "replica_url"} - set(ours) - addresses.external(settings)
    return settings.model_copy(update=dict.fromkeys(gone))


def down(settings: Settings, say: Say) -> None:
    """Stop what this checkout has started, in reverse order; data, ports and passwords stay."""
    home = Home(settings.home)
    with home.lock(say):
        supervisor = Supervisor(home, say)
        # The triggerer takes 10 s over a clean end that it does not need: its triggers lie in the database.
        supervisor.stop(["airflow-triggerer", "airflow-dag-processor"], patience=3)
        supervisor.stop(["airflow-scheduler"])
        supervisor.stop([API, SAIL], patience=5)
        redis.stop(settings, supervisor)
        kafka.stop(settings, supervisor)
        pool.stop(settings, supervisor)
        # First the primary: as it ends, it hands the last of its WAL to the replica.
        warehouse.stop(settings, supervisor)
        replica.stop(settings, supervisor)


def _choose(supervisor: Supervisor, more: Iterable[str], less: Iterable[str]) -> None:
    """Remember which of the OPTIONS are to run."""
    unknown = sorted({*more, *less} - set(OPTIONS))
    if unknown:
        raise UsageError(f"no server is called {unknown[0]!r}; those to choose from are: {', '.join(OPTIONS)}")
    wanted = {*supervisor.memory.wanted, *more} - set(less)
    # That there is a replica stands beside the decision which of the two is the primary.
    if replica.NAME in {*more, *less}:
        replica.want(supervisor.home.path, replica.NAME in wanted)
    supervisor.memory.wanted = sorted(wanted - {replica.NAME})
    supervisor.memory.declined = sorted({*supervisor.memory.declined, *less} - set(more))
    supervisor.memory.save()


def _provide_redis(settings: Settings, supervisor: Supervisor, here: Embedded) -> dict[str, str]:
    if not here.redis or redis.NAME not in supervisor.memory.wanted:
        redis.stop(settings, supervisor)
        return {}
    return {"redis_url": redis.start(settings, supervisor).url()}


def _provide_kafka(settings: Settings, supervisor: Supervisor, *, wanted: bool, optional: bool) -> dict[str, str]:
    if not wanted:
        kafka.stop(settings, supervisor)
        return {}
    try:
        address = kafka.start(settings, supervisor).url()
    except StackError as error:
        if not optional:
            raise
        supervisor.say(f"{kafka.NAME}: goes without it: {first_line(error)}")
        return {}
    supervisor.want(kafka.NAME)
    return {"kafka_url": address}


def _start_sail(supervisor: Supervisor) -> None:
    number = supervisor.memory.ports[SAIL]
    configuration = f"{sail.running_version()}:{number}"
    if not supervisor.missing([SAIL], configuration):
        supervisor.say(f"{SAIL}: already running on {LOOPBACK}:{number}")
        return
    process = supervisor.start(SAIL, sail.command(number), sail.environment(), configuration)
    supervisor.say(f"{SAIL}: started on {LOOPBACK}:{number} (pid {process.pid})")


def _wait_for_sail(supervisor: Supervisor) -> None:
    process, number = supervisor.memory.processes[SAIL], supervisor.memory.ports[SAIL]
    deadline = time.monotonic() + PATIENCE
    while not port.answers(number):
        _check_life(supervisor, SAIL, alive=process.is_alive(), deadline=deadline)


def _start_airflow(settings: Settings, supervisor: Supervisor) -> None:
    environment = {**inherited(), **airflow_environment(settings)}
    configuration = airflow.fingerprint(environment)
    write_private(passwords_file(settings), passwords(settings))
    started_at = time.time()
    missing = supervisor.missing(list(airflow.COMPONENTS), configuration)
    if not missing:
        supervisor.say(f"airflow: already running on {settings.airflow_url}")
        return
    old = _old_airflow_database(settings, supervisor)
    if old:
        supervisor.say(f"airflow: bringing its database to version {airflow.running_version()}")
    logs = {name: supervisor.log(name) for name in (*missing, airflow.STARTUP)}
    with airflow.forked(missing, logs, environment, settings.project, migrate=old) as pids:
        _remember_airflow_database(settings, supervisor)
        for name, pid in zip(missing, pids, strict=True):
            supervisor.remember(name, Process.of(pid), configuration)
    deadline = time.monotonic() + PATIENCE
    url = settings.airflow_url or ""
    while waiting := airflow.not_ready(url, since=started_at, names=missing):
        for name in missing:
            alive = supervisor.memory.processes[name].is_alive()
            _check_life(supervisor, name, alive=alive, deadline=deadline, waiting=waiting)
    for name in missing:
        where = f" on {urlsplit(url).netloc}" if name == API else ""
        supervisor.say(f"{name}: started{where} (pid {supervisor.memory.processes[name].pid})")


def _old_airflow_database(settings: Settings, supervisor: Supervisor) -> bool:
    """Return whether the database is not at the revision that this version of Airflow brought it to."""
    return supervisor.memory.prepared.get("airflow_database") != _airflow_database(settings)


def _remember_airflow_database(settings: Settings, supervisor: Supervisor) -> None:
    supervisor.memory.prepared["airflow_database"] = _airflow_database(settings)
    supervisor.memory.save()


def _airflow_database(settings: Settings) -> str:
    database = addresses.plain(settings.airflow_database_url) or ""
    return f"{airflow.running_version()} {airflow.revision(database)}"


def _check_life(
    supervisor: Supervisor, name: str, *, alive: bool, deadline: float, waiting: list[str] | None = None
) -> None:
    """Wait a moment for a server; raise StackError when it has ended or time is up."""
    if alive and time.monotonic() < deadline:
        time.sleep(0.05)
        return
    log = supervisor.log(name)
    what = f"does not answer after {PATIENCE} s (waiting for {', '.join(waiting or [name])})" if alive else "has ended"
    raise StackError(
        f"{name} {what}. The end of {log}:\n{tail(log)}\n    Mend what it says and run `tidegate up` again."
    )
