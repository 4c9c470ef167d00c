"""The one door through which the warehouse's schema changes: one at a time, within a time limit, written down.

Migrations pass it here. What contracts derive passes it in `publish.evolve`, which shares the lock and the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import structlog

from tidegate.errors import BusyError, TerminalError, UnavailableError, UsageError, first_line
from tidegate.migrate import steps
from tidegate.migrate.steps import Step
from tidegate.stores.postgres import LOCK_TIMEOUT, connect_to, take_turn, without_password

log = structlog.get_logger(__name__)

#: The advisory lock that whoever changes the schema holds: alone for a migration, together for what contracts derive.
LOCK = "tidegate migrations"
_ATTEMPTS = 5

#: Called before the first statement that takes something away for good.
Safeguard = Callable[[Step], None]


class Standing(NamedTuple):
    """A migration and when it was applied here, and by whom; None where it is still to be applied."""

    step: Step
    applied: bool
    changed_at: datetime | None
    changed_by: str | None


def standing(url: str, project: Path) -> list[Standing]:
    """Return every migration with its state in the database at `url`, first to last."""
    known = steps.read(project)
    with connect_to(url, autocommit=True) as connection:
        done = _applied(connection, known)
        last: dict[str, dict[str, Any]] = {}
        if connection.execute("SELECT to_regclass('ops.schema_change') AS kept").fetchone()["kept"]:  # type: ignore[index]
            rows = connection.execute(
                "SELECT DISTINCT ON (name) name, changed_at, changed_by FROM ops.schema_change "
                "WHERE door = 'migration' AND direction = 'up' ORDER BY name, schema_change_id DESC"
            ).fetchall()
            last = {row["name"]: row for row in rows}
    return [
        Standing(step, at, last[step.revision]["changed_at"], last[step.revision]["changed_by"])
        if (at := number < done) and step.revision in last
        else Standing(step, at, None, None)
        for number, step in enumerate(known)
    ]


def plan(url: str, project: Path, revision: str = "head") -> tuple[str, list[Step]]:
    """Return the direction (`up`, `down`) and the migrations, in order, that lead to `revision`.

    Raises:
        UsageError: there is no such revision.
    """
    known = steps.read(project)
    target = steps.find(known, revision)
    with connect_to(url, autocommit=True) as connection:
        done = _applied(connection, known)
    return ("down", known[target:done][::-1]) if target < done else ("up", known[done:target])


def upgrade(url: str, project: Path, revision: str = "head", *, safeguard: Safeguard | None = None) -> list[Step]:
    """Apply every migration up to `revision` to the database at `url` (postgresql://…); return those applied.

    Each runs in a transaction of its own, after `safeguard` where it takes something away for good.

    Raises:
        UsageError: there is no such revision, or it lies below.
        BusyError: another process is changing the schema, or readers hold a table for longer than we may wait.
        TerminalError: a migration failed; the database is as it was before it.
    """
    direction, todo = plan(url, project, revision)
    if direction == "down":
        raise UsageError(f"the warehouse is above {revision}: `tidegate migrate down --to {revision}` goes there")
    for step in todo:
        if safeguard and steps.losses(step.up):
            safeguard(step)
        _run(url, project, step, "up", step.revision)
    return todo


def downgrade(url: str, project: Path, revision: str) -> list[Step]:
    """Take back every migration above `revision` (`base` for all), the last first; return those taken back.

    What they held is set aside, and the next `upgrade` brings it back. Raises as `upgrade` does.
    """
    direction, todo = plan(url, project, revision)
    if direction == "up" and todo:
        raise UsageError(f"the warehouse is below {revision}: `tidegate migrate up --to {revision}` goes there")
    for step in todo:
        _run(url, project, step, "down", step.before)
    return todo


def _run(url: str, project: Path, step: Step, direction: str, target: str) -> None:
    """Run one migration, trying again while others hold what it needs."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _alembic(url, project, direction, target)
        except BusyError as error:
            if attempt == _ATTEMPTS:
                raise BusyError(
                    f"migration {step.revision} ({step.title}): {error}. It was tried {_ATTEMPTS} times and gave way "
                    f"each time, nothing was changed.{_holders(url)} Run it again when they have ended"
                ) from error
            log.info("migration waits", revision=step.revision, attempt=attempt)
            time.sleep(0.2 * 2**attempt)
        else:
            log.info("migration done", revision=step.revision, direction=direction)
            return


def _alembic(url: str, project: Path, direction: str, target: str) -> None:
    from alembic import command
    from sqlalchemy.exc import DBAPIError

    config = steps.configuration(project)
    # Handed over as attributes, not options: options are interpolated and end in tracebacks.
    config.attributes.update(url=url, lock=LOCK, lock_timeout=LOCK_TIMEOUT)
    try:
        {"up": command.upgrade, "down": command.downgrade}[direction](config, target)
    except DBAPIError as error:
        cause = error.orig
        if isinstance(cause, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
            raise BusyError(first_line(cause)) from error
        if isinstance(cause, psycopg.OperationalError):
            raise UnavailableError(f"the warehouse at {without_password(url)}: {first_line(cause)}") from error
        raise TerminalError(
            f"migration towards {target} failed: {first_line(cause or error)}; the database is as it was before it. "
            "Mend the migration, or what it found, and run it again"
        ) from error


def _holders(url: str) -> str:
    """Say who has been in a transaction for longest: one of them holds what was waited for."""
    with connect_to(url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT pid, usename, application_name, state, extract(epoch FROM now() - xact_start)::int AS seconds "
            "FROM pg_stat_activity WHERE xact_start < now() AND pid <> pg_backend_pid() AND datname = current_database() "
            "ORDER BY xact_start LIMIT 3"
        ).fetchall()
    told = [f"pid {r['pid']} ({r['usename']}, {r['application_name']}, {r['state']}, {r['seconds']} s)" for r in rows]
    return f" Open transactions: {'; '.join(told)}." if told else ""


def _applied(connection: psycopg.Connection[dict[str, Any]], known: list[Step]) -> int:
    """Return how many of the migrations the database has."""
    row = connection.execute("SELECT to_regclass('ops.migration') AS found").fetchone()
    if not row or not row["found"]:
        return 0
    version = connection.execute("SELECT version_num FROM ops.migration").fetchone()
    if version is None:
        return 0
    revisions = [step.revision for step in known]
    if version["version_num"] not in revisions:
        raise TerminalError(
            f"the warehouse stands at migration {version['version_num']}, and this checkout ends with "
            f"{revisions[-1]}: use a checkout that knows it"
        )
    return revisions.index(version["version_num"]) + 1


def share(connection: psycopg.Connection[Any]) -> None:
    """Keep migrations away until the transaction ends; others that change tables by contract may go on."""
    take_turn(connection, LOCK, shared=True)


def record(connection: psycopg.Connection[Any], name: str, statements: str) -> None:
    """Write down, in the transaction that makes it, a change that a contract asked for."""
    connection.execute(
        "INSERT INTO ops.schema_change (door, name, direction, statements, seconds) VALUES ('contract', %s, 'up', %s, "
        "extract(epoch FROM clock_timestamp() - now()))",
        [name, statements],
    )
