"""Whatever file it comes in, a value arrives as it was written, or is refused with a reason."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.shop import HEADER, Shop

from tidegate import wave
from tidegate.errors import SourceError
from tidegate.ingest.delivery import Delivery, receive
from tidegate.ingest.sift import Sifted, sift

ROWS: list[dict[str, Any]] = [
    {
        "order_id": 2**63 - 1,
        "ordered_on": date(2024, 3, 1),
        "customer": 'Zoë, "the\n2nd" \\ 🌊',
        "amount_euro": Decimal("9999999999.99"),
        "weight_kg": 0.1,
        "paid": True,
        "shipped_at": datetime(2024, 3, 2, 10, 0, 0, 123456, tzinfo=UTC),
    },
    {
        "order_id": -7,
        "ordered_on": date(2024, 3, 31),
        "customer": " NULL ",
        "amount_euro": Decimal("0.01"),
        "weight_kg": 5e-324,
        "paid": False,
        "shipped_at": datetime(1, 1, 1, tzinfo=UTC),
    },
    {
        "order_id": 0,
        "ordered_on": date(2024, 3, 15),
        "customer": "'; --",
        "amount_euro": Decimal("0.00"),
        "weight_kg": None,
        "paid": True,
        "shipped_at": None,
    },
]


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, HEADER.split(","))
    writer.writeheader()
    writer.writerows({n: v.isoformat() if isinstance(v, date) else v for n, v in row.items()} for row in rows)
    return stream.getvalue().encode()


def as_json_lines(rows: list[dict[str, Any]]) -> bytes:
    def shown(value: Any) -> Any:
        return value.isoformat() if isinstance(value, date) else value

    # A decimal is written as the number that it is, with all of its digits.
    lines = []
    for row in rows:
        plain = {name: f"@{value}@" if isinstance(value, Decimal) else shown(value) for name, value in row.items()}
        lines.append(json.dumps(plain, ensure_ascii=False).replace('"@', "").replace('@"', "") + "\n")
    return "".join(lines).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def as_untyped_parquet(rows: list[dict[str, Any]]) -> bytes:
    return as_parquet([{n: None if v is None else str(v).lower() if v in (True, False) and isinstance(v, bool) else str(v)
                        for n, v in row.items()} for row in rows])  # fmt: skip


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/whatever", content)
    return stream.getvalue()


FORMS = {".csv": as_csv, ".jsonl": as_json_lines, ".parquet": as_parquet, ".text.parquet": as_untyped_parquet}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".zip": zipped,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("form", FORMS)
def test_values_arrive_exactly_in_every_form(stocked: Shop, form: str, packed: str) -> None:
    path = stocked.file(PACKED[packed](FORMS[form](ROWS)), f"orders{form}{packed}")
    arrived = sifted(stocked, path)
    assert [r.expected for r in arrived.refused] == []
    assert rows_of(arrived) == ROWS


def test_they_are_published_as_they_arrived(stocked: Shop) -> None:
    wave.ingest(stocked.settings, "orders", "2024-03", stocked.file(as_json_lines(ROWS), "orders.jsonl"))
    assert stocked.published() == sorted(ROWS, key=lambda row: row["order_id"])


def test_several_files_are_one_delivery_and_each_tells_its_own_lines(shop: Shop) -> None:
    place = "\n  - server: inbox\n    type: local\n    path: 'orders/{partition}/*'\n    format: csv\n"
    shop.agree(server=place, share=0.5)
    folder = shop.settings.inbox_path / "orders/2024-03"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_bytes(as_csv(ROWS[:1]))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(as_json_lines(ROWS[1:2]) + b'{"order_id": "x"}\n'))
    (folder / "c.parquet").write_bytes(as_parquet(ROWS[2:]))
    (folder / "d.csv").write_bytes(as_csv(ROWS[:1]))
    batch = wave.ingest(shop.settings, "orders", "2024-03")
    assert shop.published() == sorted(ROWS, key=lambda row: row["order_id"])
    assert (batch.source_name, batch.delivered_count) == ("a.csv, b.jsonl.gz, c.parquet, d.csv", 5)
    assert [(row["source_file"], row["line"], row["rule"]) for row in shop.refused()] == [
        ("b.jsonl.gz", 2, "type"),
        ("d.csv", 2, "key"),
    ]
    # The names do not make the delivery, nor does their order.
    (folder / "a.csv").rename(folder / "z.csv")
    assert wave.ingest(shop.settings, "orders", "2024-03").batch_id == batch.batch_id


def test_nothing_delivered_is_told_with_the_place_to_put_it(shop: Shop) -> None:
    with pytest.raises(SourceError, match=r"orders 2024-03: nothing delivered at .*/orders/2024-03.csv; put the file"):
        wave.ingest(shop.settings, "orders", "2024-03")


@pytest.mark.parametrize(
    ("number", "arrives"),
    [
        ("1.10", Decimal("1.10")),
        ("1e2", Decimal("100.00")),
        ('"1.10"', Decimal("1.10")),
        ("9999999999.990", Decimal("9999999999.99")),
        ("0.1000000000000000055", None),
        ("9999999999.994", None),
    ],
)
def test_a_fraction_in_json_keeps_every_digit(stocked: Shop, number: str, arrives: Decimal | None) -> None:
    # A string that looks like the number does not stand for it.
    line = json.dumps({"customer": '"amount_euro": 7.5', "paid": True})
    text = f'{line[:-1]}, "order_id": 1, "ordered_on": "2024-03-01", "amount_euro" : {number}}}\n'
    arrived = sifted(stocked, stocked.file(text, "orders.jsonl"))
    assert [row["amount_euro"] for row in rows_of(arrived)] == [value for value in (arrives,) if value is not None]
    assert len(arrived.refused) == (arrives is None)


def sifted(shop: Shop, path: Path) -> Sifted:
    """Sift one file of March under a folder of its own."""
    scratch = Path(tempfile.mkdtemp(dir=shop.root))
    delivery = Delivery((receive(path, path.name, scratch / "in"),))
    return sift(shop.contract, delivery, "2024-03", scratch / "work", "256MB")


def rows_of(arrived: Sifted) -> list[dict[str, Any]]:
    """The accepted rows; instants in UTC."""
    return pq.read_table(arrived.parquet).to_pylist()


@pytest.fixture
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "",
        '"',
        '""',
        '","',
        "\n",
        "\r",
        "\r\n",
        "\0",
        " ",
        "=1",
        "'",
        "\\",
        "\\N",
        "NULL",
        "\ufeff",
        "a,b",
        'x"y',
        "\x1a",
    ]
)


#: Line ending and quoting; a value's own CR is quoted by neither of Python's minimal ways when lines end with LF.
DIALECTS = [("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXT, min_size=1, max_size=6), dialect=st.sampled_from(DIALECTS))
@example(texts=["\r"], dialect=DIALECTS[2])
@example(texts=["a", "b\r\nc\nd"], dialect=DIALECTS[0])
@example(texts=["\ufeff", ""], dialect=DIALECTS[1])
def test_what_pythons_csv_module_wrote_comes_back_or_is_refused_with_a_reason(
    stocked: Shop, scratch: Path, texts: list[str], dialect: tuple[str, Any]
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator=dialect[0], quoting=dialect[1])
    writer.writerow(HEADER.split(","))
    for number, text in enumerate(texts):
        writer.writerow([number, "2024-03-01", text, f"{number}.50", number / 8, "true", ""])
    path = scratch / "orders.csv"
    path.write_bytes(stream.getvalue().encode())
    arrived = sifted(stocked, path)
    assert arrived.delivered == len(texts)
    values = {row["order_id"]: row["customer"] for row in rows_of(arrived)}
    refused = {json.loads(r.record)["order_id"]: r.expected for r in arrived.refused}
    for number, text in enumerate(texts):
        if number in values:
            assert values[number] == text
        elif text == "":
            assert refused[str(number)] == "customer is never empty"
        else:
            assert "\0" in text
            assert refused[str(number)] == "customer is a value of type text without NUL"
