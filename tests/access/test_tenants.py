"""Whose rows are seen, by tenant, role and way of looking, and whatever a connection's earlier client has left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql
from tests.access.conftest import TENANTS, House

Seen = set[str]
Connection = psycopg.Connection[Any]
#: Logins that may read the table, and those that may read its masked view; unbound ones see no tenant's rows.
FULL, MASKED = ("app", "admin"), ("readonly", "analyst", "admin")


@pytest.fixture(scope="module", autouse=True)
def _ways_round(house: House) -> None:
    """What the owner might have built on the table, opened to everybody."""
    # The body of a function is read as a query would be, which the owner is refused.
    house.as_("tidegate").execute("""
        SET LOCAL row_security = on;
        CREATE SCHEMA round;
        CREATE VIEW round.owners_view AS SELECT * FROM raw.bookings;
        CREATE VIEW round.invokers_view WITH (security_invoker = true) AS SELECT * FROM raw.bookings;
        CREATE FUNCTION round.owners() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS
            'SELECT carrier FROM raw.bookings';
        CREATE FUNCTION round.owners_in_plpgsql() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS
            'BEGIN RETURN QUERY SELECT carrier FROM raw.bookings; END';
        CREATE FUNCTION round.invokers() RETURNS SETOF text LANGUAGE sql AS 'SELECT carrier FROM raw.bookings';
        -- Cheaper than a policy's condition: it would be asked first, if the planner were free to.
        CREATE FUNCTION round.tell(carrier text, secret anyelement) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
            'BEGIN RAISE NOTICE ''%'', carrier; RETURN true; END';
        GRANT USAGE ON SCHEMA round TO PUBLIC;
        GRANT SELECT ON ALL TABLES IN SCHEMA round TO PUBLIC;
    """)
    partitions = ", ".join(house.partitions())
    house.administrate(f"GRANT SELECT ON {partitions} TO app")


def query(text: str) -> Callable[[House, Connection], Seen]:
    def look(house: House, connection: Connection) -> Seen:
        statement = text.format(partition=house.partitions()[0])
        return {row[0] for row in connection.execute(statement).fetchall()}  # type: ignore[call-overload]

    return look


def copied(text: str) -> Callable[[House, Connection], Seen]:
    def look(house: House, connection: Connection) -> Seen:
        with connection.cursor().copy(text.format(partition=house.partitions()[0])) as copy:  # type: ignore[call-overload]
            return {row[0] for row in copy.rows()}

    return look


def prepared(house: House, connection: Connection) -> Seen:
    """Often enough that the server keeps one plan for good."""
    for _ in range(7):
        rows = connection.execute("SELECT carrier FROM raw.bookings WHERE fare_usd > %s", [0], prepare=True).fetchall()
    return {row[0] for row in rows}


def told(house: House, connection: Connection) -> Seen:
    said: Seen = set()

    def hear(notice: psycopg.errors.Diagnostic) -> None:
        said.add(str(notice.message_primary))

    connection.add_notice_handler(hear)
    connection.execute("SELECT count(*) FROM raw.bookings AS b WHERE round.tell(b.carrier, b.email)")
    connection.remove_notice_handler(hear)
    return said


def scrolled(house: House, connection: Connection) -> Seen:
    with connection.transaction(), connection.cursor(name="all") as cursor:
        cursor.execute("SELECT carrier FROM raw.bookings")
        return {row[0] for row in cursor.fetchall()}


WAYS: dict[str, tuple[tuple[str, ...], Callable[[House, Connection], Seen]]] = {
    "table": (FULL, query("SELECT carrier FROM raw.bookings")),
    "partition": (FULL, query("SELECT carrier FROM {partition}")),
    "ONLY the partition": (FULL, query("SELECT carrier FROM ONLY {partition}")),
    "sample": (FULL, query("SELECT carrier FROM raw.bookings TABLESAMPLE BERNOULLI (100)")),
    "subquery": (FULL, query("WITH b AS MATERIALIZED (SELECT * FROM raw.bookings) SELECT carrier FROM b")),
    "sorted by an index": (FULL, query("SELECT carrier FROM raw.bookings ORDER BY booking_id")),
    "for update of nothing": (FULL, query("SELECT carrier FROM raw.bookings WHERE carrier <> '' OR true")),
    "masked view": (MASKED, query("SELECT carrier FROM masked.bookings")),
    "owner's view": (("app", "admin", "readonly", "analyst"), query("SELECT carrier FROM round.owners_view")),
    "invoker's view": (FULL, query("SELECT carrier FROM round.invokers_view")),
    "owner's function": (("app", "admin", "readonly", "analyst"), query("SELECT round.owners()")),
    "owner's function in PL/pgSQL": (("app", "admin", "readonly", "analyst"), query("SELECT round.owners_in_plpgsql()")),
    "invoker's function": (FULL, query("SELECT round.invokers()")),
    "COPY of the query": (FULL, copied("COPY (SELECT carrier FROM raw.bookings) TO STDOUT")),
    "COPY of the partition": (FULL, copied("COPY {partition} (carrier) TO STDOUT")),
    "COPY of the masked view": (MASKED, copied("COPY (SELECT carrier FROM masked.bookings) TO STDOUT")),
    "prepared statement": (FULL, prepared),
    "cursor": (FULL, scrolled),
    "a function that tells": (FULL, told),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("role", ["app", "readonly", "analyst", "admin"])
@pytest.mark.parametrize("tenant", [*TENANTS, None])
def test_a_tenants_rows_are_seen_for_that_tenant_alone(house: House, tenant: str | None, role: str, way: str) -> None:
    roles, look = WAYS[way]
    connection = house.as_(f"{role}_{tenant}" if tenant else role)
    if role not in roles:
        with pytest.raises(errors.InsufficientPrivilege):
            look(house, connection)
        return
    assert look(house, connection) == ({tenant} if tenant else set())


@pytest.mark.parametrize("way", [way for way in WAYS if way != "cursor"])
@pytest.mark.parametrize("login", ["app", "admin"])
def test_what_serves_many_tenants_sees_the_one_that_its_transaction_has_entered(
    house: House, login: str, way: str
) -> None:
    roles, look = WAYS[way]
    connection = house.as_(login)
    for tenant in TENANTS:
        with connection.transaction():
            connection.execute("SELECT ops.enter(%s)", [tenant])
            if login in roles:
                assert look(house, connection) == {tenant}
    if login in roles:
        assert look(house, connection) == set()


@pytest.mark.parametrize("way", WAYS)
def test_the_owner_is_refused_and_where_it_lets_itself_be_cut_short_sees_nothing(house: House, way: str) -> None:
    _, look = WAYS[way]
    owner = house.as_("tidegate")
    with pytest.raises(errors.InsufficientPrivilege, match="would be affected by row-level security"):
        look(house, owner)
    owner.execute("SET row_security = on")
    try:
        assert look(house, owner) == set()
        owner.execute("SET tidegate.tenant = 'UA'")
        assert look(house, owner) == set()
    finally:
        owner.execute("RESET ALL")


def test_the_owner_sees_all_tenants_in_a_transaction_that_says_so_and_nothing_after(house: House) -> None:
    owner = house.as_("tidegate")
    everybody = {row["carrier"] for row in house.administrate("SELECT DISTINCT carrier FROM raw.bookings")}
    with owner.transaction():
        owner.execute("SELECT ops.enter_all()")
        assert prepared(house, owner) == everybody
        left = owner.execute("SELECT current_setting('tidegate.every_tenant')").fetchone()
    assert left
    owner.execute(
        "SELECT set_config('row_security', 'on', false), set_config('tidegate.every_tenant', %s, false)", left
    )
    try:
        assert prepared(house, owner) == set()
    finally:
        owner.execute("RESET ALL")


@pytest.mark.parametrize("login", ["migration", "admin"])
def test_nobody_sees_all_tenants_as_the_owners_member(house: House, login: str) -> None:
    connection = house.as_(login)
    with connection.transaction():
        connection.execute("SET LOCAL ROLE tidegate")
        connection.execute("SELECT ops.enter_all()")
        assert connection.execute("SELECT count(*) FROM raw.bookings").fetchone() == (0,)


def pooled_leftovers(connection: Connection) -> dict[str, Callable[[], object]]:
    """What a client may do before the pool hands its connection to the next one."""

    def entered(then: str) -> None:
        connection.execute("BEGIN")
        connection.execute("SELECT ops.enter('UA')")
        assert connection.execute("SELECT count(*) > 0 FROM raw.bookings").fetchone() == (True,)
        connection.execute(then)

    def kept_for_the_session() -> None:
        connection.execute("BEGIN")
        connection.execute("SELECT ops.enter('UA')")
        connection.execute("SELECT set_config('tidegate.tenant', current_setting('tidegate.tenant'), false)")
        connection.execute("COMMIT")
        assert connection.execute("SELECT current_setting('tidegate.tenant') LIKE 'UA@%'").fetchone() == (True,)

    def failed_in_a_savepoint() -> None:
        connection.execute("BEGIN")
        connection.execute("SAVEPOINT s")
        connection.execute("SELECT ops.enter('UA')")
        connection.execute("ROLLBACK TO s")
        assert connection.execute("SELECT count(*) FROM raw.bookings").fetchone() == (0,)
        connection.execute("COMMIT")

    return {
        "entered and committed": lambda: entered("COMMIT"),
        "entered and rolled back": lambda: entered("ROLLBACK"),
        "kept for the session": kept_for_the_session,
        "taken back to a savepoint": failed_in_a_savepoint,
        "set by hand": lambda: connection.execute("SET tidegate.tenant = 'UA'"),
        "set by hand with a stamp": lambda: connection.execute(
            "SELECT set_config('tidegate.tenant', 'UA@' || pg_backend_pid() || '.' || extract(epoch FROM now()), false)"
        ),
        "prepared a plan": lambda: prepared_in("UA", connection),
    }


def prepared_in(tenant: str, connection: Connection) -> None:
    with connection.transaction():
        connection.execute("SELECT ops.enter(%s)", [tenant])
        for _ in range(7):
            connection.execute("SELECT carrier FROM raw.bookings WHERE fare_usd > %s", [0], prepare=True)


LEFTOVERS = (
    "entered and committed", "entered and rolled back", "kept for the session", "taken back to a savepoint",
    "set by hand", "set by hand with a stamp", "prepared a plan",
)  # fmt: skip


@pytest.mark.parametrize("left", LEFTOVERS)
def test_what_a_pooled_client_leaves_behind_shows_the_next_one_nothing(house: House, left: str) -> None:
    with house.connect("app") as connection:
        found = pooled_leftovers(connection)
        assert tuple(found) == LEFTOVERS
        found[left]()
        assert prepared(house, connection) == set()
        with connection.transaction():
            connection.execute("SELECT ops.enter('DL')")
            assert prepared(house, connection) == {"DL"}


def test_a_login_of_a_tenant_enters_no_other(house: House) -> None:
    connection = house.as_("app_UA")
    with pytest.raises(errors.InsufficientPrivilege, match="app_UA serves no tenants of its choice"):
        connection.execute("SELECT ops.enter('DL')")
    with connection.transaction(force_rollback=True):
        connection.execute(
            "SELECT set_config('tidegate.tenant', 'DL@' || pg_backend_pid() || '.' || extract(epoch FROM now()), true)"
        )
        assert WAYS["table"][1](house, connection) == {"UA"}


def test_plans_follow_the_role_that_a_session_takes_on(house: House) -> None:
    statement = "SELECT carrier, email FROM {} WHERE fare_usd > %s"
    table, view = (sql.SQL(statement).format(sql.Identifier(s, "bookings")) for s in ("raw", "masked"))  # type: ignore[arg-type]
    with house.connect("admin") as connection, connection.transaction():
        connection.execute("SELECT ops.enter('UA')")
        for _ in range(7):
            assert {row[0] for row in connection.execute(table, [0], prepare=True)} == {"UA"}
            assert set(connection.execute(view, [0], prepare=True)) == {("UA", None)}
        connection.execute("SET LOCAL ROLE analyst")
        assert set(connection.execute(view, [0], prepare=True)) == {("UA", None)}
        with pytest.raises(errors.InsufficientPrivilege), connection.transaction():
            connection.execute(table, [0], prepare=True)
        # Who has entered is the login, whatever role it takes on; the owner's right to see all is its login's alone.
        connection.execute("SET LOCAL ROLE tidegate")
        assert {row[0] for row in connection.execute(table, [0], prepare=True)} == {"UA"}


@pytest.mark.parametrize("login", ["readonly_UA", "analyst_UA"])
def test_masked_columns_hold_nothing_of_what_they_mask(
    house: House, login: str, published: list[dict[str, Any]]
) -> None:
    mine = {row["booking_id"]: row for row in published if row["carrier"] == "UA"}
    cursor = house.as_(login).execute("SELECT * FROM masked.bookings")
    names = [column.name for column in cursor.description or ()]
    shown = {row["booking_id"]: row for row in (dict(zip(names, row, strict=True)) for row in cursor.fetchall())}
    assert shown.keys() == mine.keys()
    for booking, row in mine.items():
        masked = shown[booking]
        assert [masked[name] for name in ("email", "phone", "document_number")] == [None, None, None]
        assert masked["passenger_name"] == row["passenger_name"][0] + "…"
        assert masked["birth_on"] == row["birth_on"].replace(month=1, day=1)
        plain = ("carrier", "flight", "flight_on", "origin", "dest", "fare_usd", "_partition", "_batch_id")
        assert [masked[name] for name in plain] == [row[name] for name in plain]


@pytest.mark.parametrize("login", ["app", "readonly", "analyst_UA", "app_UA", "tidegate"])
def test_statistics_tell_nothing_of_the_rows(house: House, login: str) -> None:
    house.administrate("ANALYZE raw.bookings")
    assert house.administrate("SELECT 1 FROM pg_stats WHERE tablename LIKE 'bookings%' AND attname = 'passenger_name'")
    query = "SELECT count(*) FROM pg_stats WHERE tablename LIKE 'bookings%'"
    assert house.as_(login).execute(query).fetchone() == (0,)


def test_rows_of_another_tenant_cannot_be_written(house: House) -> None:
    house.administrate("GRANT INSERT, UPDATE ON raw.bookings TO app")
    try:
        connection = house.as_("app_UA")
        with pytest.raises(errors.InsufficientPrivilege, match="new row violates row-level security"):
            connection.execute("UPDATE raw.bookings SET carrier = 'DL'")
        with connection.transaction(force_rollback=True):
            changed = connection.execute("UPDATE raw.bookings SET fare_usd = 0").rowcount
        owned = house.administrate("SELECT count(*) AS n FROM raw.bookings WHERE carrier = 'UA'")[0]["n"]
        assert changed == owned
    finally:
        house.administrate("REVOKE INSERT, UPDATE ON raw.bookings FROM app")
