"""A dataset with confidential columns from its delivery to its table: sealed on the way, judged all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.shop import MARCH, Shop, orders_contract, shop
from typer.testing import CliRunner

from tidegate.cli import build
from tidegate.errors import ContractError, HeldError
from tidegate.ingest.land import land
from tidegate.ingest.stage import stage
from tidegate.sealing import Seal, keyring

__all__ = ["shop"]

SECRET = "        classification: confidential\n"


def seal(shop: Shop, *, version: str = "1.0.0", share: float = 0.5) -> None:
    """Let customer, weight and shipping be confidential; a customer has a name of letters."""
    text = orders_contract(version=version, share=share)
    for told in ("Who ordered.\n", "Weight in kilograms.\n", "When it left the house.\n"):
        text = text.replace(told, told + SECRET)
    named = "        required: true\n        logicalTypeOptions: {pattern: '^[^0-9]+$', minLength: 3}\n"
    text = text.replace(f"{SECRET}        required: true\n", SECRET + named)
    (shop.root / "schemas/orders.odcs.yaml").write_text(text)


def tidegate(*words: str) -> str:
    ended = CliRunner().invoke(build(), list(words))
    assert ended.exception is None, ended.output
    return ended.output


def opened(shop: Shop, column: str) -> list[bytes | None]:
    rows = shop.query(f"SELECT {column} FROM raw.orders ORDER BY order_id")
    return Seal(keyring(shop.settings), f"orders.{column}").open(row[column] for row in rows)


def test_rules_hold_on_values_before_they_are_sealed_and_repaired_rows_join_sealed_ones(
    shop: Shop, tmp_path: Path
) -> None:
    seal(shop)
    shop.ingest([*MARCH, "4,2024-03-04,R2D2,1.00,0.5,true,", "5,2024-03-05,Al,1.00,0.5,true,"])
    assert opened(shop, "customer") == [b"Ada", b"Grace", "Zoë".encode()]
    assert opened(shop, "weight_kg") == [b"0.5", None, b"12.25"]
    assert opened(shop, "shipped_at")[0] == b"2024-03-02 10:00:00.000000Z"
    refused = shop.query("SELECT value, record::text, expected FROM quarantine.refused_row ORDER BY line")
    assert [row["expected"] for row in refused] == ["customer matches ^[^0-9]+$", "customer has at least 3 characters"]
    assert not [row for row in refused if "R2D2" in str(row) or "2024" in str(row)]
    batch = shop.query("SELECT batch_id FROM ops.batch")[0]["batch_id"]
    assert "R2D2" in tidegate("quarantine", "show", batch)
    sheet = tmp_path / "repair.csv"
    tidegate("quarantine", "export", "--to", str(sheet))
    assert sheet.stat().st_mode & 0o077 == 0
    sheet.write_text(sheet.read_text().replace("R2D2", "Artoo").replace(",Al,", ",Alan,"))
    assert "2 rows accepted, 0 refused" in tidegate("quarantine", "replay", str(sheet))
    assert opened(shop, "customer") == [b"Ada", b"Grace", "Zoë".encode(), b"Artoo", b"Alan"]


def test_the_quarantine_opens_for_nobody_without_the_key(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    seal(shop)
    shop.ingest([*MARCH, "4,2024-03-04,R2D2,1.00,0.5,true,"])
    monkeypatch.delenv("TIDEGATE_ENCRYPTION_KEYS")
    assert "orders" in tidegate("quarantine", "list")
    ended = CliRunner().invoke(build(), ["quarantine", "show", "1"])
    assert "there is no key: expected TIDEGATE_ENCRYPTION_KEYS" in str(ended.exception)
    assert "R2D2" not in ended.output


def test_an_expectation_of_sealed_values_is_refused_with_its_line_and_of_their_presence_held(shop: Shop) -> None:
    seal(shop)
    suite = shop.root / "expectations/orders.yaml"
    suite.parent.mkdir()
    asks = "expectations:\n  - name: names are short\n    type: {}\n    kwargs: {{column: {}}}\n"
    suite.write_text(asks.format("expect_column_value_lengths_to_be_between", "customer"))
    with pytest.raises(
        ContractError, match=r"expectations/orders.yaml:2: asks for the values of orders.customer, which are"
    ):
        shop.ingest(MARCH)
    suite.write_text(asks.format("expect_column_values_to_not_be_null", "weight_kg"))
    with pytest.raises(HeldError, match="weight_kg: column values to not be null: 1 of 3 rows"):
        shop.ingest(MARCH)


def test_rows_that_are_published_in_plain_are_not_mixed_with_sealed_ones(shop: Shop) -> None:
    shop.ingest(MARCH)
    seal(shop, version="2.0.0")
    with pytest.raises(
        ContractError, match=r"version 2.0.0 seals column customer, and rows published before hold it in plain"
    ):
        shop.ingest(MARCH[:2])
    assert shop.query("SELECT count(customer) AS n FROM raw.orders") == [{"n": 3}]


def test_a_batch_that_landed_in_plain_is_not_staged_as_if_it_were_sealed(shop: Shop) -> None:
    batch = land(shop.settings, shop.agree(share=0.5), "2024-03", shop.file(MARCH))
    seal(shop)
    with pytest.raises(ContractError, match=r"landed when orders.customer was not confidential, and holds it in plain"):
        stage(shop.settings, shop.contract, batch.batch_id)
