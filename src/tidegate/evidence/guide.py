"""docs/DATABASE.md: what people wrote stays, what the database can tell itself stands in blocks that are filled anew.

A block of `structure` is the same wherever it is made; a block of `figures` was measured, and says when and where.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tidegate.backup.drill import GATE as DRILL
from tidegate.contracts.dictionary import table as markdown
from tidegate.errors import TerminalError
from tidegate.evidence import queries as important
from tidegate.evidence.index_strategy import Told, serving
from tidegate.evidence.queries import Query
from tidegate.migrate.steps import Step
from tidegate.observe.catalog import Table
from tidegate.stores.postgres import Connection

Kind = Literal["structure", "figures"]
BLOCK = re.compile(
    r"(?P<head><!-- (?P<kind>structure|figures): (?P<name>\w+) -->\n)(?P<text>.*?)(?P<end><!-- end -->)", re.S
)
#: What a block of figures begins with.
MEASURED = re.compile(r"\*Measured \d{4}-\d\d-\d\d on \d+ cores, \d+ GiB, PostgreSQL [\d.]+.*\*\n\n")
_RUNS = 200
_SETTINGS = (
    "max_connections", "shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem", "wal_level",
    "archive_mode", "archive_timeout", "synchronous_commit", "checkpoint_timeout", "max_wal_size", "jit",
    "password_encryption", "log_min_duration_statement", "idle_in_transaction_session_timeout",
)  # fmt: skip


def fill(text: str, blocks: Mapping[str, str], kind: Kind) -> str:
    """Return the guide with every block of that kind filled anew, from `blocks` by name.

    Raises:
        TerminalError: the guide has a block that nothing fills, or none for what there is.
    """
    there = [found["name"] for found in BLOCK.finditer(text) if found["kind"] == kind]
    if sorted(there) != sorted(blocks):
        raise TerminalError(
            f"docs/DATABASE.md has the blocks {sorted(there)} of {kind}, expected {sorted(blocks)}, each once"
        )

    def filled(found: re.Match[str]) -> str:
        return found[0] if found["kind"] != kind else f"{found['head']}{blocks[found['name']]}\n{found['end']}"

    return BLOCK.sub(filled, text)


def structure(
    tables: Sequence[Table], steps: Sequence[Step], indexes: Sequence[Told], queries: Sequence[Query]
) -> dict[str, str]:
    """Return the blocks that are the same wherever they are made."""
    return {
        "tables": markdown(
            ["table", "what it holds", "key"],
            [[f"`{t}`", t.told, ", ".join(f"`{name}`" for name in t.key)] for t in tables],
        ),
        "migrations": markdown(
            ["revision", "when", "what"],
            [[f"[{s.revision}](../migrations/versions/{s.path.name})", s.phase, s.title] for s in steps],
        ),
        "queries": markdown(
            ["query", "what for", "target", "served by"],
            [
                [
                    f"[{q.name}](../queries/{q.name}.sql)", q.purpose, f"P95 < {q.target_ms:g} ms",
                    "; ".join(f"`{i.table} {i.holds}`" for i in serving(indexes, q)) or "reading a small table whole",
                ]
                for q in queries
            ],
        ),
    }  # fmt: skip


def figures(connection: Connection, queries: Sequence[Query]) -> dict[str, str]:
    """Measure, and return the blocks that hold what was found; some seconds of reading.

    Raises:
        TerminalError: the warehouse is empty, so there is nothing to measure.
    """
    taken = _where_and_when(connection)
    blocks = {
        "sizes": _sizes(connection),
        "timings": _timings(connection, queries),
        "server": _server(connection),
        "recovery": _recovery(connection),
    }
    return {name: f"{taken}\n\n{text}" for name, text in blocks.items()}


def _where_and_when(connection: Connection) -> str:
    (row,) = connection.execute("SELECT split_part(current_setting('server_version'), ' ', 1) AS version").fetchall()
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = names[0].partition(":")[2].strip() if names else "unknown processor"
    return (
        f"*Measured {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores, {round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30)} GiB, "
        f"PostgreSQL {row['version']}; {processor}; load {os.getloadavg()[0]:.1f}.*"
    )


def _sizes(connection: Connection) -> str:
    rows = connection.execute(
        """
        WITH RECURSIVE part AS (
            SELECT c.oid AS root, c.oid AS leaf FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname IN ('raw', 'core', 'marts_current', 'ops', 'quarantine') AND c.relkind IN ('r', 'p')
                AND NOT c.relispartition
            UNION ALL SELECT root, inhrelid FROM part JOIN pg_inherits ON inhparent = leaf
        )
        SELECT replace(root::regclass::text, 'marts_current.', 'marts.') AS name, count(*) - 1 AS partitions,
            sum(greatest(c.reltuples, 0)) FILTER (WHERE c.relkind = 'r')::bigint AS rows,
            sum(pg_table_size(leaf))::bigint AS heap, sum(pg_indexes_size(leaf))::bigint AS indexes
        FROM part JOIN pg_class AS c ON c.oid = leaf GROUP BY root ORDER BY sum(pg_total_relation_size(leaf)) DESC LIMIT 15
        """
    ).fetchall()
    return markdown(
        ["largest tables", "partitions", "rows, about", "MiB", "MiB of indexes"],
        [
            [f"`{r['name']}`", str(r["partitions"] or ""), f"{r['rows']:,}", f"{r['heap'] / 2**20:.1f}", f"{r['indexes'] / 2**20:.1f}"]
            for r in rows
        ],
    )  # fmt: skip


def _timings(connection: Connection, queries: Sequence[Query]) -> str:
    rows = []
    for query in queries:
        timing = important.measure(connection, query, _RUNS)
        rows.append(
            [
                f"`{query.name}`",
                f"{query.target_ms:g}",
                f"{timing.p50_ms:.1f}",
                f"{timing.p95_ms:.1f}",
                f"{timing.p99_ms:.1f}",
            ]
        )
    return markdown(["query", "target P95, ms", "P50", "P95", "P99"], rows)


def _server(connection: Connection) -> str:
    rows = connection.execute(
        "SELECT name, current_setting(name) AS value, source = 'default' AS is_default FROM pg_settings "
        "WHERE name = ANY(%s) ORDER BY name",
        [list(_SETTINGS)],
    ).fetchall()
    return markdown(
        ["setting", "value", ""], [[f"`{r['name']}`", r["value"], "default" if r["is_default"] else ""] for r in rows]
    )


def _recovery(connection: Connection) -> str:
    rows = connection.execute(
        "SELECT DISTINCT ON (rule) rule, value, target, verdict, decided_at FROM ops.verdict WHERE gate = %s "
        "ORDER BY rule, verdict_id DESC",
        [DRILL],
    ).fetchall()
    (backups,) = connection.execute(
        "SELECT count(*) AS n, pg_size_pretty(avg(bytes)) AS size, "
        "round(avg(extract(epoch FROM ended_at - started_at))::numeric, 1) AS seconds FROM ops.backup WHERE removed_at IS NULL"
    ).fetchall()
    told = [[r["rule"], r["value"], r["target"], r["verdict"], f"{r['decided_at']:%Y-%m-%d}"] for r in rows]
    kept = f"{backups['n']} kept, {backups['size']} and {backups['seconds']} s each" if backups["n"] else "none kept"
    told.append(["backups", kept, "one a night", "", ""])
    if not rows:
        told.append(["restore drill", "none has run in this warehouse yet", "RTO and RPO of the strategy", "", ""])
    return markdown(["what", "last measured", "target", "verdict", "when"], told)
