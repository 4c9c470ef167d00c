"""A sealed value opens with its key, in its column, as it was written; anything else is a sentence."""

from __future__ import annotations

import base64
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shop import orders_contract

from tidegate.contracts.read import load_file
from tidegate.errors import ContractError, DamagedValueError, NoKeyError, SealError, UsageError, WrongKeyError
from tidegate.sealing import columns
from tidegate.sealing.keys import Keyring, generate, keyring, parse
from tidegate.sealing.values import Seal, armour, from_armour, key_of
from tidegate.settings import load_settings

K1, K2 = generate("k1"), generate("k2")
OLD, BOTH = Keyring((K1,)), Keyring((K2, K1))


def one(seal: Seal, value: bytes = b"ada@example.com") -> bytes:
    (sealed,) = seal.close([value])
    assert sealed is not None
    return sealed


@given(st.lists(st.none() | st.binary(max_size=200), max_size=20))
def test_what_is_sealed_opens_as_it_was(values: list[bytes | None]) -> None:
    seal = Seal(OLD, "bookings.email")
    sealed = seal.close(values)
    assert seal.open(sealed) == values
    assert [value is None for value in sealed] == [value is None for value in values]
    assert all(value not in found for value, found in zip(values, sealed, strict=True) if value and len(value) > 3)


def test_the_same_value_never_looks_the_same_twice() -> None:
    assert len({one(Seal(OLD, "bookings.email")) for _ in range(1000)}) == 1000


def test_a_value_does_not_open_in_another_column() -> None:
    sealed = one(Seal(OLD, "bookings.email"))
    with pytest.raises(DamagedValueError, match=r"bookings.phone was altered .*, or brought here from another column"):
        Seal(OLD, "bookings.phone").open([sealed])


@given(place=st.integers(0, 49), bit=st.integers(0, 7))
def test_a_value_of_which_one_bit_was_changed_does_not_open(place: int, bit: int) -> None:
    seal = Seal(BOTH, "bookings.email")
    sealed = bytearray(one(seal))
    sealed[place] ^= 1 << bit
    with pytest.raises(SealError):
        seal.open([bytes(sealed)])


@pytest.mark.parametrize(
    "value", [b"", b"\xf5", b"ada@example.com", b"\xf5\x02k1" + b"0" * 20, b"\xf5\x00" + b"0" * 60]
)
def test_what_was_never_sealed_is_told_so(value: bytes) -> None:
    assert key_of(value) is None
    with pytest.raises(DamagedValueError, match=r"not sealed, or damaged: bring it back from a backup"):
        Seal(OLD, "bookings.email").open([value])


def test_a_key_that_was_rotated_away_is_named() -> None:
    sealed = one(Seal(OLD, "bookings.email"))
    with pytest.raises(NoKeyError, match=r"sealed under key k1, and TIDEGATE_ENCRYPTION_KEYS has k2 only: add `,k1:…`"):
        Seal(Keyring((K2,)), "bookings.email").open([sealed])


def test_another_key_of_the_same_name_is_told_from_damage() -> None:
    sealed = one(Seal(OLD, "bookings.email"))
    with pytest.raises(WrongKeyError, match="is not the key k1 that this was sealed under"):
        Seal(Keyring((generate("k1"),)), "bookings.email").open([sealed])


def test_values_come_under_the_newest_key_and_those_under_it_stay() -> None:
    old, new = one(Seal(OLD, "bookings.email")), one(Seal(BOTH, "bookings.email"))
    renewed = Seal(BOTH, "bookings.email").renew([old, None, new])
    assert [value and key_of(value) for value in renewed] == ["k2", None, "k2"]
    assert renewed[2] == new
    assert Seal(Keyring((K2,)), "bookings.email").open(renewed) == [b"ada@example.com", None, b"ada@example.com"]


def test_a_value_in_a_column_of_text_is_told_from_text() -> None:
    sealed = one(Seal(OLD, "bookings.email"))
    assert from_armour(armour(sealed)) == sealed
    assert from_armour("ada@example.com") is None
    assert from_armour("sealed:not base64") is None


def test_a_key_says_nothing_of_itself_but_its_name() -> None:
    shown = repr(BOTH) + K1.check.hex()
    assert base64.b64encode(K1.secret).decode() not in shown
    assert K1.secret.hex() not in shown
    assert parse(str(BOTH)) == BOTH


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("k1", "something else in place 1"),
        ("k1:c2hvcnQ=", "something else in place 1"),
        (f"{K1},K2:{base64.b64encode(bytes(32)).decode()}", "something else in place 2"),
        (f"{K1},{K1}", "found k1 twice"),
    ],
    ids=["no key", "too short", "a capital letter", "twice"],
)
def test_keys_that_cannot_be_read_are_refused_without_repeating_them(text: str, found: str) -> None:
    with pytest.raises(UsageError, match=found) as refused:
        parse(text)
    assert not any(part in str(refused.value) for part in text.replace(",", ":").split(":") if len(part) > 4)


@pytest.mark.parametrize("value", [None, "", " "])
def test_no_key_at_all_says_where_one_comes_from(value: str | None) -> None:
    with pytest.raises(NoKeyError, match=r"there is no key: expected TIDEGATE_ENCRYPTION_KEYS.*`tidegate keys new`"):
        keyring(load_settings(encryption_keys=value))


def test_a_file_of_every_type_is_sealed_and_opened_with_nothing_lost(tmp_path: Path) -> None:
    text = orders_contract().replace(
        "        description:", "        classification: confidential\n        description:"
    )
    for open_ in ("Number of the order", "Day of the order"):
        text = text.replace(f"classification: confidential\n        description: {open_}", f"description: {open_}")
    path = tmp_path / "schemas/orders.odcs.yaml"
    path.parent.mkdir()
    path.write_text(text)
    contract = load_file(path)
    assert contract.sealed == ("customer", "amount_euro", "weight_kg", "paid", "shipped_at")
    table = pa.table(
        {
            "order_id": [1, 2],
            "ordered_on": [date(2024, 3, 1), date(2024, 3, 2)],
            "customer": ["Zoë", ""],
            "amount_euro": pa.array([Decimal("99999.99"), Decimal("0.10")], pa.decimal128(12, 2)),
            "weight_kg": [0.1 + 0.2, None],
            "paid": [True, False],
            "shipped_at": pa.array([datetime(2024, 3, 1, 10, 0, 0, 123456, UTC), None], pa.timestamp("us", "UTC")),
        }
    )
    plain, sealed, again, opened = (tmp_path / f"{name}.parquet" for name in ("plain", "sealed", "again", "opened"))
    pq.write_table(table, plain)
    columns.seal(OLD, contract, plain, sealed)
    found = pq.read_table(sealed)
    assert {found.schema.field(name).type for name in contract.sealed} == {pa.binary()}
    assert found.select(["order_id", "ordered_on"]).equals(table.select(["order_id", "ordered_on"]))
    assert "Zoë".encode() not in sealed.read_bytes()
    assert columns.counts(sealed) == {"k1": 8}
    columns.renew(BOTH, "orders", sealed, again)
    assert columns.counts(again) == {"k2": 8}
    columns.open_(Keyring((K2,)), "orders", again, opened)
    texts = pq.read_table(opened)
    restored = [column.cast(field.type) for column, field in zip(texts.columns, table.schema, strict=True)]
    assert pa.table(restored, schema=table.schema).equals(table)
    with pytest.raises(ContractError, match=r"when orders\.customer was not confidential"):
        columns.require_sealed(contract, table.schema, "batch 1")
