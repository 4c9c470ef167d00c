"""On which line of its file a record starts; asked only for records that were refused, because it reads the file again."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path


def csv_lines(path: Path, delimiter: str, quote: str, rejected: Collection[int], wanted: Collection[int]) -> dict[int, int]:
    """Map ordinals of records (from 1, the header and rejected lines not counted) to their first line (from 1).

    A record may span lines and lines may be blank, so that counting line feeds would name the wrong line.
    """
    missing, found, ordinal = set(wanted), dict[int, int](), 0
    before = csv.field_size_limit(1 << 31)
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter, quotechar=quote)
            next(reader, None)
            start = reader.line_num + 1
            for record in reader:
                if record and start not in rejected:
                    ordinal += 1
                    if ordinal in missing:
                        found[ordinal] = start
                        if len(found) == len(missing):
                            break
                start = reader.line_num + 1
    finally:
        csv.field_size_limit(before)
    return found
