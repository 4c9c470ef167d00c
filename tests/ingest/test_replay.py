"""Repaired rows come back through the gate, once, and exactly as repaired."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from tests.shop import HEADER, MARCH, Shop, orders

from tidegate import wave
from tidegate.cli import main
from tidegate.errors import HeldError, SourceError
from tidegate.gates import ledger
from tidegate.ingest import quarantine, sheet
from tidegate.ingest.land import land
from tidegate.ingest.replay import Replay, land_repaired
from tidegate.publish.batches import reject, undo
from tidegate.stores.postgres import connect
from tidegate.wave import ingest

BAD_AMOUNT = "8,2024-03-08,Hedy,eight,1,true,"
BAD_DAY = "9,2024-03-32,Eve,9.00,1,true,"


def export(shop: Shop, name: str = "repair.csv", **which: Any) -> Path:
    path = shop.root / name
    with connect(shop.settings) as connection:
        sheet.write(shop.contract, quarantine.rows(connection, state="open", **which), path)
    return path


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def edit(path: Path, **changes: str) -> Path:
    """Change cells of the one row whose order number is `order_id`, or of every row without it."""
    rows = cells(path)
    number = changes.pop("order_id", None)
    for row in rows:
        if number in (None, row["order_id"]):
            row.update(changes)
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def replay(shop: Shop, path: Path) -> Replay:
    """Replay a sheet and take the new batches all the way."""
    replayed = land_repaired(shop.settings, path, by="tester")
    for batch in replayed.batches:
        wave.finish(shop.settings, replayed.contract, batch)
    return replayed


def states(shop: Shop) -> list[tuple[str, int]]:
    rows = shop.query("SELECT state, refused_count FROM ops.batch ORDER BY created_at, batch_id")
    return [(row["state"], row["refused_count"]) for row in rows]


def test_a_repaired_row_joins_its_published_partition(shop: Shop) -> None:
    shop.agree(share=0.5)
    first = shop.ingest([*MARCH, BAD_AMOUNT, BAD_DAY])
    assert shop.numbers() == [1, 2, 3]
    replayed = replay(shop, edit(export(shop), order_id="8", amount_euro="8.00"))
    assert (replayed.taken, len(replayed.refused)) == (1, 1)
    assert shop.numbers() == [1, 2, 3, 8]
    eight, nine = shop.refused()
    assert (eight["state"], nine["state"]) == ("replayed", "open")
    new = eight["replay_batch_id"]
    assert shop.query("SELECT DISTINCT _batch_id FROM raw.orders") == [{"_batch_id": new}]
    assert states(shop) == [("superseded", 2), ("published", 1)]
    assert shop.query("SELECT previous_batch_id p FROM ops.batch WHERE batch_id = %s", [new]) == [{"p": first.batch_id}]
    (told,) = shop.query("SELECT action, decided_by FROM ops.decision")
    assert told == {"action": "replay", "decided_by": "tester"}


def test_what_is_still_wrong_is_told_with_its_line_in_the_sheet(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, BAD_AMOUNT, BAD_DAY])
    replayed = replay(shop, edit(export(shop), order_id="9", ordered_on="soon"))
    assert [(r.source_file, r.line, r.column, r.value) for r in replayed.refused.values()] == [
        ("repair.csv", 2, "amount_euro", "eight"),
        ("repair.csv", 3, "ordered_on", "soon"),
    ]
    assert shop.states() == ["published"]
    assert [row["state"] for row in shop.refused()] == ["open", "open"]


def test_replaying_a_sheet_twice_changes_nothing(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, BAD_AMOUNT])
    path = edit(export(shop), amount_euro="8.00")
    replay(shop, path)
    before = (shop.checksum(), shop.states(), shop.refused())
    again = replay(shop, path)
    assert (again.taken, again.known, again.batches) == (0, 1, [])
    assert (shop.checksum(), shop.states(), shop.refused()) == before


def test_a_replay_cut_short_after_landing_is_finished_by_the_next(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, BAD_AMOUNT])
    path = edit(export(shop), amount_euro="8.00")
    land_repaired(shop.settings, path, by="tester")
    assert shop.numbers() == [1, 2, 3]
    replay(shop, path)
    assert shop.numbers() == [1, 2, 3, 8]


def test_rows_repaired_one_after_the_other_all_stay(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, BAD_AMOUNT, BAD_DAY])
    replay(shop, edit(export(shop, "first.csv"), order_id="8", amount_euro="8.00"))
    replay(shop, edit(export(shop, "second.csv"), ordered_on="2024-03-09"))
    assert shop.numbers() == [1, 2, 3, 8, 9]
    assert shop.states() == ["superseded", "superseded", "published"]


def test_repairing_a_held_batch_publishes_it_once_it_is_whole(shop: Shop) -> None:
    with pytest.raises(HeldError):
        shop.ingest([*MARCH, BAD_AMOUNT, BAD_DAY])
    with pytest.raises(HeldError, match="1 of 5 rows"):
        replay(shop, edit(export(shop, "first.csv"), order_id="8", amount_euro="8.00"))
    assert shop.published() == []
    replay(shop, edit(export(shop, "second.csv"), ordered_on="2024-03-09"))
    assert shop.numbers() == [1, 2, 3, 8, 9]
    assert states(shop) == [("superseded", 2), ("superseded", 1), ("published", 0)]
    assert shop.staging() == []


def test_rows_join_the_correction_that_was_published_meanwhile(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, BAD_AMOUNT])
    path = edit(export(shop), amount_euro="8.00")
    shop.ingest([*MARCH, *orders(4, 5)])
    replay(shop, path)
    assert shop.numbers() == [1, 2, 3, 4, 5, 8]


def test_a_row_that_the_correction_brought_already_is_refused_as_duplicate(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, BAD_AMOUNT])
    path = edit(export(shop), amount_euro="8.00")
    shop.ingest([*MARCH, "8,2024-03-08,Hedy,8.88,1,true,"])
    (still,) = replay(shop, path).refused.values()
    assert (still.rule, still.line) == ("key", 2)
    assert shop.numbers() == [1, 2, 3, 8]
    assert shop.published()[-1]["amount_euro"].compare(8) != 0


def test_rows_of_a_batch_taken_back_have_nowhere_to_go(shop: Shop) -> None:
    shop.agree(share=0.5)
    batch = shop.ingest([*MARCH, BAD_AMOUNT])
    path = edit(export(shop), amount_euro="8.00")
    undo(shop.settings, shop.contract, batch.batch_id, by="tester", why="test")
    with pytest.raises(SourceError, match="which is undone: there is no batch to add them to"):
        replay(shop, path)


def test_rows_of_a_replay_that_was_undone_can_be_replayed_again(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, BAD_AMOUNT])
    path = edit(export(shop), amount_euro="8.00")
    replay(shop, path)
    with connect(shop.settings) as connection:
        (published,) = ledger.batches(connection, state="published")
    undo(shop.settings, shop.contract, published.batch_id, by="tester", why="the wrong price")
    assert shop.numbers() == [1, 2, 3]
    replay(shop, edit(path, amount_euro="8.50"))
    assert shop.numbers() == [1, 2, 3, 8]


def test_rows_of_a_rejected_replay_can_be_replayed_no_more_than_their_batch(shop: Shop) -> None:
    with pytest.raises(HeldError):
        shop.ingest([*MARCH, BAD_AMOUNT, BAD_DAY])
    path = edit(export(shop), order_id="8", amount_euro="8.00")
    with pytest.raises(HeldError):
        replay(shop, path)
    with connect(shop.settings) as connection:
        (held,) = ledger.batches(connection, state="held")
    reject(shop.settings, held.batch_id, by="tester", why="not ours")
    with pytest.raises(SourceError, match="there is no batch to add them to; deliver the partition again"):
        replay(shop, path)


def test_a_row_refused_by_an_older_contract_is_accepted_by_a_wider_one(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, "8,2024-03-08,Hedy,-8.00,1,true,"])
    path = export(shop)
    contract = shop.root / "schemas/orders.odcs.yaml"
    contract.write_text(
        contract.read_text().replace("minimum: 0", "minimum: -100").replace("version: 1.0.0", "version: 1.1.0")
    )
    replay(shop, path)
    assert shop.numbers() == [1, 2, 3, 8]


def test_a_broken_line_is_split_for_repair_and_refused_until_somebody_does(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, "8,2024-03-08,Hedy,8.00,1"])
    path = export(shop)
    (row,) = cells(path)
    assert (row["order_id"], row["weight_kg"], row["paid"]) == ("8", "1", "")
    assert row["_line_as_delivered"] == "8,2024-03-08,Hedy,8.00,1"
    assert [r.expected for r in replay(shop, path).refused.values()] == ["a line with 7 fields, found 5"]
    replay(shop, edit(path, paid="false"))
    assert shop.numbers() == [1, 2, 3, 8]


FORMULAS = [
    '=HYPERLINK("http://example.org")', "+1", "-1", "@sum", "'=1+1", "''=1", "\t=1", "O'Hara", "a\\u000ab", " x ",
    'say "hi", please', "two\nlines", "Zoë", "-", "=", "-1+2",
]  # fmt: skip


def test_text_like_a_formula_is_harmless_in_the_sheet_and_whole_after_it(shop: Shop) -> None:
    shop.agree(share=1)
    quoted = ['"' + customer.replace('"', '""') + '"' for customer in FORMULAS]
    land(
        shop.settings,
        shop.contract,
        "2024-03",
        shop.file([f"{n},2024-03-08,{c},eight,1,true," for n, c in enumerate(quoted)]),
    )
    path = edit(export(shop), amount_euro="8.00")
    for shown in (row["customer"] for row in cells(path)):
        assert shown[:1] not in ("=", "@", "\t")
        assert shown[:1] not in ("+", "-") or shown[1:].isdigit()
    replay(shop, path)
    assert [row["customer"] for row in shop.published()] == FORMULAS


def test_a_changed_cell_may_begin_with_an_equals_sign(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, "8,2024-03-08,,8.00,1,true,"])
    replay(shop, edit(export(shop), customer="'=Eve"))
    assert shop.published()[-1]["customer"] == "=Eve"


DASHES = """
  - server: inbox
    type: local
    path: "orders/{partition}.csv"
    format: csv
    customProperties:
      - {property: delimiter, value: ";"}
      - {property: nullValues, value: ["-", "n/a"]}
"""


def test_what_means_no_value_means_the_same_in_a_delivery_and_in_a_repaired_sheet(shop: Shop) -> None:
    shop.agree(share=0.9, server=DASHES)
    header = HEADER.replace(",", ";")
    rows = ["1;2024-03-01;;1.50;-;true;n/a", "2;2024-03-02;;two;-;true;n/a", "3;2024-03-03;Ada;3.50;;true;-"]
    delivered = ingest(shop.settings, "orders", "2024-03", shop.file(rows, header=header))
    assert (delivered.accepted_count, delivered.refused_count) == (1, 2)
    path = export(shop)
    edit(path, order_id="2", amount_euro="2.50", customer="", weight_kg="n/a")
    edit(path, order_id="3", customer="")
    (still,) = replay(shop, path).refused.values()
    assert (still.column, still.value) == ("weight_kg", "")
    replay(shop, edit(path, order_id="3", weight_kg="-"))
    assert [(row["customer"], row["weight_kg"], row["shipped_at"]) for row in shop.published()] == [
        ("", None, None)
    ] * 3


def test_a_nul_stays_refused_until_it_is_taken_out(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, "8,2024-03-08,He\0dy,8.00,1,true,"])
    path = export(shop)
    assert len(replay(shop, path).refused) == 1
    replay(shop, edit(path, customer="Hedy"))
    assert shop.published()[-1]["customer"] == "Hedy"


def test_rows_of_a_json_lines_file_are_repaired_in_the_same_sheet(shop: Shop) -> None:
    shop.agree(share=0.9)
    good = '{"order_id": 1, "ordered_on": "2024-03-01", "customer": "Ada", "amount_euro": 1.5, "weight_kg": null, "paid": true, "shipped_at": null}'
    bad = good.replace('"order_id": 1', '"order_id": 8').replace("1.5", '"a lot"')
    shop.ingest(f"{good}\n{bad}\n{{broken\n", name="orders.jsonl")
    path = export(shop)
    assert [(row["order_id"], row["amount_euro"]) for row in cells(path)] == [("8", "a lot"), ("{broken", "")]
    replayed = replay(shop, edit(path, order_id="8", amount_euro="8"))
    assert (replayed.taken, len(replayed.refused)) == (1, 1)
    assert [row["customer"] for row in shop.published()] == ["Ada", "Ada"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a,b\n1,2\n", "1: column _refused_row_id is missing"),
        ("_refused_row_id;_reason\n1;2\n", "with commas between its columns"),
        ("_refused_row_id,_reason\nx,2\n", ":2: column _refused_row_id: found 'x', expected the number"),
        ("_refused_row_id,_reason\n1,2\n1,2\n", ":3: row 1 stands there a second time (first on line 2)"),
        ("_refused_row_id,_reason\n1,2,3\n", ":2: found 3 cells, expected 2 as in line 1"),
        ("_refused_row_id,_reason\n987654,2\n", ":2: no refused row has the number 987654"),
        ("_refused_row_id,_reason\n1,=\n", ":1: column order_id is missing; export the rows again"),
        ("_refused_row_id,_reason\n", "holds no row"),
        (b"_refused_row_id,_reason\n1,Zo\xeb\n", "not UTF-8"),
        ('_refused_row_id,_reason\n1,"2\n', "not readable as CSV"),
    ],
)
def test_a_file_that_is_no_sheet_is_refused_with_its_line(shop: Shop, content: str | bytes, sentence: str) -> None:
    shop.agree(share=0.5)
    land(shop.settings, shop.contract, "2024-03", shop.file([*MARCH, BAD_AMOUNT]))
    before = shop.refused()
    with pytest.raises(SourceError) as refused:
        land_repaired(shop.settings, shop.file(content, "sheet.csv"), by="tester")
    assert sentence in str(refused.value)
    assert shop.refused() == before


def test_the_commands_take_a_row_through_quarantine_and_back(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    def tidegate(*words: str) -> tuple[int | str | None, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        shown = capsys.readouterr()
        return ended.value.code, shown.out + shown.err

    shop.agree(share=0.5)
    status, said = tidegate("ingest", "orders", "--file", str(shop.file([*MARCH, BAD_AMOUNT, BAD_DAY])))
    assert status == 0
    assert "is published: 3 of 5 rows, 2 refused (in quarantine)" in said
    assert "orders\t2024-03\t" in tidegate("quarantine", "list")[1]
    assert "  amount_euro" in tidegate("quarantine", "show", str(shop.refused()[0]["refused_row_id"]))[1]
    assert (
        "amount_euro is a value of type numeric(12,2)"
        in tidegate("quarantine", "show", shop.refused()[0]["batch_id"][:6])[1]
    )
    path = shop.root / "sheet.csv"
    assert tidegate("quarantine", "export", "--dataset", "orders", "--to", str(path))[0] == 0
    status, said = tidegate("quarantine", "export", "--dataset", "orders", "--to", str(path))
    assert (status, "exists already" in said) == (1, True)
    edit(path, order_id="8", amount_euro="8.00")
    status, said = tidegate("quarantine", "replay", str(path), "--as", "Ada")
    assert status == 1
    assert "orders: 1 rows accepted, 1 refused" in said
    assert f"{path}:3: row" in said
    assert "column ordered_on: found '2024-03-32', expected ordered_on is a value of type date" in said
    edit(path, order_id="9", ordered_on="2024-03-09")
    status, said = tidegate("quarantine", "replay", str(path), "--as", "Ada")
    assert (status, "1 were replayed before" in said) == (0, True)
    assert shop.numbers() == [1, 2, 3, 8, 9]
    assert tidegate("quarantine", "export", "--dataset", "orders", "--to", str(path) + "2")[0] == 1


def test_header_is_the_contracts(shop: Shop) -> None:
    shop.agree(share=0.5)
    land(shop.settings, shop.contract, "2024-03", shop.file([*MARCH, BAD_AMOUNT]))
    first = export(shop).read_text(encoding="utf-8-sig").splitlines()[0]
    assert first == f"_refused_row_id,_reason,{HEADER},_line_as_delivered"
