"""What a contract says, as immutable values; no reading of files and no talking to servers here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from tidegate.contracts.types import INTEGERS, SEALED
from tidegate.errors import UsageError

Grain = Literal["year", "month", "day"]
#: Grain → the names of its partitions: as a strftime format, and as one tells a person.
_FORMS: dict[Grain, tuple[str, str]] = {
    "year": ("%Y", "YYYY"),
    "month": ("%Y-%m", "YYYY-MM"),
    "day": ("%Y-%m-%d", "YYYY-MM-DD"),
}
_LONGEST: dict[Grain, timedelta] = {"year": timedelta(days=366), "month": timedelta(days=31), "day": timedelta(days=1)}

#: Columns of numbers that name a calendar's partition together → its grain.
_CALENDARS: dict[tuple[str, ...], Grain] = {
    ("year",): "year",
    ("year", "month"): "month",
    ("year", "month", "day"): "day",
}
#: Logical types of which one value alone names a calendar's partition.
_DATED = ("date", "timestamp")

#: What stands for a partition's name in a source's location.
PARTITION = "{partition}"
#: The partition of a dataset that is delivered whole.
WHOLE = "all"

#: Appended by the platform to every published row; a contract may not use these names.
LINEAGE_COLUMNS = ("_partition", "_batch_id")


def version_number(version: str) -> tuple[int, ...]:
    """Return `1.10.0` as numbers, which compare as versions do."""
    return tuple(int(part) for part in version.split("."))


def in_words(span: timedelta | None) -> str:
    """Return a length of time as one says it: `2 days`, `90 minutes`; nothing for None."""
    if span is None:
        return ""
    for seconds, word in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        count, rest = divmod(span.total_seconds(), seconds)
        if count and not rest:
            return f"{int(count)} {word}{'s' if count > 1 else ''}"
    return f"{span.total_seconds():g} seconds"


_WORDS = {
    "type": "{column} is a value of type {value}",
    "required": "{column} is never empty",
    "minimum": "{column} >= {value}",
    "maximum": "{column} <= {value}",
    "accepted": "{column} is one of {value}",
    "pattern": "{column} matches {value}",
    "min_length": "{column} has at least {value} characters",
    "max_length": "{column} has at most {value} characters",
    "key": "({column}) is unique",
    "partition": "({column}) names partition {value}",
}


#: What a type promises beyond what its name says.
_LIMITS = {
    "smallint": "from -32768 to 32767",
    "integer": "from -2147483648 to 2147483647",
    "bigint": "from -9223372036854775808 to 9223372036854775807",
    "real": "and finite",
    "double precision": "and finite",
    "date": "in the years 1 to 9999",
    "timestamp": "in the years 1 to 9999",
    "timestamptz": "in the years 1 to 9999",
}


@dataclass(frozen=True)
class Rule:
    """One checkable sentence of a contract about one column (or the key); `kind` is a key of `_WORDS`."""

    kind: str
    columns: tuple[str, ...]
    value: Any
    line: int

    @property
    def expected(self) -> str:
        """Say in words what the rule expects of a value."""
        value = ", ".join(map(str, self.value)) if isinstance(self.value, tuple) else self.value
        if self.kind == "type" and value in _LIMITS:
            value = f"{value} {_LIMITS[value]}"
        return _WORDS[self.kind].format(column=", ".join(self.columns), value=value)


def is_sealed(classification: str | None) -> bool:
    """Return whether values so classified are written nowhere but sealed."""
    return classification not in (None, "public", "restricted")


@dataclass(frozen=True)
class Column:
    """One column: its name, its types on both sides, and what is promised of its values."""

    name: str
    logical_type: str
    postgres_type: str
    duckdb_type: str
    description: str
    required: bool
    line: int
    rules: tuple[Rule, ...] = ()
    classification: str | None = None
    references: str | None = None
    unit: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def sealed(self) -> bool:
        """Whether values are written nowhere but sealed: confidential ones; an unknown classification says so, too."""
        return is_sealed(self.classification)

    @property
    def stored_type(self) -> str:
        """The PostgreSQL type that the column has in a table."""
        return SEALED if self.sealed else self.postgres_type

    @property
    def told(self) -> str:
        """The description for readers of the table."""
        return f"{self.description} Sealed: readable with its key alone." if self.sealed else self.description

    def can_be(self, part: str) -> bool:
        """Return whether a partition's name may say `part` of this column."""
        return part.lstrip("-").isdigit() if self.postgres_type in INTEGERS else bool(part)


@dataclass(frozen=True)
class Source:
    """Where deliveries of a dataset come from: one `servers` entry of the contract."""

    name: str
    type: str
    location: str
    format: str
    options: Mapping[str, Any]

    @property
    def delimiter(self) -> str:
        """What stands between the values of a CSV file."""
        return str(self.options.get("delimiter", ","))

    @property
    def quote(self) -> str:
        """What stands around a value of a CSV file that holds the delimiter; doubled, it is meant itself."""
        return str(self.options.get("quote", '"'))

    @property
    def nulls(self) -> tuple[str, ...]:
        """Every text that means no value in a CSV file: those that the contract lists alone, else the empty text."""
        return tuple(map(str, self.options.get("nullValues", [""])))


@dataclass(frozen=True)
class Topic:
    """A Kafka topic whose messages are rows of a dataset: what its `servers` entry says of it."""

    name: str
    event_time: str
    """The column that tells when what a row speaks of happened."""
    lateness: timedelta
    """A row whose event lies further than this behind the newest one known is counted as late; it is taken all the same."""
    max_message_bytes: int
    """A larger message is refused."""
    sample: int
    """As many of the newest rows of each run does Great Expectations judge; 0 is none."""
    kept: timedelta | None = None
    """For how long at the most the broker may keep messages; None is as long as it does."""

    @property
    def dead_letters(self) -> str:
        """The topic that refused messages are copied to."""
        return f"{self.name}.dead"


#: How a file is read that somebody hands over where the contract names no server.
HANDED_OVER = Source("file", "local", "", "csv", {})


@dataclass(frozen=True)
class Partitioning:
    """The columns whose values name a row's partition, and the calendar grain they follow, if any."""

    columns: tuple[str, ...]
    grain: Grain | None

    @classmethod
    def by(cls, columns: Sequence[tuple[str, str]], declared: Any) -> Partitioning:
        """Return what these columns, name and logical type in their order, part a dataset by.

        A date alone does so by the grain that is `declared` of it, which is not checked here, or else by months.
        """
        names = tuple(name for name, _ in columns)
        if len(columns) == 1 and columns[0][1] in _DATED:
            return cls(names, "month" if declared is None else declared)
        return cls(names, _CALENDARS.get(names))

    def __str__(self) -> str:
        return f"{', '.join(self.columns)} ({self.grain or 'value'})"

    @property
    def form(self) -> str:
        """The calendar partitions' names, as a strftime format."""
        assert self.grain is not None
        return _FORMS[self.grain][0]

    @property
    def expected(self) -> str:
        """The form of a partition's name, for people to read: `YYYY-MM`, `carrier-origin`."""
        return _FORMS[self.grain][1] if self.grain else "-".join(self.columns)

    def of_instant(self, instant: datetime | date) -> str:
        """Name the partition of a data interval that starts at `instant`."""
        return instant.strftime(self.form)

    def start_of(self, partition: str) -> datetime:
        """Return the instant (UTC) that the partition of that name starts at; ValueError if it names none."""
        return datetime.strptime(partition, self.form).replace(tzinfo=UTC)

    def holds(self, partition: str) -> bool:
        """Return whether the calendar has a partition of that name."""
        try:
            return self.of_instant(self.start_of(partition)) == partition
        except ValueError:
            return False

    def following(self, partition: str) -> str:
        """Name the next partition of the calendar; ValueError if `partition` names none.

        Raises:
            UsageError: it is the last one, which no date of the calendar comes after.
        """
        assert self.grain is not None
        try:
            # Also from the start of the shortest one, the longest ends within the next.
            return self.of_instant(self.start_of(partition) + _LONGEST[self.grain])
        except OverflowError:
            raise UsageError(
                f"partition {partition} is the calendar's last, and has no end; expected one before the end of the year 9999"
            ) from None


def partition_in_words(partitioning: Partitioning | None) -> str:
    """Say what a partition of a dataset is: what is published remembers it, and changes are told in these words."""
    return str(partitioning or "the whole dataset")


@dataclass(frozen=True)
class Contract:
    """One dataset's contract, as read from `path`."""

    dataset: str
    version: str
    path: Path
    schema: str
    table: str
    description: str
    grain: str
    owner: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partitioning: Partitioning | None
    sources: tuple[Source, ...]
    max_refused_share: float
    freshness: timedelta | None
    retention: str | None
    refused_share_line: int = 1
    key_line: int = 1
    topic: Topic | None = None
    """Where its messages come by, of a dataset that is a stream; None of one that is delivered or made."""
    freshness_line: int = 1
    frequency: timedelta | None = None
    """How long after one delivery the next one comes at the latest; None for what is made, not delivered."""
    title: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    """`purpose`, `usage` and `limitations`, as far as the contract tells them."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule that can be judged row by row, in column order, the key's last."""
        row = tuple(rule for column in self.columns for rule in column.rules)
        return (*row, Rule("key", self.key, True, self.key_line)) if self.key else row

    @property
    def source(self) -> Source:
        """Where deliveries come from, and how their files are to be read."""
        return self.sources[0] if self.sources else HANDED_OVER

    @property
    def calendar_column(self) -> Column | None:
        """The date or timestamp whose value alone names a row's partition; None where plain values do."""
        if self.partitioning is None or len(self.partitioning.columns) != 1:
            return None
        column = self.column(self.partitioning.columns[0])
        return column if column.logical_type in _DATED else None

    @property
    def made_ahead(self) -> bool:
        """Whether partitions are made before their rows: those come one by one, and the calendar tells what comes next."""
        calendar = self.partitioning is not None and self.partitioning.grain is not None
        return calendar and self.topic is not None

    @property
    def tenant(self) -> str | None:
        """The column whose value names the tenant that a row belongs to (tag `tenant`); None if rows are everybody's."""
        return next((column.name for column in self.columns if "tenant" in column.tags), None)

    @property
    def sealed(self) -> tuple[str, ...]:
        """The names of the columns that are sealed."""
        return tuple(column.name for column in self.columns if column.sealed)

    @property
    def discreet(self) -> bool:
        """Whether a row's record is not for everybody: one of its columns is classified or personal."""
        return any(c.classification not in (None, "public") or "personal" in c.tags for c in self.columns)

    @property
    def project(self) -> Path:
        """The checkout that the contract belongs to: the folder above `schemas/`."""
        return self.path.parent.parent

    @property
    def reference(self) -> str:
        """`schemas/flights.odcs.yaml`: the name by which verdicts cite the contract."""
        return f"{self.path.parent.name}/{self.path.name}"

    def parts_of(self, partition: str) -> list[str]:
        """Split a partition's name into the values of the columns that name it; a whole dataset has none.

        Raises:
            UsageError: the name does not have the contract's form.
        """
        named = self.partitioning
        if named is None:
            if partition != WHOLE:
                raise UsageError(f"{self.dataset} has no partitions: leave --partition away")
            return []
        parts = [partition] if len(named.columns) == 1 else partition.split("-")
        right = len(parts) == len(named.columns)
        if right and named.grain is not None:
            right = named.holds(partition)
        elif right:
            right = all(self.column(name).can_be(part) for name, part in zip(named.columns, parts, strict=True))
        if not right:
            raise UsageError(f"{partition!r} is no partition of {self.dataset}: expected the form {named.expected}")
        return parts

    def column(self, name: str) -> Column:
        """Return the column of that name; KeyError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)
