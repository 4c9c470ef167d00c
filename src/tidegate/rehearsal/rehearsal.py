"""Make the rehearsal, tell what there is of it, and take it away."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import structlog
from psycopg import sql
from pydantic import SecretStr

from tidegate.contracts import load_all
from tidegate.errors import StackError
from tidegate.rehearsal import clone
from tidegate.rehearsal.mask import mask
from tidegate.settings import Settings
from tidegate.stack import pool, port, standby, warehouse
from tidegate.stack.home import Home, Say, write_private
from tidegate.stack.pgbouncer import PgBouncer, Sizes
from tidegate.stack.postgres import SUPERUSER, PostgresServer
from tidegate.stack.postgres_databases import ensure_database, ensure_role
from tidegate.stack.secret import LOGINS
from tidegate.stack.standby import Link

log = structlog.get_logger(__name__)

FOLDER = "rehearsal"
_STATE = "rehearsal.json"
_SERVERS = ("primary", "replica")


@dataclass(frozen=True)
class Rehearsal:
    """A clone in `folder`; `passwords` are its own, so that no door of the warehouse opens it, or is opened by it.

    `source` tells what it was made from, `files` or `rows`; `masked` the columns that were masked, by table.
    """

    folder: Path
    source: str
    owner: str
    made_at: datetime
    seconds: float
    masked: dict[str, list[str]]
    passwords: dict[str, str]

    @property
    def primary(self) -> PostgresServer:
        """The server that is written to; a failover may have made it of the other folder."""
        return self._server(standing_by=False)

    @property
    def replica(self) -> PostgresServer:
        """The server that follows it."""
        return self._server(standing_by=True)

    @property
    def servers(self) -> list[PostgresServer]:
        """Both, where there are two; each with the port that it listens on, 0 while it does not."""
        return [server for server in map(self._of, _SERVERS) if server.is_made()]

    def dsn(self, user: str | None = None) -> str:
        """Return the address of the copy for its owner or another role, password included."""
        login = user or self.owner
        return self.primary.dsn("warehouse", login, self.passwords[login])

    def settings(self, settings: Settings, dsn: str | None = None) -> Settings:
        """Return the settings with which the library works on the copy, or a database in it, instead of the warehouse."""
        return settings.model_copy(update={"warehouse_url": SecretStr(dsn or self.dsn())})

    @contextmanager
    def scratch(self, name: str) -> Iterator[str]:
        """Have an empty database beside the copy for as long as the block runs; its address is for the owner."""
        server = self.primary
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            ensure_database(connection, name, self.owner)
        yield server.dsn(name, self.owner, self.passwords[self.owner])
        # A failover may have made another one the primary meanwhile.
        with psycopg.connect(self.primary.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    @property
    def link(self) -> Link:
        """How its replica is fed."""
        return Link(self.passwords[standby.ROLE])

    @contextmanager
    def pooled(self, database: str = "warehouse", sizes: Sizes | None = None) -> Iterator[PgBouncer]:
        """Have a pool before the primary for as long as the block runs.

        Raises:
            StackError: PgBouncer is not installed.
        """
        folder = self.folder / "pool"
        found = PgBouncer(folder, self.passwords[SUPERUSER], self.folder / "pool.log")
        found.port = port.choose(clone.BASE_PORT, folder, {server.port for server in self.servers})
        pool.lead_to(found, self.primary, database, sizes)
        found.start()
        try:
            yield found
        finally:
            found.stop()

    def _server(self, *, standing_by: bool) -> PostgresServer:
        for server in self.servers:
            if server.standby_mark.exists() == standing_by:
                return server
        raise StackError(
            f"the rehearsal has no {'replica' if standing_by else 'primary'}: `tidegate rehearsal down`, then `up` makes it anew"
        )

    def _of(self, name: str) -> PostgresServer:
        server = PostgresServer(self.folder / name, self.passwords[SUPERUSER], self.folder / f"{name}.log")
        server.settings = clone.bounded(server)
        server.running()
        return server


def up(settings: Settings, say: Say) -> Rehearsal:
    """Return the rehearsal, made of the warehouse as it is now if there is none; one that was stopped is made anew.

    Raises:
        StackError: the warehouse does not run, or a server cannot be had.
        UnavailableError: the disk has no room for it, or the warehouse cannot be copied at the moment.
    """
    with Home(settings.home).lock(say):
        found = look(settings)
        if found and len(found.servers) == len(_SERVERS) and all(server.running() for server in found.servers):
            return found
        folder = warehouse.place_of(settings, FOLDER)
        if folder.exists():
            _remove(folder)
            say(f"rehearsal: what was left of the last one is gone from {folder}")
        folder.mkdir(mode=0o711, parents=True)
        try:
            return _make(settings, folder, say)
        except BaseException:
            _remove(folder)
            raise


def look(settings: Settings) -> Rehearsal | None:
    """Return the rehearsal as it was made, whether its servers run or not; None where there is none, or half of one."""
    folder = warehouse.place_of(settings, FOLDER)
    try:
        kept = json.loads((folder / _STATE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return Rehearsal(folder=folder, **(kept | {"made_at": datetime.fromisoformat(kept["made_at"])}))


def reach(settings: Settings) -> Rehearsal:
    """Return the rehearsal; raises StackError when there is none."""
    found = look(settings)
    if found is None:
        raise StackError("there is no rehearsal: `tidegate rehearsal up` makes one")
    return found


def down(settings: Settings, say: Say) -> None:
    """Stop the rehearsal's servers and remove all of it; the warehouse is not touched."""
    with Home(settings.home).lock(say):
        folder = warehouse.place_of(settings, FOLDER)
        if not folder.exists():
            say("rehearsal: there is none")
            return
        _remove(folder)
        say("rehearsal: stopped, and removed")


def _make(settings: Settings, folder: Path, say: Say) -> Rehearsal:
    began = time.monotonic()
    say(f"rehearsal: takes {clone.needs(settings, folder, len(_SERVERS)).told}")
    passwords = {role: secrets.token_hex(24) for role in (SUPERUSER, standby.ROLE, *LOGINS)}
    if warehouse.is_mine(settings):
        source, owner = "files", warehouse.OWNER
        primary = clone.of_files(warehouse.reach(settings), folder, passwords[SUPERUSER])
    else:
        source, owner = "rows", clone.owner_of(settings)
        primary = clone.of_rows(settings, folder, passwords[SUPERUSER], owner)
    passwords[owner] = secrets.token_hex(24)
    masked = mask(primary.dsn("warehouse"), load_all(settings))
    with psycopg.connect(primary.dsn(), autocommit=True) as connection:
        for login, password in passwords.items():
            if login not in (SUPERUSER, standby.ROLE):
                ensure_role(connection, login, password)
        primary.admits, primary.settings = "all", clone.bounded(primary)
        primary.configure()
        connection.execute("SELECT pg_reload_conf()")
    clone.follow(primary, folder / "replica", Link(passwords[standby.ROLE]))
    made = Rehearsal(folder, source, owner, datetime.now(UTC), time.monotonic() - began, masked, passwords)
    kept = {key: value for key, value in asdict(made).items() if key != "folder"}
    write_private(folder / _STATE, json.dumps(kept, indent=2, default=str) + "\n")
    log.info("rehearsal made", source=source, seconds=round(made.seconds, 1), masked=len(masked))
    return made


def _remove(folder: Path) -> None:
    PgBouncer(folder / "pool", "", folder / "pool.log").stop()
    for name in reversed(_SERVERS):
        PostgresServer(folder / name, "", folder / f"{name}.log").stop()
    shutil.rmtree(folder)
