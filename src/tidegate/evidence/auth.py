"""Who may come into the server, and how: its rules, roles, sessions and what everybody may do; facts, then findings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidegate.errors import UsageError
from tidegate.stores.postgres import Connection

#: Ways in that show no password to who listens, and none that could be guessed offline from what the server keeps.
_METHODS = {"scram-sha-256", "cert", "reject"}
_LOOPBACK = ("127.", "::1")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: of what, what was found, and what to do about it."""

    subject: str
    found: str
    remedy: str


@dataclass(frozen=True)
class Login:
    """One role that may log in; `password` is the kind of verifier that the server keeps, None where there is none."""

    role: str
    superuser: bool
    password: str | None
    valid_until: datetime | None
    expired: bool


@dataclass(frozen=True)
class AuthAudit:
    """What was looked at; `rules` and `sessions` as the server tells them, `public` the rights that everybody has."""

    password_encryption: str
    ssl: str
    rules: list[dict[str, Any]]
    logins: list[Login]
    sessions: list[dict[str, Any]]
    public: list[str]
    findings: list[Finding]


def audit(connection: Connection) -> AuthAudit:
    """Look at the server and at the database that a superuser is connected to; nothing is changed.

    Raises:
        UsageError: it is no superuser, who alone may see rules and passwords' kinds.
    """
    row = connection.execute(
        "SELECT current_setting('is_superuser') AS super, current_setting('password_encryption') AS kind, "
        "current_setting('ssl') AS ssl"
    ).fetchone()
    assert row is not None
    if row["super"] != "on":
        raise UsageError("only a superuser sees who may log in and how: connect as one for the audit of authentication")
    rules, logins = _rules(connection), _logins(connection)
    sessions, public = _sessions(connection), _public(connection)
    findings = [*_of_rules(rules), *_of_logins(logins)]
    if row["kind"] != "scram-sha-256":
        findings.append(
            Finding("password_encryption", str(row["kind"]), "ALTER SYSTEM SET password_encryption = 'scram-sha-256'")
        )
    findings += [
        Finding(
            f"session of {one['usename']} from {one['client_addr']}",
            "no TLS",
            "end it, and put sslmode=verify-full there",
        )
        for one in sessions
        if not one["ssl"] and not _is_near(one["client_addr"])
    ]
    findings += [Finding("PUBLIC", right, "REVOKE it, and grant it to those roles that need it") for right in public]
    return AuthAudit(str(row["kind"]), str(row["ssl"]), rules, logins, sessions, public, findings)


def _rules(connection: Connection) -> list[dict[str, Any]]:
    return connection.execute(
        "SELECT line_number, type, database, user_name, address, auth_method, error FROM pg_hba_file_rules ORDER BY 1"
    ).fetchall()


def _of_rules(rules: list[dict[str, Any]]) -> list[Finding]:
    found = []
    for rule in rules:
        place = f"pg_hba.conf:{rule['line_number']}"
        if rule["error"]:
            found.append(Finding(place, str(rule["error"]), "correct the line: the server ignores the file until then"))
        elif rule["auth_method"] not in _METHODS and (rule["type"], rule["auth_method"]) != ("local", "peer"):
            found.append(Finding(place, f"lets in by {rule['auth_method']}", "scram-sha-256 instead"))
        elif (
            rule["type"] in ("host", "hostnossl") and not _is_near(rule["address"]) and rule["auth_method"] != "reject"
        ):
            found.append(Finding(place, f"lets {rule['address']} in without TLS", "hostssl instead"))
    return found


def _logins(connection: Connection) -> list[Login]:
    rows = connection.execute(
        """
        SELECT rolname AS role, rolsuper AS superuser,
            CASE WHEN rolpassword LIKE 'SCRAM-SHA-256$%' THEN 'scram-sha-256' WHEN rolpassword LIKE 'md5%' THEN 'md5'
                WHEN rolpassword IS NOT NULL THEN 'unknown' END AS password,
            CASE WHEN isfinite(rolvaliduntil) THEN rolvaliduntil END AS valid_until,
            coalesce(rolvaliduntil < now(), false) AS expired
        FROM pg_authid WHERE rolcanlogin ORDER BY rolname
        """
    ).fetchall()
    return [Login(**row) for row in rows]


def _of_logins(logins: list[Login]) -> list[Finding]:
    found = []
    for login in logins:
        subject = f"role {login.role}"
        if login.password is None:
            found.append(Finding(subject, "has no password", "`tidegate roles rotate` sets one, or NOLOGIN"))
        elif login.password not in _METHODS:
            found.append(
                Finding(subject, f"has a password kept as {login.password}", "set it anew under scram-sha-256")
            )
        if login.expired:
            found.append(
                Finding(subject, f"has a password that expired at {login.valid_until}", "`tidegate roles rotate`")
            )
        if login.superuser and login.role != "postgres":
            found.append(Finding(subject, "is a superuser", "NOSUPERUSER: policies and audit do not bind one"))
    return found


def _sessions(connection: Connection) -> list[dict[str, Any]]:
    return connection.execute(
        "SELECT a.usename, host(a.client_addr) AS client_addr, a.application_name, coalesce(s.ssl, false) AS ssl, s.version "
        "FROM pg_stat_activity AS a LEFT JOIN pg_stat_ssl AS s USING (pid) WHERE a.client_addr IS NOT NULL ORDER BY 1, 2"
    ).fetchall()


def _public(connection: Connection) -> list[str]:
    """Return what every role may do here, beyond looking names up: a null list of rights means the defaults."""
    rows = connection.execute(
        """
        SELECT format('%s on database %I', privilege_type, datname) AS told
        FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
        WHERE grantee = 0 AND datallowconn AND NOT datistemplate
        UNION ALL
        SELECT format('%s on schema %I', privilege_type, nspname)
        FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
        WHERE grantee = 0 AND nspname NOT IN ('pg_catalog', 'information_schema')
            AND (nspname, privilege_type) <> ('public', 'USAGE')
        UNION ALL
        SELECT format('%s on %s', privilege_type, c.oid::regclass)
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace, aclexplode(relacl)
        WHERE grantee = 0 AND nspname NOT IN ('pg_catalog', 'information_schema')
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND deptype = 'e')
        UNION ALL
        SELECT format('EXECUTE on %s, which runs as its owner', p.oid::regprocedure)
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = pronamespace,
            aclexplode(coalesce(proacl, acldefault('f', proowner)))
        WHERE grantee = 0 AND prosecdef AND nspname NOT IN ('pg_catalog', 'information_schema', 'ops')
        ORDER BY 1
        """
    ).fetchall()
    return [str(row["told"]) for row in rows]


def _is_near(address: str | None) -> bool:
    return address is None or address == "localhost" or address.startswith(_LOOPBACK)
