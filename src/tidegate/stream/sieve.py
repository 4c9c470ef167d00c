"""A haul's messages sifted by their contract, in columns: rows to write, messages to refuse, and copies that fall away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from tidegate.contracts import Contract
from tidegate.ingest import check
from tidegate.ingest.layout import json_texts, json_values, no_object
from tidegate.ingest.refused_messages import Locks
from tidegate.sealing import Keyring, columns, keyring
from tidegate.settings import Settings
from tidegate.stores.duckdb import identifier, literal
from tidegate.stream.feed import Haul, spelled

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

#: Where a row's message stands in its haul: a column beside those of the contract, none of which may have such a name.
PLACE = "place$"
#: What a message's own columns are called while the contract's stand beside them.
_KEY, _VALUE, _PARTITION, _OFFSET = ('"key$"', '"value$"', '"topic_partition$"', '"message_offset$"')


@dataclass(frozen=True)
class RefusedMessage:
    """One refused message: its place, the first rule that it broke, and itself as it came."""

    topic_partition: int
    message_offset: int
    sent_at: datetime
    key: bytes | None
    value: bytes | None
    headers: str
    column: str
    found: str | None
    rule: str
    expected: str


@dataclass(frozen=True)
class Sifted:
    """What came of a haul. `rows` has the contract's columns, `_partition`, and `PLACE`; of one key it holds one row.

    Confidential columns of `rows` are sealed; what is refused is as it came.
    """

    rows: pa.Table
    known: int
    refused: list[RefusedMessage]


class Sieve:
    """A contract's rules over messages; DuckDB is opened once for all hauls of a worker."""

    def __init__(self, contract: Contract, memory: str, keys: Keyring | None = None) -> None:
        """Make the sieve; with `keys` it seals confidential columns, and has the `locks` of refused messages."""
        import duckdb
        import pyarrow as pa  # noqa: F401 - now, and not while the first messages wait

        assert contract.topic is not None
        self.contract, self.topic, self.keys = contract, contract.topic, keys
        self.locks = Locks.of(keys, contract.dataset) if keys else None
        # One thread: beside it the next haul is read, and the warehouse writes.
        self._engine: DuckDBPyConnection = duckdb.connect(config={"memory_limit": memory, "threads": 1})
        # DuckDB would draw a bar over a terminal's lines.
        self._engine.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        self._rules: list[tuple[str, str, str]] = []
        self._select = self._made()

    @classmethod
    def of(cls, settings: Settings, contract: Contract) -> Self:
        """Return the sieve of whoever writes rows; raises NoKeyError where the dataset is discreet, and there is no key."""
        return cls(contract, settings.duckdb_memory, keyring(settings) if contract.discreet else None)

    def close(self) -> None:
        """Let the engine's memory go."""
        self._engine.close()

    def digests(self, haul: Haul) -> list[bytes | None]:
        """Return 16 bytes that tell each message from every other one; None of those without key or value."""
        self._engine.register("messages", haul.table())
        try:
            # The key's length keeps key and value apart.
            found = self._engine.sql(
                "SELECT unhex(left(sha256(encode(octet_length(key) || ':') || key || value), 32)) AS digest FROM messages"
            ).to_arrow_table()
        finally:
            self._engine.unregister("messages")
        return list(found["digest"].to_pylist())

    def sift(self, haul: Haul, known: Sequence[int] = ()) -> Sifted:
        """Type and check every message but the `known`, by their places; the first of those of one key stays, if it is whole.

        Of the others of that key the ones that say the same are known, and those that say something else are refused.
        """
        engine = self._engine
        engine.register("messages", _without(haul.table(), known))
        try:
            checked = f"SELECT * EXCLUDE ({_KEY}, {_VALUE}) FROM ({self._select})"
            engine.execute(f"CREATE OR REPLACE TEMP TABLE checked AS {checked}").fetchall()
            self._tell_copies()
            names = ", ".join(identifier(c.name) for c in self.contract.columns)
            rows = engine.sql(
                f"SELECT {names}, {self._partition} AS _partition, {identifier(PLACE)} FROM checked "
                'WHERE "rule$" IS NULL AND NOT "copy$" ORDER BY ALL'
            ).to_arrow_table()
            if self.keys:
                rows = columns.seal_rows(self.keys, self.contract, rows)
            (copies,) = self._one('SELECT count(*) FROM checked WHERE "rule$" IS NULL AND "copy$"')
            return Sifted(rows, len(known) + int(copies), self._refused(haul))
        finally:
            engine.unregister("messages")

    def judged(self, messages: pa.Table) -> pa.Table:
        """Return each message's place, and a struct of its row or one of its refusal; copies of a key are not looked for.

        `messages` is laid as a haul's whole table. Times of day are texts in `row`: not everybody who reads it has such a type.
        """
        values = {c.name: identifier(c.name) for c in self.contract.columns}
        values |= {
            c.name: f"CAST({values[c.name]} AS VARCHAR)" for c in self.contract.columns if c.postgres_type == "time"
        }
        row = ", ".join(f"{identifier(name)} := {value}" for name, value in values.items())
        kind, column, expected = (
            f'([{", ".join(literal(rule[place]) for rule in self._rules)}])["rule$" + 1]' for place in range(3)
        )
        said = (
            f'sent_at := "sent_at$", message_key := {_KEY}, message_value := {_VALUE}, headers := "headers$", '
            f"column_name := {column}, value := {self._found}, rule := {kind}, expected := {expected}"
        )
        engine = self._engine
        engine.register("messages", messages)
        try:
            return engine.sql(
                f"SELECT {_PARTITION} AS topic_partition, {_OFFSET} AS message_offset, "
                f'CASE WHEN "rule$" IS NULL THEN {self._partition} END AS _partition, '
                f'CASE WHEN "rule$" IS NULL THEN struct_pack({row}) END AS "row", '
                f'CASE WHEN "rule$" IS NOT NULL THEN struct_pack({said}) END AS refused FROM ({self._select})'
            ).to_arrow_table()
        finally:
            engine.unregister("messages")

    def _one(self, query: str) -> tuple[Any, ...]:
        (row,) = self._engine.execute(query).fetchall()
        return tuple(row)

    @property
    def _partition(self) -> str:
        return check.partition_name(self.contract) if self.contract.partitioning else literal("all")

    def _made(self) -> str:
        """Return the SELECT of every message with its columns and `rule$`, the number of the first rule that it breaks."""
        contract, limit = self.contract, self.topic.max_message_bytes
        self._rules = [
            ("too large", "", f"a message of at most {limit:,} bytes"),
            ("null key", "", "a message with a key, by which its topic keeps it in order"),
            ("empty", "", "a message with a value; an empty one says nothing of a row"),
            ("encoding", "", "a value in UTF-8"),
            ("structure", "", "a JSON object with no other keys than the contract's columns"),
        ]
        whens = [
            f"WHEN octet_length({_VALUE}) + octet_length(coalesce({_KEY}, ''::BLOB)) > {limit} THEN 0",
            f"WHEN {_KEY} IS NULL THEN 1",
            f"WHEN {_VALUE} IS NULL THEN 2",
            'WHEN "undecoded$" THEN 3',
            'WHEN "broken$" THEN 4',
        ]
        texts = [column.name for column in contract.columns]
        for rule, broken in check.conditions(contract, None, texts=set(texts)):
            whens.append(f"WHEN {broken} THEN {len(self._rules)}")
            self._rules.append((rule.kind, rule.columns[0], rule.expected))
        self._rules.append(("key", ", ".join(contract.key), self._unique))
        shown = []
        for name, (text, typed) in json_values(contract).items():
            shown += [f"{text} AS {check.text_of(name)}", f"{typed} AS {identifier(name)}"]
        messages = r"SELECT COLUMNS('(.+)') AS '\1$' FROM messages"
        lines = f"SELECT *, CASE WHEN octet_length({_VALUE}) <= {limit} THEN TRY(decode({_VALUE})) END AS line FROM ({messages})"
        documents = f"SELECT *, try_cast(line AS JSON) AS document FROM ({lines})"
        typed_rows = (
            f'SELECT COLUMNS(\'[$]$\'), line IS NULL AS "undecoded$", coalesce({no_object(contract)}, true) AS "broken$", '
            f"{', '.join(shown)} FROM (SELECT *, {json_texts(contract)} FROM ({documents}))"
        )
        return f'SELECT *, CASE {" ".join(whens)} END AS "rule$", false AS "copy$" FROM ({typed_rows})'

    @property
    def _unique(self) -> str:
        rule = next(rule for rule in self.contract.rules if rule.kind == "key" and rule.columns == self.contract.key)
        return f"{rule.expected}, and another message with this key said something else"

    def _tell_copies(self) -> None:
        """Of the good messages of one key let the first one stay; mark the same ones as copies, refuse the others."""
        key = ", ".join(map(identifier, self.contract.key))
        said = f"ROW({', '.join(identifier(column.name) for column in self.contract.columns)})"
        self._engine.execute(
            f'UPDATE checked SET "copy$" = same, "rule$" = CASE WHEN NOT same THEN {len(self._rules) - 1} END FROM ('
            f"  SELECT rowid AS id, row_number() OVER one AS n, {said} IS NOT DISTINCT FROM first_value({said}) OVER one AS same "
            f'  FROM checked WHERE "rule$" IS NULL WINDOW one AS (PARTITION BY {key} ORDER BY {_PARTITION}, {_OFFSET})'
            ") AS found WHERE checked.rowid = found.id AND found.n > 1"
        ).fetchall()

    def _refused(self, haul: Haul) -> list[RefusedMessage]:
        rows = self._engine.execute(
            f'SELECT {identifier(PLACE)}, "rule$", {self._found} FROM checked WHERE "rule$" IS NOT NULL ORDER BY {_PARTITION}, {_OFFSET}'
        ).fetchall()
        return [self._refusal(haul, place, rule, text) for place, rule, text in rows]

    @property
    def _found(self) -> str:
        """What a refused message has in the column of the rule that it breaks, as text."""
        columns = {number: column for number, (_, column, _) in enumerate(self._rules) if column and "," not in column}
        found = " ".join(f"WHEN {number} THEN {check.text_of(column)}" for number, column in columns.items())
        return f'CASE "rule$" {found} END'

    def without(self, haul: Haul, sifted: Sifted, put_away: Mapping[str, str]) -> Sifted:
        """Return what was sifted with the rows of some partitions refused; `put_away` maps those to what was expected."""
        import pyarrow as pa
        import pyarrow.compute as pc

        gone = pc.is_in(sifted.rows["_partition"], value_set=pa.array(list(put_away), pa.string()))
        refused = [
            RefusedMessage(*_message(haul, row[PLACE]), "", None, "archived", put_away[row["_partition"]])
            for row in sifted.rows.filter(gone).select(["_partition", PLACE]).to_pylist()
        ]
        return Sifted(sifted.rows.filter(pc.invert(gone)), sifted.known, [*sifted.refused, *refused])

    def refusal(self, haul: Haul, place: int) -> RefusedMessage:
        """Return the refusal of the message at `place` in the haul, whose key another one has that said something else."""
        return self._refusal(haul, place, len(self._rules) - 1, None)

    def _refusal(self, haul: Haul, place: int, rule: int, text: str | None) -> RefusedMessage:
        kind, column, expected = self._rules[rule]
        return RefusedMessage(*_message(haul, place), column, text, kind, expected)


def _message(haul: Haul, place: int) -> tuple[int, int, datetime, bytes | None, bytes | None, str]:
    sent_at = datetime.fromtimestamp(haul.sent_at[place] / 1000, UTC)
    return (
        haul.topic_partition[place], haul.message_offset[place], sent_at, haul.key[place], haul.value[place],
        spelled(haul.headers[place]),
    )  # fmt: skip


def _without(messages: pa.Table, places: Sequence[int]) -> pa.Table:
    if not places:
        return messages
    import numpy as np

    kept = np.ones(len(messages), dtype=bool)
    kept[list(places)] = False
    return messages.filter(kept)
