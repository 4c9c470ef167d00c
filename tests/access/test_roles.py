"""What each role may and must not do, found out by trying: each action at each place, and each deed."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors, sql
from tests.access.conftest import House
from tests.conftest import PASSWORD
from tests.publish.showroom import Showroom

from tidegate.contracts import load
from tidegate.publish import evolve, marts
from tidegate.stores.postgres import connect

ROLES = ("app", "migration", "readonly", "analyst", "admin")
EVERYTHING = {"select", "insert", "update", "delete", "truncate", "alter"}
READ = {"select"}
#: Where → what `app`, `readonly` and `analyst` may do there. `migration` and `admin` may do what the owner may.
PLACES: dict[str, tuple[set[str], set[str], set[str]]] = {
    "raw.orders": (READ, READ, set()),
    "raw.bookings": (READ, set(), set()),
    "PARTITION": (set(), set(), set()),
    "masked.bookings": (set(), READ, READ),
    "core.legs": (READ, READ, READ),
    "marts.fct_flight": (READ, READ, READ),
    "marts_current.fct_flight": (set(), set(), set()),
    "ops.batch": (READ, READ, set()),
    "ops.decision": (READ | {"insert"}, READ, set()),
    "ops.verdict": (READ, READ, set()),
    "ops.tenant_login": (READ, READ, set()),
    "quarantine.refused_row": (set(), set(), set()),
    "staging.waiting": (set(), set(), set()),
    "archive.replaced": (set(), set(), set()),
}
#: A policy, or what the owner of tables may not read without asking for it, refuses these to the owner, too.
OF_TENANTS = {"raw.bookings", "PARTITION", "masked.bookings"}


@pytest.fixture(scope="module", autouse=True)
def _furniture(house: House) -> None:
    owner = house.as_("tidegate")
    owner.execute("CREATE TABLE staging.waiting (n int)")
    owner.execute("CREATE TABLE archive.replaced (n int)")
    contract = house.shop.root / "schemas/legs.odcs.yaml"
    orders = (house.shop.root / "schemas/orders.odcs.yaml").read_text()
    contract.write_text(orders.replace("raw.orders", "core.legs").replace("name: orders", "name: legs"))
    with connect(house.shop.settings) as connection:
        evolve.ensure(connection, load(house.shop.settings, "legs"))


def may(connection: psycopg.Connection, statement: sql.Composable | str) -> bool:
    """Whether the statement is allowed; rows that it gets wrong come after that. It is taken back."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)  # type: ignore[arg-type]
    except (errors.IntegrityError, errors.DataError):
        return True
    except (errors.InsufficientPrivilege, errors.WrongObjectType, errors.ObjectNotInPrerequisiteState):
        return False
    return True


def allowed(house: House, role: str, place: str) -> set[str]:
    name = house.partitions()[0] if place == "PARTITION" else place
    table = sql.SQL(".").join(map(sql.Identifier, name.split(".")))
    first = house.administrate(
        f"SELECT attname FROM pg_attribute WHERE attrelid = '{name}'::regclass AND attnum > 0 AND attidentity = '' ORDER BY attnum LIMIT 1"
    )[0]["attname"]
    tries = {
        "select": "SELECT * FROM {t}",
        "insert": "INSERT INTO {t} DEFAULT VALUES",
        "update": "UPDATE {t} SET {c} = {c}",
        "delete": "DELETE FROM {t}",
        "truncate": "TRUNCATE {t} CASCADE",
        "alter": "ALTER TABLE {t} RENAME TO other",
    }
    connection = house.as_(role)
    return {
        action
        for action, text in tries.items()
        if may(connection, sql.SQL(text).format(t=table, c=sql.Identifier(first)))  # type: ignore[arg-type]
    }


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("role", ["app", "readonly", "analyst"])
def test_a_role_may_do_there_what_it_needs_and_nothing_more(house: House, role: str, place: str) -> None:
    assert allowed(house, role, place) == PLACES[place][("app", "readonly", "analyst").index(role)]


@pytest.mark.parametrize("place", sorted(PLACES.keys() - OF_TENANTS))
@pytest.mark.parametrize("role", ["migration", "admin", "tidegate"])
def test_who_changes_tables_may_do_all_that_their_owner_may(house: House, role: str, place: str) -> None:
    # A view is read and changed; what it shows is made elsewhere.
    assert allowed(house, role, place) >= ({"select", "alter"} if place == "marts.fct_flight" else EVERYTHING)


@pytest.mark.parametrize("place", sorted(OF_TENANTS))
@pytest.mark.parametrize("role", ["migration", "tidegate"])
def test_the_owner_changes_tables_of_tenants_and_reads_and_writes_no_row_of_them(
    house: House, role: str, place: str
) -> None:
    assert allowed(house, role, place) - {"truncate", "alter"} == set()
    assert "alter" in allowed(house, role, place)


#: Deed → who may do it, of all roles and the owner; for each there is somebody who must not.
DEEDS: dict[str, set[str]] = {
    "CREATE TABLE public.mine (n int)": {"tidegate", "migration", "admin"},
    "CREATE SCHEMA mine": {"tidegate", "migration", "admin"},
    "CREATE TABLE raw.mine (n int)": {"tidegate", "migration", "admin"},
    "CREATE VIEW masked.mine AS SELECT 1": {"tidegate", "migration", "admin"},
    "CREATE TEMPORARY TABLE mine (n int)": {"tidegate", "migration", "admin"},
    "SELECT rolpassword FROM pg_authid": set(),
    "SELECT usename, passwd FROM pg_shadow": set(),
    "COPY (SELECT 1) TO PROGRAM 'true'": set(),
    "COPY (SELECT 1) TO '/tmp/out'": set(),
    "SELECT pg_read_file('postgresql.conf')": set(),
    "SELECT pg_reload_conf()": set(),
    "CREATE ROLE another": set(),
    "ALTER ROLE CURRENT_USER BYPASSRLS": set(),
    "ALTER ROLE CURRENT_USER SUPERUSER": set(),
    "SET session_replication_role = replica": set(),
    "SET SESSION AUTHORIZATION postgres": set(),
    "SET ROLE backup": set(),
    "SET ROLE pg_read_all_data": set(),
    "SET ROLE app": {"app", "admin"},
    "SET ROLE readonly": {"readonly", "admin"},
    "SET ROLE analyst": {"analyst", "admin"},
    "SET ROLE migration": {"migration", "admin"},
    "SET ROLE admin": {"admin"},
    "SET ROLE tidegate": {"tidegate", "migration", "admin"},
    "GRANT app TO readonly": {"admin"},
    "UPDATE ops.batch SET state = state": {"app", "tidegate", "migration", "admin"},
    "UPDATE ops.batch SET source_sha256 = source_sha256": {"tidegate", "migration", "admin"},
    "INSERT INTO ops.tenant_login (login, tenant) VALUES (session_user, 'DL')": {"tidegate", "migration", "admin"},
    "SELECT ops.enter('UA')": {"app", "admin"},
    "SELECT ops.enter_all()": {"tidegate", "migration", "admin"},
    "SELECT pg_stat_get_activity(NULL), pg_ls_waldir()": {"admin"},
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_deed_is_for_those_alone_who_need_it(house: House, deed: str) -> None:
    who = {role for role in (*ROLES, "tidegate") if may(house.as_(role), deed)}
    assert who == DEEDS[deed]


def test_nobody_else_gets_in(house: House) -> None:
    house.administrate(f"CREATE ROLE stranger LOGIN PASSWORD '{PASSWORD}'")
    try:
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            house.connect("stranger")
    finally:
        house.administrate("DROP ROLE stranger")


@pytest.mark.parametrize("role", ["app", "readonly", "analyst"])
def test_new_marts_and_a_second_set_of_them_are_read_by_whom_the_first_was(house: House, role: str) -> None:
    showroom = Showroom(house.shop)
    query = "SELECT count(*), min(made_for) FROM marts.fct_flight"
    for label, rows in ((f"second for {role}", 5), (f"third for {role}", 8)):
        build = showroom.furnish(label, rows)
        showroom.make(f"mart_of_{role}", "SELECT 1 AS n")
        assert marts.judge(house.shop.settings, build) == "judged"
        marts.publish(house.shop.settings, build)
        assert house.as_(role).execute(query).fetchone() == (rows, label)
        assert house.as_(role).execute(f"SELECT n FROM marts.mart_of_{role}").fetchone() == (1,)  # type: ignore[call-overload]
    marts.undo(house.shop.settings, by="test", why="to see who reads the set before")
    assert house.as_(role).execute(query).fetchone() == (5, f"second for {role}")
