"""What people may see, tried as each of them: rows of other tenants, and whether every deed leaves its line."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from tidegate.contracts import Contract, load_all
from tidegate.errors import first_line
from tidegate.evidence import auth, encryption
from tidegate.evidence.probe import CannotRunError, Finding, Ground
from tidegate.gates import audit_chain
from tidegate.stack import warehouse
from tidegate.stack.roles import OF_A_TENANT, bind
from tidegate.stores.postgres import Connection, connect, connect_to

#: How many things are done of which each has to leave a line, or, taken back, none.
_DEEDS = 60
_SCRAM = "scram-sha-256"


@dataclass(frozen=True)
class _Attempt:
    """One try to see rows: how many came, and how many of them belong to somebody else; None where it was refused."""

    login: str
    how: str
    rows: int | None
    foreign: int | None
    refusal: str = ""

    def __str__(self) -> str:
        seen = f"{self.rows} rows, {self.foreign} of others" if self.rows is not None else f"refused: {self.refusal}"
        return f"{'FAIL' if self.foreign else 'ok  '} {self.login:14} {self.how:52} {seen}"


def rls_verification(ground: Ground) -> Iterator[Finding]:
    """Try to see other tenants' rows as every role, bound to a tenant and not, through every way to a table."""
    place = ground.peopled()
    attempts = []
    for contract in _with_tenants(ground):
        with connect_to(place.primary.dsn("warehouse"), autocommit=True) as connection:
            known = sql.SQL("SELECT {0} AS tenant FROM {1} GROUP BY 1 ORDER BY count(*) DESC LIMIT 2").format(
                sql.Identifier(contract.tenant or ""), sql.Identifier(contract.schema, contract.table)
            )
            tenants = [row["tenant"] for row in connection.execute(known).fetchall()]
            parts = [
                row["name"]
                for row in connection.execute(
                    "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = %s::regclass LIMIT 2",
                    [f"{contract.schema}.{contract.table}"],
                ).fetchall()
            ]
            logins: dict[tuple[str, str | None], str] = {(role, None): role for role in OF_A_TENANT}
        password = secrets.token_hex(16)
        with psycopg.connect(place.primary.dsn("warehouse"), autocommit=True) as administrator:
            logins |= {(r, t): bind(administrator, r, t, password) for r in OF_A_TENANT for t in tenants}
        for (role, tenant), login in logins.items():
            dsn = place.primary.dsn("warehouse", login, password if tenant else place.passwords[role])
            with psycopg.connect(dsn, autocommit=True) as session:
                attempts += [_try(session, login, tenant, how, query) for how, query in _ways(contract, parts, tenants)]
    if not attempts:
        raise CannotRunError("no dataset has tenants: no contract has a column with the tag `tenant`")
    with connect(ground.settings, autocommit=True) as connection:
        unguarded = _unguarded(connection, load_all(ground.settings))
    foreign = sum(a.foreign or 0 for a in attempts)
    own = sum((a.rows or 0) - (a.foreign or 0) for a in attempts)
    figures = {
        "attempts": len(attempts), "refused": sum(a.rows is None for a in attempts), "own_rows_seen": own,
        "foreign_rows_seen": foreign, "unguarded": len(unguarded),
    }  # fmt: skip
    text = "\n".join([*map(str, attempts), *(f"FAIL in the warehouse, {told}" for told in unguarded)])
    yield Finding(
        "tests/security/rls_verification.log",
        text,
        figures,
        "SELECT as each role and tenant",
        int(bool(foreign or unguarded)),
    )


def audit_log_check(ground: Ground) -> Iterator[Finding]:
    """Do many things to classified rows and to the schema, some taken back; each of the others must have left a line."""
    place = ground.peopled()
    settings = place.settings(ground.settings)
    contract = next(iter(_with_tenants(ground)), None)
    if contract is None:
        raise CannotRunError("no dataset is classified: there is nothing that must be recorded")
    deeds: list[tuple[str, bool, int]] = []
    chance = random.Random(_DEEDS)  # noqa: S311 nothing secret
    with connect_to(place.primary.dsn("warehouse")) as connection:
        # Of a run that was killed.
        connection.execute("DROP SCHEMA IF EXISTS audited CASCADE")
        connection.execute("CREATE SCHEMA audited")
        connection.execute("CREATE TABLE audited.once (n integer)")
        connection.commit()
        before = _lines(connection)
        for number in range(_DEEDS):
            what, statement, lines = _deed(contract, number, chance)
            connection.execute(statement)
            kept = chance.random() < 0.7
            connection.commit() if kept else connection.rollback()
            deeds.append((what, kept, lines if kept else 0))
        left = _lines(connection) - before
        # Others measure on the same rehearsal, and not every role may read what stands here.
        connection.execute("DROP SCHEMA audited CASCADE")
        connection.commit()
    expected = sum(lines for *_, lines in deeds)
    report = audit_chain.verify(settings.model_copy(update={"home": place.folder / "home"}), load_all(ground.settings))
    figures = {
        "deeds": len(deeds), "taken_back": sum(not kept for _, kept, _ in deeds), "lines_expected": expected,
        "lines_found": left, "chain_lines": report.lines, "chain_findings": len(report.findings),
        "tables_unwatched": len(report.unwatched), "ddl_recorded": report.ddl,
    }  # fmt: skip
    text = "\n".join([
        *(f"{'committed ' if kept else 'taken back'} {what}: {lines} lines" for what, kept, lines in deeds),
        f"{expected} lines expected, {left} found", *map(str, report.findings), *report.unwatched, *report.notes,
    ])  # fmt: skip
    complete = left == expected and report.whole and report.ddl
    yield Finding("tests/security/audit_log_check.log", text, figures, "tidegate audit verify", int(not complete))


def auth_audit(ground: Ground) -> Iterator[Finding]:
    """Look at who may come into the warehouse's server, and how: rules, roles and their passwords, sessions, TLS."""
    settings = ground.settings
    if not warehouse.is_mine(settings):
        raise CannotRunError("only the server's own superuser sees who may log in: ask whoever runs it for this audit")
    with connect_to(warehouse.reach(settings).dsn("warehouse"), autocommit=True) as connection:
        found = auth.audit(connection)
    figures = {
        "rules": len(found.rules), "logins": len(found.logins), "superusers": sum(one.superuser for one in found.logins),
        "without_scram": sum(one.password != _SCRAM for one in found.logins), "sessions": len(found.sessions),
        "tls": found.ssl, "findings": len(found.findings),
    }  # fmt: skip
    facts = [*map(str, found.rules), *map(str, found.logins), *(f"everybody: {right}" for right in found.public)]
    text = "\n".join(
        [f"password_encryption {found.password_encryption}, ssl {found.ssl}", *facts, *_told(found.findings)]
    )
    yield Finding("tests/security/auth_audit.log", text, figures, "tidegate.evidence.auth", int(bool(found.findings)))


def pii_encryption(ground: Ground) -> Iterator[Finding]:
    """Look at every confidential column, wherever a table has it: each value is sealed; so is what was refused."""
    contracts = load_all(ground.settings)
    with connect(ground.settings, autocommit=True) as connection:
        found = encryption.audit(connection, contracts)
    if not found.values:
        # The warehouse has nothing confidential: what would be there is looked at.
        with connect(ground.peopled().settings(ground.settings), autocommit=True) as connection:
            found = encryption.audit(connection, contracts)
    figures = {
        "columns": len(found.columns), "values": found.values, "sealed": sum(one.sealed for one in found.columns),
        "refused_rows": found.refused_rows, "findings": len(found.findings),
    }  # fmt: skip
    lines = [f"{one.table}.{one.column} ({one.type}): {one.sealed} of {one.values} sealed" for one in found.columns]
    text = "\n".join([*lines, *_told(found.findings)])
    bad = int(bool(found.findings) or figures["sealed"] != figures["values"])
    yield Finding("tests/security/pii_encryption.log", text, figures, "tidegate.evidence.encryption", bad)


def _told(findings: Sequence[auth.Finding]) -> list[str]:
    return [f"FINDING {one.subject}: {one.found}; {one.remedy}" for one in findings]


def _with_tenants(ground: Ground) -> Iterator[Contract]:
    with psycopg.connect(ground.rehearsal.primary.dsn("warehouse"), autocommit=True) as connection:
        for contract in load_all(ground.settings):
            query = "SELECT to_regclass(%s) IS NOT NULL"
            (there,) = connection.execute(query, [f"{contract.schema}.{contract.table}"]).fetchone() or (False,)
            if contract.tenant and there:
                yield contract


def _unguarded(connection: Connection, contracts: Sequence[Contract]) -> list[str]:
    """Return the tables of the warehouse itself, partitions too, that lack what keeps tenants apart."""
    told = []
    for contract in (one for one in contracts if one.tenant):
        rows = connection.execute(
            "SELECT c.oid::regclass::text AS name, relrowsecurity AND relforcerowsecurity AS held, "
            "ARRAY(SELECT polname::text FROM pg_policy WHERE polrelid = c.oid ORDER BY 1) AS policies "
            "FROM pg_partition_tree(to_regclass(%s)) AS t JOIN pg_class AS c ON c.oid = t.relid ORDER BY 1",
            [f"{contract.schema}.{contract.table}"],
        ).fetchall()
        for row in rows:
            lacking = sorted({"tenant", "every_tenant"} - set(row["policies"]))
            told += [f"{row['name']}: no policy {name}" for name in lacking]
            told += [] if row["held"] else [f"{row['name']}: row-level security is off, or not for its owner"]
    return told


def _ways(contract: Contract, parts: list[str], tenants: list[str]) -> Iterator[tuple[str, sql.Composed]]:
    """Return what a session may try; each query returns one column, whose row it is."""
    column = sql.Identifier(contract.tenant or "")
    table = sql.Identifier(contract.schema, contract.table)
    select = sql.SQL("SELECT {0} FROM {1}")
    yield "the table", select.format(column, table)
    for part in parts:
        yield f"its partition {part.rpartition('.')[2]}", select.format(column, sql.Identifier(*part.split(".")))
    yield "the masked view", select.format(column, sql.Identifier("masked", contract.table))
    yield (
        "a query that names another tenant",
        sql.SQL("{} WHERE {} = {}").format(select.format(column, table), column, sql.Literal(tenants[-1])),
    )
    yield (
        "a setting of its own",
        sql.SQL("SELECT {0} FROM {1}, set_config('tidegate.tenant', {2}, true)").format(
            column, sql.Identifier("masked", contract.table), sql.Literal(tenants[0])
        ),
    )


def _try(
    session: psycopg.Connection[tuple[Any, ...]], login: str, tenant: str | None, how: str, query: sql.Composed
) -> _Attempt:
    try:
        seen = [row[0] for row in session.execute(query).fetchall()]
    except psycopg.errors.InsufficientPrivilege as refused:
        return _Attempt(login, how, None, None, first_line(refused))
    return _Attempt(login, how, len(seen), sum(owner != tenant for owner in seen))


def _deed(contract: Contract, number: int, chance: random.Random) -> tuple[str, sql.Composed, int]:
    """Return a thing to do, and how many lines it has to leave."""
    table = sql.Identifier(contract.schema, contract.table)
    column = sql.Identifier(contract.key[0])
    deeds: list[tuple[str, sql.Composed, int]] = [
        ("create a table", sql.SQL("CREATE TABLE {} (n integer)").format(sql.Identifier("audited", f"t{number}")), 1),
        ("comment on a table", sql.SQL("COMMENT ON TABLE audited.once IS {}").format(sql.Literal(str(number))), 1),
        ("add a column", sql.SQL("ALTER TABLE audited.once ADD COLUMN {} integer").format(sql.Identifier(f"c{number}")), 1),
        ("grant", sql.SQL("GRANT SELECT ON audited.once TO {}").format(sql.Identifier("readonly")), 1),
        (
            "write a classified row",
            sql.SQL("UPDATE {0} SET {1} = {1} WHERE {1} = (SELECT {1} FROM {0} LIMIT 1)").format(table, column),
            1,
        ),
        ("write no row", sql.SQL("UPDATE {0} SET {1} = {1} WHERE false").format(table, column), 0),
    ]  # fmt: skip
    return chance.choice(deeds)


def _lines(connection: psycopg.Connection[dict[str, Any]]) -> int:
    row = connection.execute("SELECT count(*) AS n FROM ops.audit").fetchone() or {}
    connection.commit()
    return int(row["n"])
