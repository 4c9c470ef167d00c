"""A file read line by line: where each record starts, which lines hold none; a second opinion on DuckDB's.

Asked only when something was refused, for it takes a pass in Python. DuckDB names a rejected record by its
ordinal, cuts its text, and says nothing of one whose quote is open at the file's end.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from tidegate.errors import SourceError
from tidegate.ingest.delivery import DeliveredFile

#: Longest record in bytes, its line ending included, that is read.
LONGEST = 2_000_000


@dataclass(frozen=True)
class Unreadable:
    """A line that holds no record of the expected form; bytes of `text` that are no UTF-8 show as \\xNN."""

    line: int
    column: str
    expected: str
    text: str


@dataclass
class Reading:
    """How many records a file holds, the line (from 1) where each of the wanted ones starts, and what is none."""

    count: int = 0
    starts: dict[int, int] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)

    def take(self, line: int, wanted: Collection[int]) -> None:
        """Count a record that starts at `line`."""
        self.count += 1
        if self.count in wanted:
            self.starts[self.count] = line


class _Lines:
    """The lines of a stream, remembering those handed out since the last record."""

    def __init__(self, stream: Iterable[str]) -> None:
        self.stream, self.raw = stream, list[str]()

    def __iter__(self) -> Iterator[str]:
        for line in self.stream:
            self.raw.append(line)
            yield line

    @property
    def text(self) -> str:
        return "".join(self.raw).encode(errors="surrogateescape").decode(errors="backslashreplace").rstrip("\r\n")

    @property
    def too_long(self) -> bool:
        characters = sum(map(len, self.raw))
        if 4 * characters <= LONGEST:
            return False
        return sum(len(line.encode(errors="surrogateescape")) for line in self.raw) > LONGEST

    @property
    def is_utf8(self) -> bool:
        return all(line.isascii() or _is_utf8(line) for line in self.raw)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_csv(file: DeliveredFile, delimiter: str, quote: str, wanted: Collection[int]) -> Reading:
    """Read a CSV file whose first record is its header; `wanted` are ordinals of records, from 1.

    Raises:
        SourceError: a quote is astray, so that nobody can tell where the records after it begin.
    """
    reading, before = Reading(), csv.field_size_limit(1 << 31)
    try:
        with file.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            lines = _Lines(stream)
            reader = csv.reader(lines, delimiter=delimiter, quotechar=quote, strict=True)
            names = next(reader)
            while True:
                lines.raw.clear()
                start, record = reader.line_num + 1, None
                try:
                    record = next(reader)
                except StopIteration:
                    return reading
                except csv.Error:
                    if reader.line_num > start:
                        opened = next(csv.reader(lines.raw[:1], delimiter=delimiter, quotechar=quote), [])
                        raise _astray(file, start, names, len(opened)) from None
                if not record and record is not None and len(names) > 1:
                    continue
                if (fault := _fault(record, names, lines)) is None:
                    reading.take(start, wanted)
                else:
                    reading.unreadable.append(Unreadable(start, *fault, lines.text))
    finally:
        csv.field_size_limit(before)


def _fault(record: list[str] | None, names: list[str], lines: _Lines) -> tuple[str, str] | None:
    """Return (column, what was expected) of a line that holds no record."""
    if lines.too_long:
        return "", f"a line of at most {LONGEST:,} bytes"
    if not lines.is_utf8:
        position = next((n for n, value in enumerate(record or []) if not _is_utf8(value)), len(names))
        return names[position] if position < len(names) else "", "a line in UTF-8"
    if record is None:
        return "", "a line whose quotes are closed"
    if len(record) < len(names) and record:
        return names[len(record)], f"a line with {len(names)} fields, found {len(record)}"
    if any(record[len(names) :]):
        return "", f"a line with {len(names)} fields, found {len(record)}"
    return None


def _astray(file: DeliveredFile, line: int, names: list[str], opened: int) -> SourceError:
    column = names[min(opened, len(names)) - 1]
    return SourceError(
        f"{file.name}:{line}: column {column}: a quote is opened here and not closed as it should be, so nobody can "
        f"tell where the records after it begin; expected a closing quote before the next delimiter "
        "(and quotes inside a value doubled). No row was taken: correct this line and deliver the file again"
    )


def read_plain(file: DeliveredFile, wanted: Collection[int]) -> Reading:
    """Read a file in which every line is a record; `wanted` are ordinals of records, from 1."""
    reading = Reading()
    with file.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        lines = _Lines(stream)
        for number, _ in enumerate(lines, start=1):
            if (fault := _fault([""], ["line"], lines)) is None:
                reading.take(number, wanted)
            else:
                reading.unreadable.append(Unreadable(number, "", fault[1], lines.text))
            lines.raw.clear()
    return reading


def require_one_ending(file: DeliveredFile) -> None:
    """Check that every line ends as the first one does.

    Raises:
        SourceError: some end with CRLF and some with LF, or a carriage return stands inside a line.
    """
    with file.path.open("rb") as stream:
        first = next(stream, b"").endswith(b"\r\n")
        for number, line in enumerate(stream, start=2):
            if line.endswith(b"\n") and line.endswith(b"\r\n") != first:
                mine, others = ("LF", "CRLF") if first else ("CRLF", "LF")
                found = f"this line ends with {mine}, those before with {others}"
            elif b"\r" in line.removesuffix(b"\r\n"):
                found = "a carriage return stands inside this line"
            else:
                continue
            raise SourceError(
                f"{file.name}:{number}: {found}; expected one line ending in the whole file: convert it and "
                "deliver it again"
            )
