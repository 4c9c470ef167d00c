"""Sift a delivery by its contract: accepted rows to one typed Parquet file, refused rows to a list with reasons.

The common case, a clean delivery, is one streaming pass in columns with flat memory. Only when something was
refused is the delivery read a second time, into a table on disk that knows each record's place in its file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.contracts import Contract
from tidegate.errors import SourceError, UnavailableError, UsageError, first_line
from tidegate.ingest import check, lines
from tidegate.ingest.delivery import Delivery
from tidegate.ingest.layout import Laid, lay
from tidegate.ingest.lines import Reading
from tidegate.stores.duckdb import identifier, literal

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


@dataclass(frozen=True)
class Sifted:
    """What came of a delivery; `parquet` holds exactly the accepted rows."""

    parquet: Path
    delivered: int
    accepted: int
    refused: list[Refused] = field(repr=False)


def open_engine(scratch: Path, memory: str) -> DuckDBPyConnection:
    """Open DuckDB with bounded memory, spilling under `scratch`; instants without an offset are UTC."""
    import duckdb

    scratch.mkdir(parents=True, exist_ok=True)
    engine = duckdb.connect(
        str(scratch / "sift.duckdb"),
        config={"memory_limit": memory, "temp_directory": str(scratch / "spill"), "preserve_insertion_order": False},
    )
    engine.execute("SET TimeZone = 'UTC'")
    return engine


def sift(contract: Contract, delivery: Delivery, partition: str, scratch: Path, memory: str) -> Sifted:
    """Check every row of `delivery` against the contract and write the accepted ones to Parquet under `scratch`.

    Raises:
        SourceError: a file cannot hold this dataset at all.
        UnavailableError: the disk is full.
    """
    import duckdb

    engine = open_engine(scratch, memory)
    try:
        laid = [lay(engine, contract, file) for file in delivery.files]
        target = scratch / "accepted.parquet"
        sieve = _Sieve(engine, contract, partition, laid, target)
        accepted = sieve.pour()
        if accepted == sieve.records_at_most() and not sieve.has_duplicates():
            return Sifted(target, accepted, accepted, [])
        return sieve.examine()
    except duckdb.IOException as error:
        if "No space left" in str(error):
            raise UnavailableError(
                f"no space left under {scratch}: free some and run this again; nothing was published"
            ) from error
        raise SourceError(f"{delivery.name}: cannot be read ({first_line(error)})") from error
    except duckdb.OutOfMemoryException as error:
        raise UnavailableError(f"{delivery.name}: {first_line(error)}; raise TIDEGATE_DUCKDB_MEMORY") from error
    except duckdb.Error as error:
        for file in delivery.files:
            lines.require_one_ending(file)
        raise SourceError(f"{delivery.name}: cannot be read as {contract.dataset} ({first_line(error)})") from error
    finally:
        engine.close()


def partitions(contract: Contract, delivery: Delivery, scratch: Path, memory: str) -> list[str]:
    """Return the partitions that the rows of a delivery name, sorted; rows without a readable one don't count."""
    engine = open_engine(scratch, memory)
    try:
        found: set[str] = set()
        for laid in (lay(engine, contract, file) for file in delivery.files):
            query = f"SELECT DISTINCT {check.partition_name(contract)} FROM ({_typed(contract, laid)})"
            found |= {str(row[0]) for row in engine.execute(query).fetchall() if row[0]}
        return sorted(p for p in found if _is_partition(contract, p))
    finally:
        engine.close()


def _is_partition(contract: Contract, name: str) -> bool:
    try:
        contract.parts_of(name)
    except UsageError:
        return False
    return True


def _typed(contract: Contract, laid: Laid) -> str:
    """Return a SELECT of every column as text (where it arrives as text) and typed."""
    shown = []
    for column in contract.columns:
        text, typed = laid.values[column.name]
        if text is not None:
            shown.append(f"{text} AS {check.text_of(column.name)}")
        shown.append(f"{typed} AS {identifier(column.name)}")
    return f'SELECT {", ".join(shown)}, {laid.check} AS "broken$" FROM {laid.source} WHERE NOT ({laid.blank})'


class _Sieve:
    """One delivery being sifted in one DuckDB connection."""

    def __init__(
        self,
        engine: DuckDBPyConnection,
        contract: Contract,
        partition: str,
        laid: list[Laid],
        target: Path,
    ) -> None:
        self.engine, self.contract, self.partition = engine, contract, partition
        self.laid, self.target = laid, target
        self.columns = ", ".join(identifier(c.name) for c in contract.columns)
        self.keys = [rule for rule in contract.rules if rule.kind == "key"]

    def pour(self) -> int:
        """Write the rows that break no row rule; return their count."""
        parts = []
        for laid in self.laid:
            broken = check.any_broken(self.contract, self.partition, texts=laid.texts)
            rows = f"SELECT {self.columns} FROM ({_typed(self.contract, laid)})"
            parts.append(f'{rows} WHERE NOT (coalesce("broken$", true) OR coalesce({broken}, false))')
        return self._write(" UNION ALL ".join(parts))

    def _write(self, query: str) -> int:
        rows = self.engine.execute(
            f"COPY ({query}) TO {literal(str(self.target))} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
        ).fetchone()
        return int(rows[0]) if rows else 0

    def records_at_most(self) -> int:
        """Bound the count of records from what reading the files has already shown."""
        total = 0
        for laid in self.laid:
            if laid.lines:
                total += laid.file.newlines - laid.header_lines
            else:
                row = self.engine.execute(f"SELECT count(*) FROM {laid.source}").fetchone()
                total += int(row[0]) if row else 0
        return total

    def has_duplicates(self) -> bool:
        for rule in self.keys:
            key = ", ".join(identifier(name) for name in rule.columns)
            present = " AND ".join(f"{identifier(name)} IS NOT NULL" for name in rule.columns)
            query = (
                f"SELECT 1 FROM read_parquet({literal(str(self.target))}) WHERE {present} "
                f"GROUP BY {key} HAVING count(*) > 1 LIMIT 1"
            )
            if self.engine.execute(query).fetchone():
                return True
        return False

    def examine(self) -> Sifted:
        """Read everything again, knowing places; write the good rows anew and name the others."""
        self.engine.execute("SET preserve_insertion_order = true")
        rules: list[tuple[str, str, str]] = [
            ("structure", "", "a JSON object in one line, with no other keys than the contract's columns")
        ]
        for number, laid in enumerate(self.laid):
            conditions = check.conditions(self.contract, self.partition, texts=laid.texts)
            whens = ['WHEN coalesce("broken$", true) THEN 0']
            for rule, sql in conditions:
                whens.append(f"WHEN {sql} THEN {len(rules)}")
                rules.append((rule.kind, rule.columns[0], rule.expected))
            record = self._record(laid)
            # The place is taken before blank lines fall away.
            source = f'(SELECT *, row_number() OVER () AS "place$" FROM {laid.ordered})'
            typed = _typed(self.contract, Laid(**{**vars(laid), "source": source})).replace(
                'AS "broken$"', f'AS "broken$", "place$", {record} AS "record$"', 1
            )
            select = (
                f'SELECT {number} AS "file$", "place$", "record$", {self.columns}, '
                f'CASE {" ".join(whens)} END AS "rule$" FROM ({typed})'
            )
            create = "CREATE OR REPLACE TEMP TABLE checked AS" if number == 0 else "INSERT INTO checked"
            self.engine.execute(f"{create} {select}")
        for rule in self.keys:
            self._refuse_duplicates(rule.columns, len(rules))
            rules.append(("key", ", ".join(rule.columns), rule.expected))
        accepted = self._write(f'SELECT {self.columns} FROM checked WHERE "rule$" IS NULL')
        rows = self.engine.execute(
            'SELECT "file$", "place$", "record$", "rule$" FROM checked WHERE "rule$" IS NOT NULL ORDER BY 1, 2'
        ).fetchall()
        readings = [
            self._read(number, laid, {row[1] for row in rows if row[0] == number})
            for number, laid in enumerate(self.laid)
        ]
        refused = [*self._unreadable(readings), *self._broken(rows, rules, readings)]
        return Sifted(self.target, accepted + len(refused), accepted, refused)

    def _record(self, laid: Laid) -> str:
        """Return the record as delivered, as JSON; NUL is spelled out, for PostgreSQL's jsonb cannot hold it."""
        if laid.lines and "line" not in {c.name for c in self.contract.columns} and laid.check != "false":
            texts = {"line": "line"}
        else:
            texts = {
                name: text if text is not None else f"CAST({typed} AS VARCHAR)"
                for name, (text, typed) in laid.values.items()
            }
        pairs = (f"{literal(name)}: replace({text}, chr(0), '\\u0000')" for name, text in texts.items())
        return f"CAST(to_json({{{', '.join(pairs)}}}) AS VARCHAR)"

    def _refuse_duplicates(self, columns: tuple[str, ...], rule: int) -> None:
        """Keep the first row of each key, refuse those after it."""
        key = ", ".join(identifier(name) for name in columns)
        present = " AND ".join(f"{identifier(name)} IS NOT NULL" for name in columns)
        self.engine.execute(
            f'UPDATE checked SET "rule$" = {rule} WHERE rowid IN (SELECT id FROM (SELECT rowid AS id, '
            f'row_number() OVER (PARTITION BY {key} ORDER BY "file$", "place$") AS n FROM checked '
            f'WHERE "rule$" IS NULL AND {present}) WHERE n > 1)'
        )

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

    def _broken(self, rows: list[Any], rules: list[tuple[str, str, str]], readings: list[Reading]) -> Iterator[Refused]:
        for number, place, record, rule in rows:
            kind, column, expected = rules[rule]
            value = json.loads(record).get(column.split(", ")[0]) if column else None
            yield Refused(
                self.laid[number].file.name,
                readings[number].starts[place],
                column,
                value,
                kind,
                expected,
                record,
            )
