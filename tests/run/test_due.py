"""What waits in the inbox is told by its content; what has come to an end once does not come back."""

from __future__ import annotations

import shutil

import pytest
from tests.shop import MARCH, Shop, orders

from tidegate.errors import HeldError
from tidegate.run.due import due
from tidegate.wave import ingest

PIECES = """
  - server: inbox
    type: local
    path: "orders/*.csv"
    format: csv
"""


FOLDERS = """
  - server: inbox
    type: local
    path: "orders/{partition}/part-*.csv"
    format: csv
"""


def put(shop: Shop, name: str, rows: list[str]) -> None:
    target = shop.settings.inbox_path / "orders" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(shop.file(rows), target)


def waiting(shop: Shop) -> list[str]:
    return [partition for item in due(shop.settings) for partition in item.partitions]


def test_what_was_published_or_held_is_not_due_until_its_file_changes(shop: Shop) -> None:
    assert waiting(shop) == []
    put(shop, "2024-03.csv", MARCH)
    put(shop, "2024-04.csv", orders(4, 6, "2024-04"))
    put(shop, "2024-05.csv", ["7,2024-05-01,,1.00,,true,"])
    assert waiting(shop) == ["2024-03", "2024-04", "2024-05"]
    ingest(shop.settings, "orders", "2024-03")
    with pytest.raises(HeldError):
        ingest(shop.settings, "orders", "2024-05")
    assert waiting(shop) == ["2024-04"]
    put(shop, "2024-03.csv", MARCH[:2])
    assert waiting(shop) == ["2024-03", "2024-04"]


def test_a_delivery_of_several_files_is_known_again_whatever_their_names(shop: Shop) -> None:
    shop.agree(server=PIECES, partitioned=False)
    put(shop, "a.csv", MARCH)
    put(shop, "b.csv", orders(4, 6))
    assert waiting(shop) == ["all"]
    assert ingest(shop.settings, "orders", None).state == "published"
    inbox = shop.settings.inbox_path / "orders"
    (inbox / "a.csv").rename(inbox / "c.csv")
    assert waiting(shop) == []
    put(shop, "d.csv", orders(7, 7))
    assert waiting(shop) == ["all"]


def test_a_partition_is_found_beside_a_pattern(shop: Shop) -> None:
    shop.agree(server=FOLDERS)
    put(shop, "2024-03/part-1.csv", MARCH)
    put(shop, "2024-04/part-1.csv", orders(4, 6, "2024-04"))
    put(shop, "2024-04/notes.csv", MARCH)
    (shop.settings.inbox_path / "orders" / "2024-05").mkdir()
    assert waiting(shop) == ["2024-03", "2024-04"]
