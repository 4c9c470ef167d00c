"""The rows of the report's tables, read from the ledger; the headline figures stand in `summary`."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tidegate.contracts import Contract
from tidegate.gates.verdict import Decision, Verdict, worst
from tidegate.observe.summary import CURRENT, STEPS, VERDICTS
from tidegate.stores.postgres import Connection

Row = dict[str, Any]

#: A page is for reading: what is longer is cut, and the page says so.
BATCHES_SHOWN, CASES_SHOWN, SAMPLES_SHOWN, VALUE_SHOWN = 200, 36, 3, 120

#: Classifications whose values anybody who sees the report may see; any other word withholds them.
OPEN_CLASSIFICATIONS = (None, "public", "internal")


@dataclass(frozen=True)
class Case:
    """One rule's verdict on one batch or build."""

    subject: str
    partition: str | None
    decided: Verdict


@dataclass(frozen=True)
class RuleTold:
    """What one rule of one dataset's gate decided, over all batches that count now."""

    dataset: str
    gate: str
    rule: str
    cases: Sequence[Case]

    @property
    def verdict(self) -> Decision:
        """The gravest of its verdicts."""
        return worst(case.decided for case in self.cases)

    @property
    def counted(self) -> Counter[Decision]:
        """How often it said PASS, WARN and FAIL."""
        return Counter(case.decided.verdict for case in self.cases)

    @property
    def value(self) -> str:
        """The measured value, or the span of values, where the verdict is the gravest."""
        return span(case.decided.value for case in self.cases if case.decided.verdict == self.verdict)

    @property
    def target(self) -> str:
        """The target, or the span of targets."""
        return span(case.decided.target for case in self.cases)

    @property
    def target_source(self) -> str:
        """Where the target of the newest verdict is written."""
        return self.cases[0].decided.target_source


@dataclass(frozen=True)
class StepTold:
    """How long one step took over all batches that count now, in seconds."""

    step: str
    seconds: Sequence[float]
    row_count: int
    slowest: str

    @property
    def total(self) -> float:
        """Seconds of all runs together."""
        return sum(self.seconds)

    @property
    def median(self) -> float:
        """Seconds of the run in the middle."""
        return median(self.seconds)


@dataclass(frozen=True)
class RefusedTold:
    """What one rule refused in one dataset, with some of its rows."""

    dataset: str
    column: str
    rule: str
    expected: str
    open: int
    replayed: int
    dismissed: int
    withheld: bool
    samples: Sequence[Row]


def span(values: Iterable[str]) -> str:
    """Return the one value there is, or the smallest and the largest by the number that they begin with."""
    found = sorted(set(values), key=lambda value: (_leading(value), value))
    return found[0] if len(found) == 1 else f"{found[0]} … {found[-1]}"


def _leading(value: str) -> float:
    number = re.match(r"-?\d+(\.\d+)?", value.replace(",", ""))
    return float(number.group()) if number else 0.0


def datasets(connection: Connection) -> list[Row]:
    """Return one row per dataset: batches, rows and the newest publish, deliveries first."""
    return connection.execute(
        f"""
        SELECT dataset, published_schema,
            count(*) AS batches,
            count(*) FILTER (WHERE state = 'held') AS held,
            sum(delivered_count)::bigint AS delivered,
            coalesce(sum(accepted_count) FILTER (WHERE state = 'published'), 0)::bigint AS published,
            sum(refused_count)::bigint AS refused,
            string_agg(DISTINCT contract_version, ', ') AS contract_version,
            max(published_at) AS published_at
        FROM ops.batch WHERE batch_id IN ({CURRENT})
        GROUP BY dataset, published_schema ORDER BY published_schema = 'core', dataset
        """
    ).fetchall()


def batches(connection: Connection) -> list[Row]:
    """Return the newest batches, those that are history too."""
    return connection.execute(
        """
        SELECT batch_id, dataset, partition, state, source_name AS source, contract_version, delivered_count, refused_count,
               created_at, published_at
        FROM ops.batch ORDER BY created_at DESC, batch_id LIMIT %s
        """,
        [BATCHES_SHOWN],
    ).fetchall()


def rules(connection: Connection) -> list[RuleTold]:
    """Return what each rule decided, the gravest first, then by dataset and gate."""
    grouped: dict[tuple[str, str, str], list[Case]] = defaultdict(list)
    for row in connection.execute(f"SELECT * FROM ({VERDICTS}) AS v ORDER BY partition DESC NULLS LAST, subject"):
        subject, dataset, partition = row.pop("subject"), row.pop("dataset"), row.pop("partition")
        grouped[dataset, row["gate"], row["rule"]].append(Case(subject, partition, Verdict(**row)))
    told = [RuleTold(*key, cases) for key, cases in grouped.items()]
    order = ("FAIL", "WARN", "PASS")
    return sorted(told, key=lambda rule: (order.index(rule.verdict), rule.dataset, rule.gate, rule.rule))


def evidence(connection: Connection) -> list[Row]:
    """Return one row per evidence file of what counts now: what it judged, its hash and its path."""
    return connection.execute(
        f"""
        SELECT DISTINCT v.dataset, v.partition, v.subject, v.gate, e.evidence_sha256, e.path, e.taken_at
        FROM ({VERDICTS}) AS v JOIN ops.evidence AS e USING (evidence_sha256)
        ORDER BY v.dataset, v.partition DESC, v.subject, v.gate
        """
    ).fetchall()


def steps(connection: Connection) -> list[StepTold]:
    """Return the steps in the order in which they first ran."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    query = f"""
        SELECT s.*, coalesce(b.dataset || ' ' || b.partition, 'marts') AS about
        FROM ({STEPS}) AS s LEFT JOIN ops.batch AS b ON batch_id = subject ORDER BY started_at
    """
    for row in connection.execute(query):
        grouped[row["step"]].append(row)
    return [
        StepTold(
            step,
            [row["seconds"] for row in of],
            sum(row["row_count"] or 0 for row in of),
            max(of, key=lambda row: row["seconds"])["about"],
        )
        for step, of in grouped.items()
    ]


def quarantine(connection: Connection, contracts: Sequence[Contract]) -> list[RefusedTold]:
    """Return what was refused, by dataset and rule, the most frequent first; personal values are withheld."""
    known = {contract.dataset: contract for contract in contracts}
    samples: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in connection.execute(
        """
        SELECT dataset, column_name, rule, source_file, line, left(value, %s) AS value,
               length(value) AS length
        FROM (
            SELECT *, row_number() OVER same_rule AS place
            FROM quarantine.refused_row
            WINDOW same_rule AS (PARTITION BY dataset, column_name, rule ORDER BY refused_row_id DESC)
        ) AS r WHERE place <= %s ORDER BY refused_row_id DESC
        """,
        [VALUE_SHOWN, SAMPLES_SHOWN],
    ):
        samples[row["dataset"], row["column_name"], row["rule"]].append(row)
    rows = connection.execute(
        """
        SELECT dataset, column_name, rule, max(expected) AS expected,
            count(*) FILTER (WHERE state = 'open') AS open,
            count(*) FILTER (WHERE state = 'replayed') AS replayed,
            count(*) FILTER (WHERE state = 'dismissed') AS dismissed
        FROM quarantine.refused_row GROUP BY dataset, column_name, rule ORDER BY count(*) DESC, 1, 2, 3
        """
    ).fetchall()
    return [
        RefusedTold(
            dataset=row["dataset"], column=row["column_name"], rule=row["rule"], expected=row["expected"],
            open=row["open"], replayed=row["replayed"], dismissed=row["dismissed"],
            withheld=_is_withheld(known.get(row["dataset"]), row["column_name"]),
            samples=samples[row["dataset"], row["column_name"], row["rule"]],
        )
        for row in rows
    ]  # fmt: skip


def _is_withheld(contract: Contract | None, columns: str) -> bool:
    """Say whether a value may not be shown: its column, or any column it may hold, is not open."""
    if contract is None:
        return True
    classified = {column.name: column.classification for column in contract.columns}
    named = [name.strip() for name in columns.split(",")]
    # A value of no single column is a whole record or a piece of one: it may hold any column.
    looked_at = named if all(name in classified for name in named) else list(classified)
    return any(classified[name] not in OPEN_CLASSIFICATIONS for name in looked_at)
