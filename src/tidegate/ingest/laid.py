"""One delivered file as SQL: what its records are read from, and how each column is had from them.

How the file of a format comes to be laid out so is told in `layout`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.ingest.check import text_of
from tidegate.ingest.delivery import DeliveredFile
from tidegate.stores.duckdb import identifier, literal


@dataclass(frozen=True)
class Laid:
    """One delivered file as SQL.

    `source` is a FROM item, `ordered` the same read by one thread, which alone tells records apart for certain
    where quotes are astray; `values` maps each column to (its text, or None when it arrives as a value of a
    type; its typed expression). `header_lines` is what the file has before its first record; `lines` tells
    whether a record is at least a line, so that the count of line feeds bounds the count of records.
    `check` is true for a record that cannot be one of this dataset at all, `blank` for one that is no record.
    """

    file: DeliveredFile
    source: str
    ordered: str
    values: dict[str, tuple[str | None, str]]
    header_lines: int
    lines: bool
    check: str = "false"
    blank: str = "false"

    @property
    def texts(self) -> set[str]:
        """The columns that arrive as text."""
        return {name for name, (text, _) in self.values.items() if text is not None}

    @property
    def rows(self) -> str:
        """A SELECT of every record: each column typed, and as text where it arrives as text; and `broken$`, its check."""
        return self._select(self.source)

    @property
    def placed_rows(self) -> str:
        """The same in the file's order, with `place$`, a record's ordinal, and `record$`, itself as delivered."""
        # The place is taken before blank lines fall away.
        placed = f'(SELECT *, row_number() OVER () AS "place$" FROM {self.ordered})'
        return self._select(placed, '"place$"', f'{self._record} AS "record$"')

    def _select(self, source: str, *besides: str) -> str:
        shown = []
        for name, (text, typed) in self.values.items():
            if text is not None:
                shown.append(f"{text} AS {text_of(name)}")
            shown.append(f"{typed} AS {identifier(name)}")
        wanted = ", ".join([*shown, f'{self.check} AS "broken$"', *besides])
        return f"SELECT {wanted} FROM {source} WHERE NOT ({self.blank})"

    @property
    def _record(self) -> str:
        """The record as delivered, as JSON; NUL is spelled out, for PostgreSQL's jsonb cannot hold it."""
        if self.lines and "line" not in self.values and self.check != "false":
            texts = {"line": "line"}
        else:
            texts = {
                name: text if text is not None else f"CAST({typed} AS VARCHAR)"
                for name, (text, typed) in self.values.items()
            }
        pairs = (f"{literal(name)}: replace({text}, chr(0), '\\u0000')" for name, text in texts.items())
        return f"CAST(to_json({{{', '.join(pairs)}}}) AS VARCHAR)"
