"""Bad input: each kind gets a sentence that says where and what, and costs neither a published row nor a refused one."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.contracts.command import run
from tests.shop import HEADER, Shop, orders

GOOD = orders(11, 13)
#: A line that breaks the contract, where one does, stands here: after the header and the good ones.
BAD_LINE = 5
NAMES = HEADER.split(",")
HUGE = "x" * 5_000_000


def lines(*rows: str, end: str = "\n") -> str:
    return end.join([HEADER, *GOOD, *rows]) + end


def zipped(**members: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(f"{name}.csv", text)
    return content.getvalue()


def parquet(**columns: list[Any]) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


def typed(row: Sequence[str]) -> dict[str, Any]:
    """What a line of good text is in the warehouse."""
    number, day, customer, amount, weight, paid, shipped = row
    return {
        "order_id": int(number),
        "ordered_on": date.fromisoformat(day),
        "customer": customer,
        "amount_euro": Decimal(amount),
        "weight_kg": float(weight) if weight else None,
        "paid": paid == "true",
        "shipped_at": datetime.fromisoformat(shipped).astimezone(UTC) if shipped else None,
    }


@dataclass(frozen=True)
class Unreadable:
    """A file that cannot hold the dataset: no row of it is taken, and the sentence has these parts."""

    content: str | bytes
    says: tuple[str, ...]
    name: str = "orders.csv"


@dataclass(frozen=True)
class Held:
    """A file with one bad row (`rows`, as delivered), which alone is quarantined, at BAD_LINE, for this reason."""

    row: str
    column: str
    rule: str
    expected: str
    value: str | None = None


@dataclass(frozen=True)
class Taken:
    """A file that looks odd and is right: published, with one order more, which has this customer."""

    content: str | bytes
    customer: str | None = None


@dataclass(frozen=True)
class Misnamed:
    """Words that name nothing, or nothing of that kind: the command says so, and nothing happens."""

    words: tuple[str, ...]
    says: str


SQL = "orders'; DROP TABLE raw.orders; --"
NEEDS = f"Expected {HEADER.replace(',', ', ')} (schemas/orders.odcs.yaml, version 1.0.0)"
OFFER = "deliver these, or change the contract"
AGAIN = "ask its sender to deliver it again"
TEXT = lines()

CASES: dict[str, Unreadable | Held | Taken | Misnamed] = {
    "missing file": Unreadable(b"", ("no such file; check the path",), name="absent"),
    "empty file": Unreadable(b"", ("orders.csv: the file is empty (0 bytes)", AGAIN)),
    "blank file": Unreadable("\n\n", ("orders.csv:1: the first line is blank", "expected the names of the columns")),
    "header only": Unreadable(HEADER + "\n", ("is held: table row count: 0 rows, expected at least one row",)),
    "missing column": Unreadable(
        "\n".join(row.rsplit(",", 1)[0] for row in TEXT.splitlines()),
        ("orders.csv:1: column shipped_at is missing", NEEDS, OFFER),
    ),
    "extra column": Unreadable(
        "\n".join(row + ",note" for row in TEXT.splitlines()),
        ("orders.csv:1: column note is not in the contract", NEEDS, OFFER),
    ),
    "renamed column": Unreadable(
        TEXT.replace("customer", " customer"),
        ("orders.csv:1: column customer is missing; column ' customer' is not in the contract", NEEDS, OFFER),
    ),
    "reordered columns": Taken(
        "customer,shipped_at,paid,weight_kg,amount_euro,ordered_on,order_id\n"
        + "\n".join(",".join(g[i] for i in (2, 6, 5, 4, 3, 1, 0)) for g in csv.reader(GOOD))
    ),
    "duplicated column": Unreadable(
        "\n".join(row + ",paid" for row in TEXT.splitlines()),
        ("orders.csv:1: column paid is more than once. Expected order_id", OFFER),
    ),
    "wrong type": Held("8,2024-03-08,Hedy,eight,1,true,", "amount_euro", "type", "numeric(12,2)", "eight"),
    "a value where none may lack": Held("8,2024-03-08,,8,1,true,", "customer", "required", "customer is never empty"),
    "too few fields": Held("8,2024-03-08,Hedy,8", "weight_kg", "structure", "a line with 7 fields, found 4"),
    "too many fields": Held("8,2024-03-08,Hedy,8,1,true,,x", "", "structure", "a line with 7 fields, found 8"),
    "not UTF-8": Held("8,2024-03-08,Zo\udceb,8,1,true,", "customer", "structure", "a line in UTF-8"),
    "header not UTF-8": Unreadable(
        TEXT.replace("customer", "kund\xeb").encode("latin-1"),
        ("orders.csv:1: the header is not UTF-8 (byte 25); save the file as UTF-8",),
    ),
    "UTF-16": Unreadable(
        TEXT.encode("utf-16"), ("orders.csv:1: found UTF-16, expected UTF-8: save the file as UTF-8",)
    ),
    "byte-order mark": Taken(b"\xef\xbb\xbf" + TEXT.encode()),
    "CRLF": Taken(lines(end="\r\n")),
    "CRLF and LF": Unreadable(
        TEXT.replace("\n", "\r\n", 2),
        ("orders.csv:3: this line ends with LF, those before with CRLF; expected one line ending", "convert it"),
    ),
    "unbalanced quote": Unreadable(
        lines('8,2024-03-08,"Hedy,8,1,true,', *orders(14, 15)),
        ("orders.csv:5: column customer: a quote is opened here and not closed", "No row was taken: correct this line"),
    ),
    "unbalanced quote in the last line": Held(
        '8,2024-03-08,"Hedy,8,1,true,', "", "structure", "a line whose quotes are closed"
    ),
    "embedded newline, delimiter and quote": Taken(
        lines('14,2024-03-15,"He,\ndy ""x""\r\n",14.50,1.75,true,2024-03-01T00:00:00Z'), 'He,\ndy "x"\r\n'
    ),
    "NUL byte": Held("8,2024-03-08,He\0dy,8,1,true,", "customer", "type", "text without NUL", "He\\u0000dy"),
    "NUL byte in the header": Unreadable(
        TEXT.replace("customer", "cust\0mer"), ("orders.csv:1: the header holds a NUL byte; expected text", AGAIN[4:10])
    ),
    "wrong delimiter": Unreadable(
        TEXT.replace(",", ";"),
        (
            "orders.csv:1: no delimiter ',' in the header; it seems to be delimited by ';'",
            NEEDS,
            "set the server's delim",
        ),
    ),
    "wrong delimiter below the header": Held(
        "8;2024-03-08;Hedy;8;1;true;", "ordered_on", "structure", "a line with 7 fields, found 1"
    ),
    "truncated gzip": Unreadable(
        gzip.compress(TEXT.encode())[:-20],
        ("orders.csv.gz: the gz file is cut off or damaged", AGAIN),
        name="orders.csv.gz",
    ),
    "gzip without its trailer": Unreadable(
        gzip.compress(TEXT.encode())[:-4], ("the gz file is cut off or damaged", AGAIN), name="orders.csv.gz"
    ),
    "gzip in name only": Unreadable(TEXT, ("the gz file is cut off or damaged", AGAIN), name="orders.csv.gz"),
    "truncated zstd": Unreadable(
        pa.compress(TEXT.encode(), "zstd", asbytes=True)[:-5],
        ("orders.csv.zst: the zst file is cut off or damaged", AGAIN),
        name="orders.csv.zst",
    ),
    "truncated zip": Unreadable(
        zipped(march=TEXT)[:-30], ("the zip file is cut off or damaged", AGAIN), name="orders.csv.zip"
    ),
    "zip with two members": Unreadable(
        zipped(march=TEXT, april=TEXT),
        ("orders.zip: a zip of 2 members: march.csv, april.csv", "expected exactly one: deliver each file in a zip"),
        name="orders.zip",
    ),
    "Parquet with another schema": Unreadable(
        parquet(order_id=[1], at=["x"]),
        (
            "orders.parquet: columns ordered_on, customer,",
            "are missing; column at is not in the contract",
            NEEDS,
            OFFER,
        ),
        name="orders.parquet",
    ),
    "truncated Parquet": Unreadable(
        parquet(order_id=[1])[:-6], ("orders.parquet: not a readable Parquet file", AGAIN), name="orders.parquet"
    ),
    "5 MB single field": Held(f"8,2024-03-08,{HUGE},8,1,true,", "", "structure", "a line of at most 2,000,000 bytes"),
    "NaN": Held("8,2024-03-08,Hedy,8,NaN,true,", "weight_kg", "type", "double precision and finite", "NaN"),
    "NaN in a decimal": Held("8,2024-03-08,Hedy,NaN,1,true,", "amount_euro", "type", "numeric(12,2)", "NaN"),
    "Infinity": Held("8,2024-03-08,Hedy,8,-Infinity,true,", "weight_kg", "type", "precision and finite", "-Infinity"),
    "out-of-range integer": Held(
        "9223372036854775808,2024-03-08,Hedy,8,1,true,", "order_id", "type", "bigint from", "9223372036854775808"
    ),
    "out-of-range decimal": Held(
        "8,2024-03-08,Hedy,10000000000,1,true,", "amount_euro", "type", "numeric(12,2)", "10000000000"
    ),
    "more decimals than there is room for": Held(
        "8,2024-03-08,Hedy,8.001,1,true,", "amount_euro", "type", "numeric(12,2)", "8.001"
    ),
    "out-of-range double": Held("8,2024-03-08,Hedy,8,1e400,true,", "weight_kg", "type", "and finite", "1e400"),
    "year 0": Held("8,0000-03-08,Hedy,8,1,true,", "ordered_on", "type", "date in the years 1 to 9999", "0000-03-08"),
    "instant in year 0": Held(
        "8,2024-03-08,Hedy,8,1,true,0000-01-01T00:00:00Z", "shipped_at", "type", "in the years", "0000-01-01T00:00:00Z"
    ),
    "duplicate key inside a batch": Held(GOOD[0], "order_id", "key", "(order_id) is unique", "11"),
    "rows of another partition": Held(
        "8,2024-04-01,Hedy,8,1,true,", "ordered_on", "partition", "(ordered_on) names partition 2024-03", "2024-04-01"
    ),
    "formula-like text": Taken(
        lines("14,2024-03-15,=cmd|' /C calc'!A0,14.50,1.75,true,2024-03-01T00:00:00Z"), "=cmd|' /C calc'!A0"
    ),
    "SQL in a value": Taken(
        lines("14,2024-03-15,'); DROP TABLE raw.orders; --,14.50,1.75,true,2024-03-01T00:00:00Z"),
        "'); DROP TABLE raw.orders; --",
    ),
    "unknown dataset": Misnamed(("ingest", "order"), "no dataset 'order': schemas/ has orders"),
    "SQL in a dataset name": Misnamed(("ingest", SQL), f'no dataset "{SQL}": schemas/ has orders'),
    "path as a dataset name": Misnamed(("ingest", "../orders"), "no dataset '../orders'"),
    "SQL in a file name": Misnamed(
        ("ingest", "orders", "-p", "2024-03", "-f", f"{SQL}.csv"), f"{SQL}.csv: no such file; check the path"
    ),
    "no partition named": Misnamed(("ingest", "orders"), "delivered by partition: say which with --partition"),
    "partition of another form": Misnamed(
        ("ingest", "orders", "-p", "2024-13"), "'2024-13' is no partition of orders: expected the form YYYY-MM"
    ),
    "SQL in a partition name": Misnamed(
        ("ingest", "orders", "-p", "2024-03' OR true; --"), "is no partition of orders: expected the form YYYY-MM"
    ),
    "unknown batch": Misnamed(("batch", "show", "ffff"), "no batch with id 'ffff'; `tidegate batch list` shows them"),
    "SQL in a batch's id": Misnamed(("batch", "reject", SQL, "--why", "bad"), f'no batch with id "{SQL}"'),
    "unknown dataset of a contract": Misnamed(
        ("contract", "check", "order"), "no dataset 'order': schemas/ has orders"
    ),
    "unknown transform": Misnamed(("transform", "order"), "no dataset 'order': schemas/ has orders"),
    "unknown batch in quarantine": Misnamed(("quarantine", "show", "ffff"), "no batch with id 'ffff'"),
}


@pytest.fixture(scope="module")
def open_shop(stocked: Shop) -> Shop:
    """A shop for all cases, where the orders 1 to 3 of March are published."""
    return stocked


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case, Unreadable)])
def test_a_file_that_cannot_be_the_dataset_is_told_apart_in_a_sentence(open_shop: Shop, name: str) -> None:
    case = CASES[name]
    assert isinstance(case, Unreadable)
    path = open_shop.root / "absent.csv" if case.name == "absent" else open_shop.file(case.content, case.name)
    before = (open_shop.checksum(), open_shop.refused())
    ended = run("ingest", "orders", "-p", "2024-03", "--file", str(path))
    assert ended.exit_code == 1
    assert [part for part in (str(path), *case.says) if part.removeprefix("orders") not in said(ended.output)] == []
    assert (open_shop.checksum(), open_shop.refused()) == before


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case, Held)])
def test_a_row_that_breaks_the_contract_is_held_and_kept_as_delivered(open_shop: Shop, name: str) -> None:
    case = CASES[name]
    assert isinstance(case, Held)
    path = open_shop.file(lines(case.row).encode(errors="surrogateescape"))
    before, refused = open_shop.checksum(), len(open_shop.refused())
    ended = run("ingest", "orders", "-p", "2024-03", "--file", str(path))
    assert ended.exit_code == 1
    place = f"The first refused row is {path}:{BAD_LINE}{f', column {case.column}' if case.column else ''}: expected "
    for part in ("is held: refused rows: 1 of 4 rows (25.0000%), expected at most 0.0000%.", place, case.expected):
        assert part in said(ended.output)
    (row,) = open_shop.refused()[refused:]
    assert (row["source_file"], row["line"]) == (str(path), BAD_LINE)
    assert (row["column_name"], row["rule"], row["value"]) == (case.column, case.rule, case.value)
    assert case.expected in row["expected"]
    assert row["contract_version"] == "1.0.0"
    delivered = case.row.replace("\0", "\\u0000").replace("\udceb", "\\xeb")
    if case.rule == "structure":
        assert row["record"] == {"line": delivered}
    else:
        assert row["record"] == dict(zip(NAMES, (v or None for v in delivered.split(",")), strict=True))
    assert open_shop.checksum() == before


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case, Taken)])
def test_a_file_that_only_looks_odd_is_published_exactly(open_shop: Shop, name: str) -> None:
    case = CASES[name]
    assert isinstance(case, Taken)
    # Another month, so that the cases before and after find theirs as it was.
    content = case.content.encode() if isinstance(case.content, str) else case.content
    path = open_shop.file(content.replace(b"2024-03", b"2024-05"))
    ended = run("ingest", "orders", "-p", "2024-05", "--file", str(path))
    assert ended.exit_code == 0, ended.output
    expected = [typed(row) for row in csv.reader(orders(11, 13, "2024-05"))]
    if case.customer is not None:
        expected.append({**typed(next(csv.reader(orders(14, 14, "2024-05")))), "customer": case.customer})
    assert open_shop.published()[3:] == expected
    assert open_shop.numbers()[:3] == [1, 2, 3]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case, Misnamed)])
def test_words_that_name_nothing_do_nothing(open_shop: Shop, name: str) -> None:
    case = CASES[name]
    assert isinstance(case, Misnamed)
    before = (open_shop.checksum(), open_shop.states())
    ended = run(*case.words)
    assert (ended.exit_code, case.says in said(ended.output)) == (1, True), ended.output
    assert (open_shop.checksum(), open_shop.states()) == before


def said(output: str) -> str:
    """The sentence of the command, without the log before it."""
    return output[output.index("tidegate: ") :]
