import psycopg
from tests.conftest import CHECKOUT, FIRST, SHARED, WHOLE

from tidegate.settings import Settings, get_settings


def test_each_test_gets_a_migrated_warehouse_of_an_ordinary_user(settings: Settings) -> None:
    assert settings.warehouse_url is not None
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolcreaterole, to_regclass('ops.batch') FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
    assert row == (False, False, "ops.batch")


def test_the_library_sees_the_same_warehouse_as_the_test(settings: Settings) -> None:
    assert get_settings() == settings


def test_what_begins_first_is_there() -> None:
    """A file that is renamed would begin whenever its name says, and nobody would notice but the clock."""
    assert [
        unit for unit in (*FIRST, *SHARED, *WHOLE) if unit != "whole" and not (CHECKOUT / "tests" / unit).exists()
    ] == []
