"""The embedded warehouse's pool: the address that applications connect to, whichever server is behind it.

The platform's own code connects directly: its locks last for a session, and its loads are long. The pooler itself is
`pgbouncer.py`.
"""

from __future__ import annotations

import time

import psycopg

from tidegate.errors import StackError, UnavailableError
from tidegate.settings import Settings
from tidegate.stack import pgbouncer, warehouse
from tidegate.stack.home import Home
from tidegate.stack.memory import Memory
from tidegate.stack.pgbouncer import PgBouncer, Sizes
from tidegate.stack.port import LOOPBACK
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.secret import Secrets
from tidegate.stack.supervisor import Supervisor

NAME = "pgbouncer"
BASE_PORT = 6432
DATABASE = "warehouse"
#: What the pool may know of who comes in. Superusers, and who takes dumps or the WAL, connect directly.
_USERS = """
SELECT rolname, rolpassword FROM pg_authid
WHERE rolcanlogin AND NOT rolsuper AND NOT rolreplication AND NOT rolbypassrls AND rolpassword LIKE 'SCRAM-SHA-256$%'
ORDER BY rolname
"""


def is_installed() -> bool:
    """Return whether this machine has PgBouncer: without it, everything else works."""
    return pgbouncer.program() is not None


def of(settings: Settings, port: int = 0) -> PgBouncer:
    """Return the pool of this checkout, started or not; nothing is made or asked yet, and its console is closed."""
    return PgBouncer(warehouse.place_of(settings, NAME).resolve(), "", Home(settings.home).logs / f"{NAME}.log", port)


def mine(settings: Settings) -> PgBouncer:
    """Return the pool of this checkout, running or not, with the key of its console."""
    found = of(settings, Memory.load(settings.home).ports.get(NAME, 0))
    found.password = Secrets.load(settings.home).pool_password
    return found


def reach(settings: Settings) -> PgBouncer:
    """Return the running pool of this checkout; raises StackError when none runs."""
    warehouse.mine(settings)
    found = mine(settings)
    if not found.running():
        raise StackError(
            "the pool does not run: `tidegate up` starts it"
            if is_installed()
            else "there is no pool: PgBouncer is not installed (`apt-get install pgbouncer`, then `tidegate up`)"
        )
    return found


def start(settings: Settings, supervisor: Supervisor, server: PostgresServer) -> PgBouncer | None:
    """Make the pool run before the running server; None, and said, where PgBouncer is not installed."""
    found = pgbouncer.program()
    if found is None:
        supervisor.say(f"{NAME}: not installed, so there is no pooled address; everything else works without")
        return None
    pool = mine(settings)
    running = pool.running()
    pool.port = supervisor.port_for(NAME, BASE_PORT)
    configuration = f"{'.'.join(map(str, pgbouncer.version(found)))}:{pool.port}"
    remembered = supervisor.memory.processes.get(NAME)
    known = running and remembered and (remembered.pid, remembered.configuration) == (running.pid, configuration)
    if running and known and _serves(pool, lead_to(pool, server)):
        supervisor.say(f"{NAME}: already running on {LOOPBACK}:{pool.port} (pid {running.pid})")
        return pool
    pool.stop()
    supervisor.memory.processes.pop(NAME, None)
    process = supervisor.start_listening(NAME, BASE_PORT, pool, lambda: lead_to(pool, server))
    supervisor.remember(NAME, process, f"{configuration.split(':', maxsplit=1)[0]}:{pool.port}")
    supervisor.say(f"{NAME}: started on {LOOPBACK}:{pool.port} (pid {process.pid})")
    return pool


def _serves(pool: PgBouncer, changed: bool) -> bool:
    """Have a running pool serve by its present files; return False where it knows another key than ours."""
    try:
        if changed:
            pool.reload()
        pool.resume()
    except UnavailableError:
        return False
    return True


def stop(settings: Settings, supervisor: Supervisor) -> None:
    """Stop the pool of this checkout, whether it is remembered or not."""
    supervisor.end(NAME, of(settings))


def lead_to(pool: PgBouncer, server: PostgresServer, database: str = DATABASE, sizes: Sizes | None = None) -> bool:
    """Write the pool's files so that it leads to this running server and knows its logins; return whether they changed."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        users = {str(name): str(key) for name, key in connection.execute(_USERS).fetchall()}
        row = connection.execute("SHOW max_connections").fetchone() or ("100",)
    return pool.configure({database: server.port}, users, sizes or Sizes.of(int(row[0])))


def learn(settings: Settings, server: PostgresServer) -> None:
    """Tell a running pool of logins that were made since it started."""
    pool = mine(settings)
    if pool.port and pool.running() and lead_to(pool, server):
        pool.reload()


def restart_behind(settings: Settings, supervisor: Supervisor, patience: float = 30) -> float:
    """Restart PostgreSQL while the pool holds its clients back; return the seconds for which they waited.

    Who is connected directly is cut off.

    Raises:
        BusyError: a transaction was still open after `patience` seconds; nothing was restarted.
    """
    pool, server = reach(settings), warehouse.reach(settings)
    began = time.monotonic()
    with pool.held(patience):
        server.stop()
        warehouse.start(settings, supervisor)
    return time.monotonic() - began
