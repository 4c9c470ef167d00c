"""The audit of encryption counts every confidential value, and finds those that lie somewhere in plain."""

from __future__ import annotations

import pytest
from tests.access.conftest import House, house

from tidegate.contracts import load_all
from tidegate.evidence import encryption
from tidegate.evidence.encryption import EncryptionAudit
from tidegate.stores.postgres import connect

__all__ = ["house"]


def audit(house: House) -> EncryptionAudit:
    with connect(house.shop.settings) as connection:
        return encryption.audit(connection, load_all(house.shop.settings))


def test_every_confidential_value_is_counted_and_sealed(house: House) -> None:
    found = audit(house)
    assert found.findings == []
    assert {(count.column, count.type) for count in found.columns} == {
        (name, "ops.sealed") for name in ("email", "phone", "document_number")
    }
    rows = house.administrate("SELECT count(email) + count(phone) + count(document_number) AS n FROM raw.bookings")
    assert found.values == rows[0]["n"] > 1000


@pytest.mark.parametrize(
    ("statement", "subject", "said"),
    [
        (
            "UPDATE {table} SET passenger_name = 'Q12345678' WHERE booking_id = (SELECT max(booking_id) FROM {table})",
            "{table}.passenger_name",
            "1 values in plain look like document_number",
        ),
        (
            "ALTER TABLE {table} DROP COLUMN email CASCADE; ALTER TABLE {table} ADD COLUMN email text DEFAULT 'ada@example.com'",
            "{table}.email",
            "300 of 300 values are not sealed (text)",
        ),
        (
            "UPDATE {table} SET phone = set_byte(phone::bytea, 2, 120) WHERE booking_id = (SELECT max(booking_id) FROM {table} "
            "WHERE phone IS NOT NULL)",
            "{table}.phone",
            "1 of ",
        ),
    ],
)
def test_what_lies_in_plain_or_under_no_known_key_is_found(
    house: House, statement: str, subject: str, said: str
) -> None:
    # In a copy that stands as a table of the archive does: what is published takes no such value.
    batch = house.administrate("SELECT batch_id FROM ops.batch WHERE dataset = 'bookings' LIMIT 1")[0]["batch_id"]
    table = f"archive.copy__{batch}"
    house.administrate(f"CREATE TABLE {table} AS SELECT * FROM raw.bookings WHERE _batch_id = '{batch}'")
    try:
        house.administrate(f"ALTER TABLE {table} OWNER TO tidegate")
        for one in statement.format(table=table).split("; "):
            house.administrate(one)
        found = [finding for finding in audit(house).findings if finding.subject == subject.format(table=table)]
        assert [finding.found.startswith(said) for finding in found][:1] == [True]
    finally:
        house.administrate(f"DROP TABLE {table}")
