"""Whether the warehouse does its work after a release: only looked at, never written to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from tidegate.delivery import ledger
from tidegate.errors import TidegateError, first_line
from tidegate.evidence import queries as important
from tidegate.gates import ledger as gates
from tidegate.gates import tables
from tidegate.publish import marts, schemas
from tidegate.settings import Settings
from tidegate.stack import roles, warehouse
from tidegate.stack.secret import LOGINS
from tidegate.stores.postgres import Connection, connect, warehouse_url

_RUNS = 5


@dataclass(frozen=True)
class Look:
    """One thing that was looked at."""

    ok: bool
    told: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.told}"


def check(settings: Settings, release: ledger.Release) -> list[Look]:
    """Look whether every role gets in, important queries answer, and the ledger tells of the warehouse as it is.

    Raises:
        UnavailableError: the warehouse does not answer.
    """
    with connect(settings, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = on")
        published = gates.batches(connection, state="published")
        return [
            *_logins(settings, connection),
            *_queries(settings, connection, bool(published)),
            *_batches(connection, published),
            *_marts(connection),
            _revision(connection, release),
        ]


def _logins(settings: Settings, connection: Connection) -> Iterator[Look]:
    if not warehouse.is_mine(settings):
        # Somebody else's server: their passwords are not ours to know.
        rows = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", [list(LOGINS)]).fetchall()
        there = {row["rolname"] for row in rows}
        yield from (Look(role in there, f"role {role} {'exists' if role in there else 'is gone'}") for role in LOGINS)
        return
    for role in LOGINS:
        try:
            login = roles.credentials(settings, role)
            with psycopg.connect(
                warehouse_url(settings), user=login["PGUSER"], password=login["PGPASSWORD"], connect_timeout=10
            ) as own:
                own.execute("SELECT 1")
            yield Look(True, f"{role} logs in")
        except psycopg.Error as error:
            yield Look(False, f"{role} cannot log in: {first_line(error)}")


def _queries(settings: Settings, connection: Connection, published: bool) -> Iterator[Look]:
    known = important.read(settings.project)
    if not published:
        yield Look(True, f"{len(known)} important queries not asked: nothing is published yet")
        return
    for query in known:
        try:
            timing = important.measure(connection, query, _RUNS)
            yield Look(True, f"{query.name}: {timing.p50_ms:.2f} ms")
        except (TidegateError, psycopg.Error) as error:
            yield Look(False, f"{query.name}: {first_line(error)}")


def _batches(connection: Connection, published: list[gates.Batch]) -> Iterator[Look]:
    standing = {(one.schema, one.batch_id) for one in tables.of_batches(connection)}
    wrong = []
    for batch in published:
        if (batch.published_schema, batch.batch_id) not in standing:
            wrong.append(
                f"{batch.dataset} {batch.partition} is published, and has no table in {batch.published_schema}"
            )
        failed = [one.rule for one in gates.verdicts_of(connection, batch.batch_id) if one.verdict == "FAIL"]
        if failed and not gates.decisions_on(connection, batch.batch_id):
            wrong.append(f"{batch.dataset} {batch.partition} is published against its gate: {failed[0]}")
    yield from (Look(False, told) for told in wrong)
    if not wrong:
        yield Look(True, f"{len(published)} published batches stand where the ledger says, none against its gate")


def _marts(connection: Connection) -> Iterator[Look]:
    row = connection.execute("SELECT build_id FROM ops.marts_build WHERE state = 'published'").fetchone()
    told, shown = row["build_id"] if row else None, schemas.comment_on(connection, marts.CURRENT)
    yield Look(told == shown, f"readers see the marts {shown or 'of nobody'}, the ledger says {told or 'nobody'}")
    if told:
        failed = [one.rule for one in gates.verdicts_of(connection, told) if one.verdict == "FAIL"]
        yield Look(not failed, f"marts {told}: {failed[0] if failed else 'passed their gate'}")


def _revision(connection: Connection, release: ledger.Release) -> Look:
    row = connection.execute("SELECT version_num FROM ops.migration").fetchone()
    found = row["version_num"] if row else "base"
    return Look(found == release.to_revision, f"the schema is at migration {found}, expected {release.to_revision}")
