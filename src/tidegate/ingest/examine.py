"""The second look at a delivery of which something is refused: every record with its place, its fault, its text.

All records go into a table on disk that knows each one's place in its file; DuckDB's count of them is held
against a second opinion (`lines`), which tells the lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.contracts import Contract
from tidegate.errors import SourceError
from tidegate.ingest import check, lines
from tidegate.ingest.engine import write
from tidegate.ingest.laid import Laid
from tidegate.ingest.lines import Reading
from tidegate.stores.duckdb import identifier

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Refused:
    """One refused record: where it stands, the first rule it broke, and what was delivered."""

    source_file: str
    line: int
    column: str
    value: str | None
    rule: str
    expected: str
    record: str


def examine(
    engine: DuckDBPyConnection, contract: Contract, partition: str, laid: Sequence[Laid], target: Path
) -> tuple[int, list[Refused]]:
    """Read every record anew, write the good ones to `target`; return their count, and the others.

    Raises:
        SourceError: nobody can tell where the records of a file begin.
    """
    examination = _Examination(engine, contract, partition, laid)
    examination.look()
    columns = ", ".join(identifier(column.name) for column in contract.columns)
    accepted = write(engine, f'SELECT {columns} FROM checked WHERE "rule$" IS NULL', target)
    return accepted, examination.refused()


class _Examination:
    """The table `checked`, one row a record; `rule$` is the number of the first rule in `rules` that it breaks."""

    def __init__(self, engine: DuckDBPyConnection, contract: Contract, partition: str, laid: Sequence[Laid]) -> None:
        self.engine, self.contract, self.partition, self.laid = engine, contract, partition, laid
        #: Kind, columns and what was expected.
        self.rules = [("structure", "", "a JSON object in one line, with no other keys than the contract's columns")]

    def look(self) -> None:
        """Fill the table."""
        self.engine.execute("SET preserve_insertion_order = true")
        columns = ", ".join(identifier(column.name) for column in self.contract.columns)
        for number, laid in enumerate(self.laid):
            whens = ['WHEN coalesce("broken$", true) THEN 0']
            for rule, sql in check.conditions(self.contract, self.partition, texts=laid.texts):
                whens.append(f"WHEN {sql} THEN {len(self.rules)}")
                self.rules.append((rule.kind, rule.columns[0], rule.expected))
            select = (
                f'SELECT {number} AS "file$", "place$", "record$", {columns}, '
                f'CASE {" ".join(whens)} END AS "rule$" FROM ({laid.placed_rows})'
            )
            create = "CREATE OR REPLACE TEMP TABLE checked AS" if number == 0 else "INSERT INTO checked"
            self.engine.execute(f"{create} {select}")
        for rule, key, present in check.keys(self.contract):
            self._refuse_duplicates(key, present)
            self.rules.append(("key", ", ".join(rule.columns), rule.expected))

    def _refuse_duplicates(self, key: str, present: str) -> None:
        """Keep the first row of each key, refuse those after it."""
        self.engine.execute(
            f'UPDATE checked SET "rule$" = {len(self.rules)} WHERE rowid IN (SELECT id FROM (SELECT rowid AS id, '
            f'row_number() OVER (PARTITION BY {key} ORDER BY "file$", "place$") AS n FROM checked '
            f'WHERE "rule$" IS NULL AND {present}) WHERE n > 1)'
        )

    def refused(self) -> list[Refused]:
        """Name what holds no record, and the records that break a rule."""
        rows = self.engine.execute(
            'SELECT "file$", "place$", "record$", "rule$" FROM checked WHERE "rule$" IS NOT NULL ORDER BY 1, 2'
        ).fetchall()
        readings = [
            self._read(number, laid, {row[1] for row in rows if row[0] == number})
            for number, laid in enumerate(self.laid)
        ]
        return [*self._unreadable(readings), *self._broken(rows, readings)]

    def _read(self, number: int, laid: Laid, wanted: set[int]) -> Reading:
        """Read a file line by line, and check that this finds the same records as DuckDB has found."""
        if not laid.lines:
            return Reading(starts={place: place for place in wanted})
        if not laid.header_lines:
            return lines.read_plain(laid.file, wanted)
        source = self.contract.source
        reading = lines.read_csv(laid.file, source.delimiter, source.quote, wanted)
        row = self.engine.execute('SELECT count(*) FROM checked WHERE "file$" = ?', [number]).fetchone()
        if not row or row[0] != reading.count:
            first = f":{reading.unreadable[0].line}" if reading.unreadable else ""
            raise SourceError(
                f"{laid.file.name}{first}: quotes are astray: read one way the file holds {reading.count} records, read "
                f"another {row[0] if row else 0}. No row was taken: correct the quotes and deliver the file again"
            )
        return reading

    def _unreadable(self, readings: list[Reading]) -> Iterator[Refused]:
        for laid, reading in zip(self.laid, readings, strict=True):
            for found in reading.unreadable:
                record = json.dumps({"line": found.text.replace("\0", "\\u0000")})
                yield Refused(laid.file.name, found.line, found.column, None, "structure", found.expected, record)

    def _broken(self, rows: list[Any], readings: list[Reading]) -> Iterator[Refused]:
        for number, place, record, rule in rows:
            kind, column, expected = self.rules[rule]
            value = json.loads(record).get(column.split(", ")[0]) if column else None
            line = readings[number].starts[place]
            yield Refused(self.laid[number].file.name, line, column, value, kind, expected, record)
