"""How fast the important queries are, which plans they have, and how much the server takes before it bends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tidegate.evidence import indexes
from tidegate.evidence import queries as important
from tidegate.evidence.probe import CannotRunError, Finding, Ground, run
from tidegate.stack.postgres_binaries import client
from tidegate.stores.postgres import connect, libpq_environment_of
from tidegate.strategy import stated

_RUNS = 200
#: pgbench's own measure of size: a hundred thousand accounts each.
SCALE = 10


def explain(ground: Ground) -> Iterator[Finding]:
    """Run and explain every important query on the warehouse: times against its target, tables that are read whole."""
    with connect(ground.settings, autocommit=True) as connection:
        for query in important.read(ground.settings.project):
            plan = important.explain(connection, query)
            timing = important.measure(connection, query, _RUNS)
            whole = [scan.table for scan in important.whole_reads(plan) if scan.table not in query.scans]
            buffers = {
                "shared_hit": plan["Plan"].get("Shared Hit Blocks", 0),
                "shared_read": plan["Plan"].get("Shared Read Blocks", 0),
            }
            figures = {
                **{name: round(value, 3) for name, value in vars(timing).items()}, "target_ms": query.target_ms, "target_source": query.target_source, "indexes": sorted(important.indexes_used(plan)),
                "unintended_whole_reads": whole, **buffers,
            }  # fmt: skip
            text = json.dumps([plan], indent=1, default=str) + "\n"
            for file in (f"pg/explain_query_{query.name}.json", f"tests/performance/explain_{query.name}.json"):
                yield Finding(file, text, figures, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) queries/{query.path.name}")


def slow_queries(ground: Ground) -> Iterator[Finding]:
    """List the ten statements that took the warehouse most time, with their plans, and count those slower than its strategy allows."""
    with connect(ground.settings, autocommit=True) as connection:
        found = indexes.slowest(connection)
    if found is None:
        raise CannotRunError("nobody counts statements here: the server does not load pg_stat_statements")
    limit = stated.alert(ground.settings.project, "slow queries")
    lines = []
    for s in found:
        lines.append(f"{s['total_ms']:>12} ms {s['calls']:>8} calls {s['mean_ms']:>10} ms  {s['statement']}")
        lines += [f"    {line}" for line in s["plan"]]
    figures = {
        "statements": len(found), "slow": sum(float(s["mean_ms"]) > 1000 * limit.base for s in found),
        "limit_seconds": limit.base, "limit_source": limit.source,
    }  # fmt: skip
    yield Finding(
        "tests/performance/slow_queries.log", "\n".join(lines), figures,
        "SELECT … FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 10",
    )  # fmt: skip


def pgbench(ground: Ground) -> Iterator[Finding]:
    """Let pgbench's bank run with 10, 50 and 100 clients, each at once, on the rehearsal."""
    with ground.rehearsal.scratch("pgbench") as dsn:
        program = client("pgbench", ground.settings.postgres_bin)
        environment = libpq_environment_of(dsn)
        made = run([program, "--initialize", "--quiet", f"--scale={SCALE}"], environment)
        yield Finding("pg/pgbench_init.log", made.said, {"scale": SCALE}, made.command, made.exit_status)
        for clients in (10, 50, 100):
            ran = run(
                [program, f"--client={clients}", "--jobs=2", f"--time={ground.seconds}", "--report-per-command"],
                environment,
            )
            figures = {"clients": clients, **read_pgbench(ran.said)}
            files = [
                f"tests/performance/pgbench_{clients}c.log",
                *(["pg/pgbench_results.log"] if clients == 10 else []),
            ]
            for file in files:
                yield Finding(file, ran.said, figures, ran.command, ran.exit_status)


def read_pgbench(said: str) -> dict[str, float | int]:
    """Return what pgbench has told, by name; what it has not told is not there."""
    asked = {
        "tps": r"^tps = ([\d.]+)",
        "latency_ms": r"^latency average = ([\d.]+) ms",
        "transactions": r"^number of transactions actually processed: (\d+)",
        "failed": r"^number of failed transactions: (\d+)",
        "connect_ms": r"^initial connection time = ([\d.]+) ms",
    }
    found = {name: match[1] for name, pattern in asked.items() if (match := re.search(pattern, said, re.M))}
    return {name: float(value) if "." in value else int(value) for name, value in found.items()}
