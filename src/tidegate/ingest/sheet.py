"""The CSV file in which a person repairs refused rows: written so that a spreadsheet runs no formula, read back exactly.

A cell that nobody changed means what was delivered, be it empty text, no value or a NUL; only changed cells are
interpreted, as they would be in a delivered file.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.contracts import Contract
from tidegate.errors import SourceError
from tidegate.ingest.quarantine import RefusedRow

ID, REASON, LINE = "_refused_row_id", "_reason", "_line_as_delivered"

#: A spreadsheet takes text that begins so for a formula; the quotation mark before it is ours to take away again.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?[\d.]+([eE][+-]?\d+)?\Z")


@dataclass(frozen=True)
class Repaired:
    """One repaired row: where it stands in the sheet, and its values by column as text or None."""

    line: int
    values: dict[str, str | None]
    changed: bool


def _shown(value: str | None) -> str:
    if value is None:
        return ""
    return "'" + value if _FORMULA.match(value) and not _NUMBER.match(value) else value


def _meant(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _delivered(contract: Contract, row: RefusedRow) -> dict[str, str | None]:
    """Return the row's values by column; of a line that is no record, as many as can be told."""
    names = [column.name for column in contract.columns]
    if not row.is_line:
        return {name: row.record.get(name) for name in names}
    line = str(row.record["line"])
    if (document := _object(line)) is not None:
        return {name: _text(document.get(name)) for name in names}
    source = contract.source
    fields = next(csv.reader(line.splitlines()[:1], delimiter=source.delimiter, quotechar=source.quote), [])
    return {name: fields[n] if n < len(fields) else None for n, name in enumerate(names)}


def _object(line: str) -> dict[str, Any] | None:
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def write(contract: Contract, rows: Iterable[RefusedRow], path: Path) -> int:
    """Write refused rows of one dataset to `path` and return their count."""
    count = 0
    # What is confidential stands here in plain, for whoever repairs it.
    path.touch(mode=0o600)
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([ID, REASON, *(column.name for column in contract.columns), LINE])
        for row in rows:
            place = f"{row.source_file}:{row.line}"
            column = f" {row.column_name}:" if row.column_name else ""
            line = str(row.record["line"]) if row.is_line else None
            cells = [*_delivered(contract, row).values(), line]
            reason = _shown(f"{place}:{column} expected {row.expected}")
            writer.writerow([row.refused_row_id, reason, *map(_shown, cells)])
            count += 1
    return count


def ids(path: Path) -> dict[int, int]:
    """Return the refused rows that a sheet names, each with its line.

    Raises:
        SourceError: the file is not such a sheet, or names a row twice.
    """
    found: dict[int, int] = {}
    for line, cells in _records(path):
        text = cells[ID].strip()
        if not text.isdigit():
            raise SourceError(
                f"{path}:{line}: column {ID}: found {text!r}, expected the number that export wrote there"
            )
        if int(text) in found:
            raise SourceError(
                f"{path}:{line}: row {text} stands there a second time (first on line {found[int(text)]}); keep one of them"
            )
        found[int(text)] = line
    return found


def read(contract: Contract, rows: Sequence[RefusedRow], path: Path) -> dict[int, Repaired]:
    """Read the repaired rows back, by their refused_row_id.

    Raises:
        SourceError: the sheet lacks a column of the contract, or a row of `rows`.
    """
    wanted = {row.refused_row_id: row for row in rows}
    found: dict[int, Repaired] = {}
    for line, cells in _records(path):
        row = wanted.get(int(cells[ID]))
        if row is None:
            continue
        values: dict[str, str | None] = {}
        changed = False
        for name, before in _delivered(contract, row).items():
            if name not in cells:
                raise SourceError(f"{path}:1: column {name} is missing; export the rows again and repair that file")
            if cells[name] == _shown(before):
                # The quarantine spells NUL out, because PostgreSQL cannot store it.
                values[name] = before.replace("\\u0000", "\0") if before is not None else None
            else:
                values[name] = None if cells[name] in contract.source.nulls else _meant(cells[name])
                changed = True
        found[row.refused_row_id] = Repaired(line, values, changed)
    return found


def _records(path: Path) -> Iterable[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise SourceError(f"{path}: no such file; `tidegate quarantine export --to {path.name}` writes one")
    before = csv.field_size_limit(1 << 31)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            if ID not in header:
                raise SourceError(
                    f"{path}:1: column {ID} is missing; expected a file that `tidegate quarantine export` wrote, with "
                    "commas between its columns"
                )
            while True:
                line = reader.line_num + 1
                cells = next(reader, None)
                if cells is None:
                    return
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise SourceError(f"{path}:{line}: found {len(cells)} cells, expected {len(header)} as in line 1")
                yield line, dict(zip(header, cells, strict=True))
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 ({error.reason}); save the file as CSV UTF-8") from None
    except csv.Error as error:
        raise SourceError(f"{path}:{reader.line_num}: not readable as CSV ({error}); close the quotes there") from None
    finally:
        csv.field_size_limit(before)
