"""With TLS a server is reached and known by its certificate; the audit of authentication finds every way in that is not so."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.transport.conftest import Guarded

from tidegate.errors import UnavailableError, UsageError
from tidegate.evidence import auth
from tidegate.settings import load_settings
from tidegate.stack.airflow_environment import airflow_environment
from tidegate.stack.postgres_databases import ensure_role
from tidegate.stores.postgres import connect

TLS = "hostssl all all 127.0.0.1/32 scram-sha-256"


def address(guarded: Guarded, host: str, mode: str) -> str:
    """The server under another name, which libpq finds by `hostaddr`: as one of another machine is read."""
    place = urlsplit(guarded.server.dsn())
    named = place._replace(netloc=place.netloc.replace("127.0.0.1", host)).geturl()
    return f"{named}?hostaddr=127.0.0.1&sslmode={mode}&sslrootcert={guarded.authority}"


def test_an_address_of_another_machine_is_reached_by_tls_and_its_server_is_known_by_its_certificate(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded.write_rules(TLS)
    monkeypatch.setenv("TIDEGATE_WAREHOUSE_URL", address(guarded, "warehouse.test", "verify-full"))
    with connect(load_settings()) as connection:
        row = connection.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert row is not None
    assert row["ssl"]
    assert row["version"] >= "TLSv1.2"
    monkeypatch.setenv("TIDEGATE_WAREHOUSE_URL", address(guarded, "another.test", "verify-full"))
    with (
        pytest.raises(
            UnavailableError, match=r'server certificate for "warehouse\.test".*does not match host name "another.test"'
        ),
        connect(load_settings()),
    ):
        pass
    monkeypatch.setenv("TIDEGATE_WAREHOUSE_URL", address(guarded, "warehouse.test", "prefer"))
    with pytest.raises(
        UsageError, match=r"names warehouse.test, which is another machine, with sslmode=prefer: expected TLS"
    ):
        load_settings()


def test_both_of_airflows_drivers_speak_tls_to_its_database(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    guarded.write_rules(TLS)
    dsn = guarded.server.dsn()
    monkeypatch.setenv("TIDEGATE_AIRFLOW_DATABASE_URL", f"{dsn}?sslmode=verify-full&sslrootcert={guarded.authority}")
    environment = airflow_environment(load_settings())
    asked = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    plain = create_engine(environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    with plain.connect() as connection:
        assert connection.execute(asked).scalar() is True
    plain.dispose()
    monkeypatch.setenv("PGSSLROOTCERT", environment["PGSSLROOTCERT"])

    async def asynchronous() -> object:
        engine = create_async_engine(environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"])
        async with engine.connect() as connection:
            found = (await connection.execute(asked)).scalar()
        await engine.dispose()
        return found

    assert asyncio.run(asynchronous()) is True


def test_an_audit_finds_every_way_in_that_is_not_as_it_should_be(guarded: Guarded) -> None:
    url = guarded.server.dsn() + "?sslmode=require"
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        connection.execute("REVOKE ALL ON DATABASE postgres FROM PUBLIC")
        guarded.write_rules(TLS)
        clean = auth.audit(connection)
        assert clean.findings == []
        assert [(rule["type"], rule["auth_method"]) for rule in clean.rules] == [("hostssl", "scram-sha-256")]
        assert [(login.role, login.password) for login in clean.logins] == [("postgres", "scram-sha-256")]
        guarded.write_rules("host all all 127.0.0.1/32 trust", "host all all 10.0.0.0/8 scram-sha-256", "nonsense", TLS)
        for statement in (
            "CREATE ROLE bare LOGIN", "CREATE ROLE late LOGIN PASSWORD 'x' VALID UNTIL '2020-01-01'", "CREATE ROLE mighty LOGIN SUPERUSER",
            "SET password_encryption = 'md5'", "CREATE ROLE weak LOGIN PASSWORD 'x'", "CREATE DATABASE open_house",
            "CREATE TABLE open_table (n int)", "GRANT SELECT ON open_table TO PUBLIC",
            "CREATE FUNCTION open_door() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        ):  # fmt: skip
            connection.execute(statement)
        found = [(finding.subject, finding.found) for finding in auth.audit(connection).findings]
    assert found[:3] == [
        ("pg_hba.conf:1", "lets in by trust"),
        ("pg_hba.conf:2", "lets 10.0.0.0 in without TLS"),
        ("pg_hba.conf:3", 'invalid connection type "nonsense"'),
    ]
    assert found[3][0] == "role bare"
    assert ("role late", "has a password that expired at 2020-01-01 00:00:00+00:00") in found
    assert ("role mighty", "is a superuser") in found
    assert ("role weak", "has a password kept as md5") in found
    assert ("password_encryption", "md5") in found
    assert {right for subject, right in found if subject == "PUBLIC"} == {
        "CONNECT on database open_house", "TEMPORARY on database open_house", "SELECT on open_table",
        "EXECUTE on open_door(), which runs as its owner",
    }  # fmt: skip
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("GRANT CONNECT ON DATABASE postgres TO public")
        ensure_role(connection, "ordinary", "a-password-that-nobody-guesses")
    with (
        psycopg.connect(
            guarded.server.dsn("postgres", "ordinary", "a-password-that-nobody-guesses") + "?sslmode=require",
            row_factory=dict_row,
        ) as connection,
        pytest.raises(UsageError, match="only a superuser sees who may log in"),
    ):
        auth.audit(connection)
