"""Nobody edits a line: the owner is refused, and whoever is not is found out, with the line's number."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from tests.conftest import OWNER
from tests.contracts.command import run

from tidegate.gates import audit, audit_chain
from tidegate.settings import Settings
from tidegate.stack.postgres import PostgresServer
from tidegate.stores.postgres import connect

ODD = 'a "quoted" \\ back\tslash, \x01 a control, Zoë and 日本 \x7f'


@pytest.fixture
def superuser(postgres: PostgresServer, settings: Settings) -> psycopg.Connection:
    """Somebody whom no trigger and no right stops, on a chain of nine lines that was last looked at when whole."""
    with connect(settings) as connection:
        for n in range(9):
            audit.note(connection, "read", "raw", "bookings", n, ODD if n == 4 else None)
            connection.commit()
    assert verify(settings) == []
    assert settings.warehouse_url is not None
    name = settings.warehouse_url.get_secret_value().rpartition("/")[2]
    connection = psycopg.connect(postgres.dsn(name), autocommit=True)
    connection.execute("SET session_replication_role = replica")
    yield connection
    connection.close()


def verify(settings: Settings) -> list[tuple[int | None, int]]:
    return [(finding.place, finding.audit_id) for finding in audit_chain.verify(settings, []).findings]


@pytest.mark.parametrize("table", ["ops.audit", "ops.audit_seal"])
@pytest.mark.parametrize(
    "deed", ["UPDATE {} SET audit_id = DEFAULT", "DELETE FROM {}", "TRUNCATE {}", "DELETE FROM {} WHERE false"]
)
def test_not_even_the_owner_of_the_table_changes_a_line(warehouse: str, table: str, deed: str) -> None:
    if "seal" in table:
        deed = deed.replace("DEFAULT", "0")
    with psycopg.connect(warehouse, autocommit=True) as owner:
        owner.execute("INSERT INTO ops.audit (action, object) VALUES ('read', 'x')")
        with pytest.raises(errors.InsufficientPrivilege, match="only ever added to"):
            owner.execute(deed.format(table))  # type: ignore[call-overload]
        assert owner.execute("SELECT count(*) FROM ops.audit").fetchone() == (1,)


@pytest.mark.parametrize(
    ("deed", "found"),
    [
        ("UPDATE ops.audit SET login = 'somebody' WHERE audit_id = 5", [(5, 5)]),
        ("UPDATE ops.audit SET occurred_at = occurred_at - interval '1 microsecond' WHERE audit_id = 1", [(1, 1)]),
        ("UPDATE ops.audit SET detail = '' WHERE audit_id = 9", [(9, 9)]),
        ("DELETE FROM ops.audit WHERE audit_id = 4", [(4, 4)]),
        ("DELETE FROM ops.audit WHERE audit_id = 4; DELETE FROM ops.audit_seal WHERE audit_id = 4", [(5, 5)]),
        # Off the end, where no line follows: the end is remembered beside the warehouse.
        ("DELETE FROM ops.audit WHERE audit_id > 7; DELETE FROM ops.audit_seal WHERE audit_id > 7", [(9, 9)]),
        ("DELETE FROM ops.audit; DELETE FROM ops.audit_seal", [(9, 9)]),
        ("INSERT INTO ops.audit (action, object) VALUES ('read', 'x')", [(None, 10)]),
        (
            "INSERT INTO ops.audit (action, object) VALUES ('read', 'x'); UPDATE ops.audit_seal SET place = place + 100 WHERE place > 3;"
            "UPDATE ops.audit_seal SET place = place - 99 WHERE place > 100; INSERT INTO ops.audit_seal VALUES (4, 10, repeat('0', 64))",
            [(4, 10), (5, 4), (6, 5), (7, 6), (8, 7), (9, 8), (9, 8), (10, 9)],
        ),
        (
            "UPDATE ops.audit_seal SET audit_id = 11 - audit_id + 100 WHERE audit_id IN (5, 6); UPDATE ops.audit_seal SET audit_id = "
            "audit_id - 100 WHERE audit_id > 100",
            [(5, 6), (6, 5)],
        ),
        ("UPDATE ops.audit_seal SET sha256 = repeat('0', 64) WHERE place = 3", [(3, 3), (4, 4)]),
    ],
)
def test_an_edit_a_removal_and_an_insertion_are_found_at_their_line(
    settings: Settings, superuser: psycopg.Connection, deed: str, found: list[tuple[int | None, int]]
) -> None:
    superuser.execute(deed.encode())
    assert verify(settings) == found
    # Looking does not make it good.
    assert verify(settings) == found


def test_a_whole_new_chain_is_another_one_than_before(settings: Settings, superuser: psycopg.Connection) -> None:
    superuser.execute(b"DELETE FROM ops.audit_seal; UPDATE ops.audit SET login = 'somebody' WHERE audit_id = 2")
    rows = superuser.execute("SELECT audit_id FROM ops.audit ORDER BY audit_id").fetchall()
    for place, (number,) in enumerate(rows, 1):
        superuser.execute(
            "INSERT INTO ops.audit_seal SELECT %(place)s, audit_id, encode(sha256(convert_to(ops.audit_text(a, %(place)s, "
            "coalesce((SELECT sha256 FROM ops.audit_seal ORDER BY place DESC LIMIT 1), '')), 'UTF8')), 'hex') "
            "FROM ops.audit AS a WHERE audit_id = %(number)s",
            {"place": place, "number": number},
        )
    assert verify(settings) == [(9, 9)]


def test_the_chain_goes_on_from_where_it_was_last_whole(settings: Settings) -> None:
    for _ in range(3):
        with connect(settings) as connection:
            audit.note(connection, "read", "raw", "bookings", 1)
        assert verify(settings) == []
    (file,) = (settings.home / "audit").iterdir()
    assert json.loads(file.read_text())["place"] == 3


def test_the_commands_tell_and_end_with_status_1_where_something_is_wrong(
    settings: Settings, superuser: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = json.loads(run("audit", "list", "--json", "--who", OWNER, "--object", "raw.book", "-n", "2").output)
    assert [(line["audit_id"], line["row_count"], line["login"]) for line in listed] == [(9, 8, OWNER), (8, 7, OWNER)]
    assert run("audit", "list", "--since", "2999-01-01").output == ""
    good = run("audit", "verify")
    assert good.exit_code == 0
    assert re.search(r"^9 lines, whole up to [0-9a-f]{12}$", good.output, re.M)
    assert "an administrator runs migrations/audit.sql" in good.output
    superuser.execute("UPDATE ops.audit SET row_count = 1000 WHERE audit_id = 6")
    bad = run("audit", "verify")
    assert bad.exit_code == 1
    assert re.search(r"^line 6 \(.*, tidegate, read raw\.bookings\) is not what was written", bad.output, re.M)
    told = json.loads(run("audit", "verify", "--json").output)
    assert told["findings"][0]["audit_id"] == 6
