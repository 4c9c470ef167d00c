"""The platform's important queries (P0): read from `queries/`, timed as their users run them, their plans looked at."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tidegate.errors import TerminalError, first_line
from tidegate.stores.postgres import Connection
from tidegate.strategy import stated

#: Tables with fewer rows are read whole faster than through an index.
FEW_ROWS = 1000
_TARGET = re.compile(r"P95 (?:< (?P<ms>\d+) ms|of (?P<document>\S+\.md))\Z")


@dataclass(frozen=True)
class Query:
    """One query. `sample` is a query whose rows are its parameters; `scans` are the tables that it may read whole.

    `target_source` is the file and line in which the target's number stands: a strategy's, or the query's own.
    """

    name: str
    path: Path
    purpose: str
    target_ms: float
    target_source: str
    sample: str
    scans: frozenset[str]
    statement: str


@dataclass(frozen=True)
class Timing:
    """Milliseconds from sending a query to holding its rows, over `runs` draws of its parameters."""

    runs: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Scan:
    """A table that a plan reads whole, and how many rows it read."""

    table: str
    rows: int


def read(project: Path) -> list[Query]:
    """Return every query of `queries/`, by name.

    Raises:
        TerminalError: a file does not say its purpose, target and sample.
        StrategyError: the strategy that a file names states no P95 of queries.
    """
    return [_read(project, path) for path in sorted((project / "queries").glob("*.sql"))]


def _read(project: Path, path: Path) -> Query:
    lines = path.read_text(encoding="utf-8").splitlines()
    head = list(itertools.takewhile(lambda line: line.startswith("--"), lines))
    facts = {
        key: (value.strip(), number)
        for number, line in enumerate(head, 1)
        for key, colon, value in [line.removeprefix("--").strip().partition(":")]
        if colon and key in ("target", "sample", "scans")
    }
    purpose = head[0].removeprefix("--").strip() if head and 1 not in {line for _, line in facts.values()} else ""
    target = _TARGET.match(facts.get("target", ("", 0))[0])
    if not purpose or not target or "sample" not in facts:
        raise TerminalError(
            f"{path}: expected its purpose in the first line, then `-- target: P95 of {stated.DATABASE}` and `-- sample: SELECT …` "
            "with a column for each parameter"
        )
    if target["document"]:
        found = stated.target(project, "query P95", target["document"])
        target_ms, target_source = found.base * 1000, found.source
    else:
        target_ms, target_source = float(target["ms"]), f"{path.relative_to(project)}:{facts['target'][1]}"
    return Query(
        name=path.stem,
        path=path,
        purpose=purpose,
        target_ms=target_ms,
        target_source=target_source,
        sample=facts["sample"][0],
        scans=frozenset(facts.get("scans", ("", 0))[0].replace(",", " ").split()),
        statement="\n".join(lines[len(head) :]).strip(),
    )


def draw(connection: Connection, query: Query, runs: int) -> list[dict[str, Any]]:
    """Return `runs` sets of parameters, from the rows of the query's own sample; the same ones for the same data.

    Raises:
        TerminalError: the sample finds nothing.
    """
    rows = _ask(connection, query, query.sample)
    if not rows:
        raise TerminalError(f"{query.path}: its sample finds no row, so it cannot be measured: run the year first")
    return random.Random(query.name).choices(sorted(rows, key=repr), k=runs)  # noqa: S311 nothing secret


def measure(connection: Connection, query: Query, runs: int) -> Timing:
    """Run the query with drawn parameters, after a first round that nobody counts."""
    drawn = draw(connection, query, runs)
    for parameters in drawn[:5]:
        _ask(connection, query, query.statement, parameters)
    seconds = []
    for parameters in drawn:
        began = time.perf_counter()
        connection.execute(query.statement, parameters).fetchall()
        seconds.append(time.perf_counter() - began)
    ordered = sorted(1000 * s for s in seconds)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Timing(runs, at(0.5), at(0.95), at(0.99))


def explain(connection: Connection, query: Query) -> dict[str, Any]:
    """Return PostgreSQL's plan as it ran, with its buffers, for one draw of parameters."""
    (parameters,) = draw(connection, query, 1)
    (row,) = _ask(connection, query, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query.statement}", parameters)
    plan: dict[str, Any] = row["QUERY PLAN"][0]
    return plan


def whole_reads(plan: dict[str, Any]) -> list[Scan]:
    """Return the tables that a plan reads whole though they are not small, whatever the filter leaves of them."""
    found = []
    for node in _nodes(plan["Plan"]):
        if node["Node Type"] != "Seq Scan":
            continue
        rows = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        if rows >= FEW_ROWS:
            found.append(Scan(node["Relation Name"], int(rows)))
    return found


def indexes_used(plan: dict[str, Any]) -> set[str]:
    """Return the names of the indexes that a plan goes through; those of partitions are named as such."""
    return {node["Index Name"] for node in _nodes(plan["Plan"]) if "Index Name" in node}


def _ask(
    connection: Connection, query: Query, statement: str, parameters: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    try:
        return connection.execute(statement, parameters).fetchall()
    except psycopg.errors.UndefinedTable as error:
        raise TerminalError(
            f"{query.path}: {first_line(error)}, so it cannot be measured: run the year first"
        ) from error


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", []):
        yield from _nodes(below)
