"""Connecting as a role: on the embedded server, and on a server of one's own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import psycopg
import pytest
from tests.conftest import CHECKOUT
from tests.stack.test_cli import tidegate
from tests.whole import Stack

from tidegate.errors import TerminalError, UsageError
from tidegate.migrate import door
from tidegate.stack import dump, postgres_binaries
from tidegate.stack.password import require_strong
from tidegate.stack.postgres_databases import ensure_database, ensure_role
from tidegate.stack.roles import ROLES
from tidegate.stack.warehouse import reach
from tidegate.stores.postgres import warehouse_url

WHO = ("--", "-Atc", "SELECT session_user, current_user, coalesce(ops.tenant(), 'nobody')")
GUARDED = """
CREATE TABLE raw.guarded (carrier text, secret text);
INSERT INTO raw.guarded VALUES ('UA', 'canary-of-ua'), ('DL', 'canary-of-dl');
ALTER TABLE raw.guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON raw.guarded USING (carrier = (SELECT ops.tenant()));
GRANT SELECT ON raw.guarded TO app;
"""


def test_psql_connects_as_a_role_for_a_tenant_and_a_dump_holds_the_rows_of_all(stack: Stack, tmp_path: Path) -> None:
    settings = stack.up()
    elsewhere = {f"TIDEGATE_{name.upper()}": value for name, value in stack.elsewhere.items()}

    def psql(*words: str) -> str:
        done = tidegate(stack.home, "psql", *words, **elsewhere)
        return done.stdout.strip() or done.stderr.strip()

    for role in ROLES:
        current = "tidegate" if role == "migration" else role
        assert psql("--role", role, *WHO) == f"{role}|{current}|nobody"
    assert psql(*WHO) == "tidegate|tidegate|nobody"

    with psycopg.connect(warehouse_url(settings)) as owner:
        owner.execute(GUARDED)
    secrets = ("--", "-Atc", "SELECT secret FROM raw.guarded")
    assert psql("--role", "app", "--tenant", "UA", *WHO) == "app_UA|app_UA|UA"
    assert psql("--role", "app", "--tenant", "UA", *secrets) == "canary-of-ua"
    assert psql("--role", "app", "--tenant", "DL", *secrets) == "canary-of-dl"
    assert psql("--role", "app", *secrets) == ""
    assert "permission denied" in psql("--role", "analyst", "--tenant", "UA", *secrets)

    kept = stack.home / "secrets.json"
    passwords = json.loads(kept.read_text())["logins"]
    assert passwords.keys() == {*ROLES, "backup", "app_UA", "app_DL", "analyst_UA"}
    assert kept.stat().st_mode & 0o777 == 0o600
    assert len(set(passwords.values())) == len(passwords)

    path = dump.before(settings, "test")
    restore = postgres_binaries.all_of(None)[0].folder / "pg_restore"
    text = subprocess.run([restore, "-f", "-", path], check=True, capture_output=True, text=True).stdout
    assert "canary-of-ua" in text
    assert "canary-of-dl" in text

    # A server of one's own: no password of ours is sent for another's login.
    server = reach(settings)
    theirs = {**elsewhere, "TIDEGATE_WAREHOUSE_URL": server.dsn("warehouse", "tidegate", "owners-password")}
    done = tidegate(tmp_path / "other", "psql", "--role", "app", "--", "-w", "-c", "SELECT 1", **theirs)
    assert "no password supplied" in done.stderr
    file = tmp_path / "pgpass"
    file.write_text(f"127.0.0.1:{server.port}:warehouse:app_UA:{passwords['app_UA']}\n")
    file.chmod(0o600)
    words = ("psql", "--role", "app", "--tenant", "UA", *WHO)
    done = tidegate(tmp_path / "other", *words, **theirs, PGPASSFILE=str(file))
    assert done.stdout.strip() == "app_UA|app_UA|UA"

    # A second `up` sets the passwords that are known, and none anew.
    stack.up()
    assert json.loads(kept.read_text())["logins"] == passwords

    # New passwords for all: the old ones are taken no more, and those who come by the command notice nothing.
    done = tidegate(stack.home, "roles", "rotate", **elsewhere)
    names = "admin, analyst, analyst_UA, app, app_DL, app_UA, backup, migration, readonly"
    assert done.stdout == f"new passwords, valid for 90 days: {names}\n"
    renewed = json.loads(kept.read_text())["logins"]
    assert not set(renewed.values()) & set(passwords.values())
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.dsn("warehouse", "app_UA", passwords["app_UA"]))
    assert psql("--role", "app", "--tenant", "UA", *WHO) == "app_UA|app_UA|UA"
    with psycopg.connect(server.dsn(), autocommit=True) as administrator:
        valid = "SELECT rolname, (rolvaliduntil - now())::text FROM pg_roles WHERE rolvaliduntil IS NOT NULL ORDER BY 1"
        found = dict(administrator.execute(valid).fetchall())
        assert ", ".join(found) == names
        assert all(left.startswith("89 days 23:") for left in found.values())
        administrator.execute("ALTER ROLE readonly VALID UNTIL '2020-01-01'")
    # One that has expired is renewed for who may read the file that it lies in.
    assert psql("--role", "readonly", *WHO) == "readonly|readonly|nobody"
    assert "no login is called 'nobody'" in tidegate(stack.home, "roles", "rotate", "nobody", **elsewhere).stderr
    done = tidegate(tmp_path / "other", "roles", "rotate", **theirs)
    assert "the warehouse is a server of your own (TIDEGATE_WAREHOUSE_URL)" in done.stderr


@pytest.mark.parametrize("password", ["", "short", "a" * 40, "ab" * 10, "readonly-readonly-readonly-1"])
def test_a_password_that_could_be_guessed_is_refused_without_repeating_it(password: str) -> None:
    with pytest.raises(
        UsageError, match="the password for role readonly could be guessed: expected 20 characters"
    ) as refused:
        require_strong("readonly", password)
    assert not password or password not in str(refused.value)
    require_strong("readonly", "2b7e151628aed2a6abf71589")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--role", "nobody"), "no role is called 'nobody'; there are app, migration, readonly, analyst, admin"),
        (("--tenant", "UA"), "--tenant goes with --role"),
        (("--role", "migration", "--tenant", "UA"), "migration reads no tenant's rows"),
        (("--role", "app", "--tenant", "U'A"), '"U\'A" is no tenant: expected letters and digits'),
    ],
)
def test_a_role_or_tenant_that_cannot_be_is_a_sentence(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    url = "postgresql://tidegate:x@127.0.0.1:9/warehouse"
    done = tidegate(tmp_path, "psql", *words, TIDEGATE_WAREHOUSE_URL=url)
    assert done.returncode == 1
    assert said in done.stderr


def test_without_the_roles_an_ordinary_owner_is_told_whom_to_ask(stack: Stack) -> None:
    settings = stack.up()
    server = reach(settings)
    with psycopg.connect(server.dsn(), autocommit=True) as administrator:
        ensure_role(administrator, "somebody", "a-word-that-nobody-guesses")
        ensure_database(administrator, "theirs", "somebody")
        administrator.execute("ALTER ROLE analyst RENAME TO analyst_once")
        url = server.dsn("theirs", "somebody", "a-word-that-nobody-guesses")
        with pytest.raises(
            TerminalError, match=r"no role analyst, and somebody may make none: .*migrations/roles\.sql"
        ):
            door.upgrade(url, CHECKOUT)
        administrator.execute("ALTER ROLE analyst_once RENAME TO analyst")
        assert "0009" in [step.revision for step in door.upgrade(url, CHECKOUT)]
