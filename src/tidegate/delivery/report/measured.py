"""The sections that probes have measured: queries, migrations, plans, load, replication, cache, CI, pipelines; each from its figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tidegate.delivery.ledger import Exhibit
from tidegate.delivery.report.facts import Facts, cells, got, many, mebibytes, number, parts, share, shown
from tidegate.delivery.report.model import Absent, Cell, Chart, Figure, Row, Section, Table
from tidegate.gates.verdict import Decision
from tidegate.strategy.gate import Gate

_QUERIES = "pg/explain_query_"
_LOADS = "tests/performance/pgbench_"
_ORDER = ("up", "down", "reup")
#: What pgbench says of a run, in the order of the table.
_RUN = ("tps", "latency_ms", "transactions", "failed")


def queries(facts: Facts) -> Section:
    """Query Performance Dashboard: how long critical queries take, what is read whole, how often an index is in memory."""
    found = facts.taken("explain", "p95_ms", under=_QUERIES)
    figures, absent = parts(
        [
            facts.figure("P50, slowest query", "explain", "p50_ms", "ms"),
            facts.figure("P95, slowest query", "explain", "p95_ms", "ms"),
            facts.figure("P99, slowest query", "explain", "p99_ms", "ms"),
            facts.figure("Sequential scans nobody meant", "explain", "unintended_whole_reads", "tables"),
            facts.figure("Index hit ratio", "index_usage", "index_hit_ratio", "%", least=True, show=share),
        ]
    )
    rows: list[Row] = [
        {"name": _query(one), "value": one.figures[name], "series": label}
        for one in found
        for name, label in (("p50_ms", "P50"), ("p95_ms", "P95"), ("p99_ms", "P99"))
    ]
    charts = [
        Chart(
            "columns", "Milliseconds by query", "P50, P95 and P99 of every important query", "ms", tuple(rows),
            facts.link(found[0]), ("P50", "P95", "P99"),
        )
    ] if found else []  # fmt: skip
    table = Table(
        "Important queries",
        ("Query", "P50 ms", "P95 ms", "P99 ms", "Target ms", "Kept"),
        tuple(
            cells(
                [
                    _query(one), *(float(one.figures[name]) for name in ("p50_ms", "p95_ms", "p99_ms")),
                    float(one.figures["target_ms"]), "yes" if _kept(one) else "no",
                ],
                facts.link(one), "PASS" if _kept(one) else "FAIL",
            )
            for one in found
        ),
    )  # fmt: skip
    slowest = max(found, key=lambda one: number(one.figures["p95_ms"]), default=None)
    late = [one for one in found if not _kept(one)]
    if slowest is None:
        sentence = "No query has been measured for this delivery"
    elif late:
        sentence = f"{len(late)} of {len(found)} important queries miss their targets: {', '.join(map(_query, late))}"
    else:
        p95 = shown(number(slowest.figures["p95_ms"]))
        sentence = (
            f"All {len(found)} important queries keep their targets; the slowest P95 is {p95} ms, of {_query(slowest)}"
        )
    trend = _trend(facts, "explain", "p95_ms", "P95 of the slowest query, by delivery", "ms")
    return Section(
        1, "Query Performance Dashboard", sentence, figures, (*charts, *trend[0]), _there(table), (*absent, *trend[1])
    )


def migrations(facts: Facts) -> Section:
    """Migration Status: applied, pending, failed; what came of taking each back; the schema's version."""
    steps = facts.taken("migration_each")
    failed = [one for one in steps if one.figures.get("exit_status")]
    figures, absent = parts(
        [
            facts.figure("Applied", "migration_last", "applied", "migrations"),
            facts.figure("Pending", "migration_last", "pending", "migrations"),
            Figure("Failed", shown(len(failed)), "steps", facts.link((failed or steps)[0]), "", "FAIL" if failed else "PASS")
            if steps else Absent("Failed", facts.why("migration_each")),
            facts.figure("Schema lines that differ after a way back", "migration_each", "schema_lines_that_differ", "lines"),
            facts.figure("Tables that differ after the whole way", "migration_full_chain", "tables_that_differ", "tables"),
            facts.figure("Rows compared", "migration_full_chain", "rows", "rows"),
            Figure("Schema version", facts.revision, "", facts.source),
        ]
    )  # fmt: skip
    by_revision: dict[str, dict[str, Exhibit]] = {}
    for one in steps:
        _, revision, way = Path(one.path).stem.rsplit("_", 2)
        by_revision.setdefault(revision, {})[way] = one
    rows = [
        (
            Cell(revision, facts.link(next(iter(ways.values())))),
            *(_seconds(facts, ways.get(way)) for way in _ORDER),
            _differs(ways.values()),
        )
        for revision, ways in sorted(by_revision.items())
    ]
    table = Table(
        "Every migration up, down and up again, in seconds",
        ("Migration", "Up", "Down", "Up again", "Lines that differ"),
        tuple(rows),
    )
    charts = [
        Chart(
            "columns", "Seconds by migration", "How long each migration took, on a clone of the warehouse", "s",
            tuple(
                {"name": revision, "value": _took(step), "series": {"up": "up", "down": "down", "reup": "up again"}[way]}
                for revision, ways in sorted(by_revision.items()) for way in _ORDER if (step := ways.get(way)) and "seconds" in step.figures
            ),
            facts.link(steps[0]), ("up", "down", "up again"),
        )
    ] if steps else []  # fmt: skip
    if not by_revision:
        sentence = f"The warehouse stands at migration {facts.revision}; no way back has been tried for this delivery"
    elif failed:
        sentence = f"{len(failed)} of {len(steps)} steps of migrations failed: {Path(failed[0].path).stem}"
    else:
        sentence = f"The warehouse stands at migration {facts.revision}; {len(by_revision)} migrations went up, down and up again"
    return Section(3, "Migration Status", sentence, figures, tuple(charts), _there(table), absent)


def plans(facts: Facts) -> Section:
    """EXPLAIN ANALYZE Summary: what is slow, which indexes are missing, how much came from memory."""
    found = facts.taken("explain", "p95_ms", under=_QUERIES)
    hits, reads = (sum(number(one.figures.get(name, 0)) for one in found) for name in ("shared_hit", "shared_read"))
    figures, absent = parts(
        [
            facts.figure("Statements slower than the limit", "slow_queries", "slow", "statements"),
            facts.figure("Foreign keys without an index", "index_usage", "foreign_keys_without_index", "keys"),
            facts.figure("Indexes without a reason", "index_usage", "without_reason", "indexes"),
            facts.figure("Indexes never used", "index_usage", "unused", "indexes"),
            Figure("Buffer cache hit ratio", share(hits / (hits + reads)), "%", facts.link(found[0]), note=f"of {shown(hits + reads)} blocks")
            if hits + reads else Absent("Buffer cache hit ratio", facts.why("explain", "shared_hit")),
        ]
    )  # fmt: skip
    ranked = sorted(found, key=lambda one: -number(one.figures["p95_ms"]))
    table = Table(
        "Plans, the slowest first",
        ("Query", "P95 ms", "Blocks in memory", "Blocks read", "Indexes used", "Tables read whole"),
        tuple(
            cells(
                [
                    _query(one), float(one.figures["p95_ms"]), *(got(one, name) for name in ("shared_hit", "shared_read")),
                    ", ".join(one.figures.get("indexes", ())) or "none", ", ".join(one.figures.get("unintended_whole_reads", ())) or "none",
                ],
                facts.link(one), "FAIL" if one.figures.get("unintended_whole_reads") else "PASS",
            )
            for one in ranked
        ),
    )  # fmt: skip
    charts = [
        Chart(
            "bars", "P95 against target", "P95 of each query in milliseconds; the mark is its target", "ms",
            tuple(
                {"name": _query(one), "value": number(one.figures["p95_ms"]), "target": number(one.figures["target_ms"])} for one in ranked
            ),
            facts.link(ranked[0]),
        )
    ] if ranked else []  # fmt: skip
    whole = [one for one in found if one.figures.get("unintended_whole_reads")]
    if not found:
        sentence = "No plan has been looked at for this delivery"
    elif whole:
        sentence = (
            f"{len(whole)} of {len(found)} plans read a table whole that nobody meant: {', '.join(map(_query, whole))}"
        )
    else:
        sentence = f"None of {len(found)} plans reads a large table whole"
        sentence += f"; {share(hits / (hits + reads))} % of blocks were in memory" if hits + reads else ""
    return Section(5, "EXPLAIN ANALYZE Summary", sentence, figures, tuple(charts), _there(table), absent)


def load(facts: Facts) -> Section:
    """Load Test Trends: transactions a second, how full the pool was, how many failed."""
    tried = sorted(facts.taken("pgbench", "clients", under=_LOADS), key=lambda one: number(one.figures["clients"]))
    runs = [one for one in tried if one.figures.get("tps") is not None]
    figures, absent = parts(
        [
            facts.figure("TPS with 10 clients", "pgbench", "tps", "/s", under=f"{_LOADS}10c"),
            facts.figure("TPS with 50 clients", "pgbench", "tps", "/s", under=f"{_LOADS}50c"),
            facts.figure("TPS with 100 clients", "pgbench", "tps", "/s", under=f"{_LOADS}100c"),
            facts.figure("Pool in use, normal load", "pool_stress", "normal_utilisation", "%", show=share),
            facts.figure("Pool in use, saturated", "pool_stress", "saturated_utilisation", "%", show=share),
            facts.figure("Failed while saturated", "pool_stress", "saturated_failed", "transactions"),
            _error_rate(facts, runs),
        ]
    )
    charts = [
        Chart(
            "columns", "Transactions a second by clients", "pgbench on a clone of the warehouse, by number of clients", "/s",
            tuple({"name": f"{shown(number(one.figures['clients']))} clients", "value": number(one.figures["tps"])} for one in runs),
            facts.link(runs[0]),
        )
    ] if runs else []  # fmt: skip
    rows = [
        cells([f"pgbench, {_clients(one, 'clients')}", *(got(one, name) for name in _RUN)], facts.link(one)) for one in tried
    ] + [
        cells([f"pool, {kind}, {_clients(one, f'{kind}_clients')}", *(got(one, f"{kind}_{name}") for name in _RUN)], facts.link(one))
        for one in facts.taken("pool_stress")
        for kind in ("normal", "saturated")
    ]  # fmt: skip
    table = Table("Load", ("Load", "TPS", "Latency ms", "Transactions", "Failed"), tuple(rows))
    trend = _trend(facts, "pgbench", "tps", "TPS with 10 clients, by delivery", "/s", under=f"{_LOADS}10c")
    if runs:
        best = max(runs, key=lambda one: number(one.figures["tps"]))
        sentence = f"The server takes {shown(number(best.figures['tps']))} transactions a second from {_clients(best, 'clients')}"
        if away := [one for one in tried if one not in runs]:
            sentence += f"; it turned {_clients(away[0], 'clients')} away"
    elif stressed := facts.worst("pool_stress", "saturated_failed"):
        lost, one = stressed
        clients = _clients(one, "saturated_clients")
        sentence = f"{_capital(clients)} at once saturate the pool, and {shown(lost) if lost else 'none'} of their transactions failed"
    else:
        sentence = "No load has been put on a clone of the warehouse for this delivery"
    return Section(6, "Load Test Trends", sentence, figures, (*charts, *trend[0]), _there(table), (*absent, *trend[1]))


def replication(facts: Facts) -> Section:
    """Replication Health: how far the replica is behind, what a failover costs, whether the pool lets go in order."""
    figures, absent = parts(
        [
            facts.figure("Replication lag, worst", "replication", "lag_seconds", "s"),
            facts.figure("Replication lag, P95", "replication", "lag_p95_seconds", "s"),
            facts.figure("Failover: outage", "pg_failover", "outage_seconds", "s"),
            facts.figure("Failover: rows lost", "pg_failover", "lost", "rows"),
            facts.figure("Failover: rows acknowledged", "pg_failover", "acknowledged", "rows"),
            facts.figure("Pool: longest wait while drained", "pool_drain", "longest_wait_seconds", "s"),
            facts.figure("Pool: queries failed while drained", "pool_drain", "failed", "queries"),
            facts.figure("Pool: clients waiting, normal load", "pool_stress", "normal_waiting", "clients"),
        ]
    )
    stages = [
        (name, found)
        for name, probe, figure in (
            ("Replica behind, worst", "replication", "lag_seconds"), ("Replica catches up", "replication", "catch_up_seconds"),
            ("Pool drained and back", "pool_drain", "held_seconds"), ("PostgreSQL: writes stand still", "pg_failover", "outage_seconds"),
            ("PostgreSQL: old primary follows", "pg_failover", "rejoin_seconds"), ("Redis: writes stand still", "redis_failover", "seconds"),
        )
        if (found := facts.worst(probe, figure))
    ]  # fmt: skip
    charts = [
        Chart(
            "bars", "Seconds until all is well again", "Each was measured by breaking it, on a clone of the warehouse", "s",
            tuple({"name": name, "value": value} for name, (value, _) in stages), facts.link(stages[0][1][1]),
        )
    ] if stages else []  # fmt: skip
    table = Table(
        "How long things take to recover",
        ("What", "Seconds", "Probe"),
        tuple(cells([name, value, one.probe], facts.link(one)) for name, (value, one) in stages),
    )
    trend = _trend(facts, "replication", "lag_seconds", "Worst lag of the replica, by delivery", "s")
    lag, failover = facts.worst("replication", "lag_seconds"), facts.worst("pg_failover", "outage_seconds")
    told = []
    if lag:
        told.append(f"the replica was {shown(lag[0])} s behind at most")
    if failover:
        told.append(f"after kill -9 writes stood still for {shown(failover[0])} s")
    if lost := facts.worst("pg_failover", "lost"):
        told.append(f"{shown(lost[0]) if lost[0] else 'no'} acknowledged rows were lost")
    sentence = _capital("; ".join(told)) or "Neither lag nor failover has been measured for this delivery"
    return Section(
        7, "Replication Health", sentence, figures, (*charts, *trend[0]), _there(table), (*absent, *trend[1])
    )


def cache(facts: Facts) -> Section:
    """Cache Performance: how often Redis had what was asked for, how full it is, what it threw away."""
    figures, absent = parts(
        [
            facts.figure("Hit rate", "redis", "hit_rate", "%", least=True, show=share),
            facts.figure("Memory used", "redis", "used_memory", "MiB", show=mebibytes, under="redis/memory_info"),
            facts.figure("Memory allowed", "redis", "maxmemory", "MiB", show=mebibytes, under="redis/memory_info"),
            facts.figure("Keys evicted", "redis", "evicted_keys", "keys", under="redis/memory_info"),
            facts.figure("Keys expired", "redis", "expired_keys", "keys", under="redis/memory_info"),
            facts.figure("Keys", "redis", "keys", "keys"),
        ]
    )
    benches = [
        (name, told, one)
        for one in facts.taken("redis_benchmark")
        for name, told in one.figures.items()
        if isinstance(told, dict) and "ops_per_second" in told
    ]
    charts = [
        Chart(
            "bars", "Operations a second", "redis-benchmark on a server of its own, by command", "/s",
            tuple({"name": name, "value": told["ops_per_second"]} for name, told, _ in benches), facts.link(benches[0][2]),
        )
    ] if benches else []  # fmt: skip
    table = Table(
        "Commands",
        ("Command", "Operations/s", "P95 ms"),
        tuple(
            cells([name, float(told["ops_per_second"]), float(told["p95_ms"])], facts.link(one))
            for name, told, one in benches
        ),
    )
    if not benches:
        absent = (*absent, Absent("Operations a second", facts.why("redis_benchmark", "ops_per_second")))
    hits, used = (
        facts.worst("redis", "hit_rate", least=True),
        facts.worst("redis", "used_memory", under="redis/memory_info"),
    )
    told = [f"Redis had {share(hits[0])} % of what it was asked for"] if hits else []
    if used:
        told.append(f"it uses {mebibytes(used[0])} MiB")
    if evicted := facts.worst("redis", "evicted_keys", under="redis/memory_info"):
        told.append(f"{shown(evicted[0]) if evicted[0] else 'no'} keys were evicted")
    sentence = _capital("; ".join(told)) or "Nobody has asked the cache for its figures in this delivery"
    return Section(8, "Cache Performance", sentence, figures, tuple(charts), _there(table), absent)


def ci(facts: Facts) -> Section:
    """CI/CD Status: what the workflows and checks said on this machine; GitHub's own runs are not seen from here."""
    figures, absent = parts(
        [
            facts.figure("Findings of actionlint", "actionlint", "findings", "findings"),
            facts.figure("Workflows looked at", "actionlint", "workflows", "workflows"),
            facts.figure("Jobs that failed under act", "act", "failed", "jobs", under="ci/act_push"),
            facts.figure("Jobs run under act", "act", "jobs", "jobs", under="ci/act_push"),
            facts.figure("Findings of ruff", "lint", "findings", "findings"),
            facts.figure("Errors of mypy", "lint", "errors", "errors"),
        ]
    )
    checks = [one for one in facts.exhibits if one.sha256 and one.path.startswith(("ci/", "tests/static/"))]
    table = Table(
        "Checks on this machine",
        ("Check", "Command", "Seconds", "Ended"),
        tuple(
            cells(
                [
                    Path(one.path).stem, Cell(str(one.figures.get("command", ""))), got(one, "seconds"),
                    "well" if not one.figures.get("exit_status") else f"with status {one.figures['exit_status']}",
                ],
                facts.link(one), "FAIL" if one.figures.get("exit_status") else "PASS",
            )
            for one in checks
        ),
    )  # fmt: skip
    judged = [one for one in facts.verdicts if one.gate == Gate.CI.value]
    said = Table(
        f"What the {Gate.CI.value} says",
        ("Rule", "Found", "Expected", "Verdict"),
        tuple(cells([one.rule, one.value, one.target, one.verdict], facts.source, one.verdict) for one in judged),
    )
    where = "nothing here asks GitHub" if facts.remote else "the checkout has no remote repository"
    here = "; what act ran of the same workflows on this machine is told here" if facts.taken("act") else ""
    absent = (*absent, Absent("Runs of GitHub Actions", where + here))
    bad = [one for one in checks if one.figures.get("exit_status")]
    if not checks:
        sentence = "No check of CI has run on this machine for this delivery"
    elif refused := [one for one in judged if one.verdict == "FAIL"]:
        sentence = f"The {Gate.CI.value} fails on {len(refused)} of {many(len(judged), 'rules')}; "
        sentence += f"{len(checks) - len(bad)} of {many(len(checks), 'checks')} on this machine ended well"
    elif bad:
        sentence = f"{len(bad)} of {len(checks)} checks failed on this machine: {', '.join(Path(one.path).stem for one in bad)}"
    else:
        sentence = f"All {len(checks)} checks that ran on this machine ended well"
    return Section(9, "CI/CD Status", sentence, figures, (), _there(table, said), absent)


def pipelines(facts: Facts) -> Section:
    """Pipeline Health: how long deliveries take to their readers, what was left behind, how fresh they are, what judges them."""
    figures, absent = parts(
        [
            facts.figure("Landing to readers, longest", "pipeline_sla", "longest_seconds", "s"),
            facts.figure("Landing to readers, P95", "pipeline_sla", "p95_seconds", "s"),
            facts.figure("Throughput of steps", "pipeline_sla", "rows_per_second", "rows/s", least=True),
            facts.figure("Deliveries left behind", "success_rate", "left_behind", "deliveries"),
            facts.figure("Success rate that this proves", "success_rate", "proven_share", "%", least=True, show=share),
            facts.figure("Stale datasets", "freshness", "stale", "datasets"),
            facts.figure("Rules of suites not passed", "expectations", "not_passed", "rules"),
            facts.figure("dbt tests failed", "dbt_results", "failed", "tests"),
            facts.figure("DAG files that cannot be read", "dag_validation", "errors", "files"),
        ]
    )
    ways = [
        (name, way, one)
        for one in facts.taken("pipeline_sla", "by_dataset")
        for name, way in one.figures["by_dataset"].items()
    ]
    ways.sort(key=lambda way: -number(way[1]["longest_seconds"]))
    charts = [
        Chart(
            "bars", "Seconds from landing to readers", "The longest way of a batch, by dataset", "s",
            tuple({"name": name, "value": number(way["longest_seconds"])} for name, way, _ in ways), facts.link(ways[0][2]),
        )
    ] if ways else []  # fmt: skip
    table = Table(
        "Batches by dataset, from landing to readers",
        ("Dataset", "Batches", "Rows", "Median s", "Longest s"),
        tuple(
            cells([name, way["batches"], way["rows"], float(way["median_seconds"]), float(way["longest_seconds"])], facts.link(one))
            for name, way, one in ways
        ),
    )  # fmt: skip
    trend = _trend(facts, "pipeline_sla", "longest_seconds", "Longest way to readers, by delivery", "s")
    told = []
    if longest := facts.worst("pipeline_sla", "longest_seconds"):
        batches = shown(number(longest[1].figures["batches"]))
        told.append(f"none of {batches} batches took longer than {shown(longest[0])} s from landing to readers")
    if left := facts.worst("success_rate", "left_behind"):
        told.append(f"left behind: {shown(left[0])}" if left[0] else "nothing was left behind")
    if stale := facts.worst("freshness", "stale"):
        told.append(f"stale: {many(int(stale[0]), 'datasets')}" if stale[0] else "no dataset is stale")
    sentence = _capital("; ".join(told)) or "No pipeline has been measured for this delivery"
    return Section(12, "Pipeline Health", sentence, figures, (*charts, *trend[0]), _there(table), (*absent, *trend[1]))


def _trend(
    facts: Facts, probe: str, name: str, title: str, unit: str, *, under: str = ""
) -> tuple[tuple[Chart, ...], tuple[Absent, ...]]:
    found = facts.trend(probe, name, under=under)
    if len(found) < 2:
        why = "a trend needs two deliveries that measured it" if found else facts.why(probe, name)
        return (), (Absent(title, why),)
    rows: tuple[Row, ...] = tuple({"name": one.started_at.isoformat(), "value": value} for one, value in found)
    sentence = (
        f"The last {len(found)} deliveries of the team, from {shown(found[0][1])} to {shown(found[-1][1])} {unit}"
    )
    return (Chart("line", title, sentence, unit, rows, facts.source),), ()


def _error_rate(facts: Facts, runs: Sequence[Exhibit]) -> Figure | Absent:
    done = sum(number(one.figures.get("transactions", 0)) for one in runs)
    failed = sum(number(one.figures.get("failed", 0)) for one in runs)
    if not done + failed:
        return Absent("Error rate", facts.why("pgbench", "transactions"))
    rate, note = share(failed / (done + failed)), f"{shown(failed)} of {shown(done + failed)} transactions"
    return Figure("Error rate", rate, "%", facts.link(runs[0]), note=note)


def _there(*tables: Table) -> tuple[Table, ...]:
    return tuple(table for table in tables if table.rows)


def _query(one: Exhibit) -> str:
    return Path(one.path).stem.removeprefix("explain_query_")


def _clients(one: Exhibit, name: str) -> str:
    return f"{shown(number(one.figures[name]))} clients" if name in one.figures else "clients"


def _kept(one: Exhibit) -> bool:
    return number(one.figures["p95_ms"]) <= number(one.figures["target_ms"])


def _took(one: Exhibit) -> float:
    return number(one.figures["seconds"])


def _seconds(facts: Facts, one: Exhibit | None) -> Cell:
    if one is None or "seconds" not in one.figures:
        return Cell("not run", "", "WARN", number=True)
    bad: Decision | None = "FAIL" if one.figures.get("exit_status") else None
    return Cell(f"{_took(one):.3f}", facts.link(one), bad, number=True)


def _differs(steps: Iterable[Exhibit]) -> Cell:
    lines = sum(number(one.figures.get("schema_lines_that_differ", 0)) for one in steps)
    return Cell(shown(lines), "", "FAIL" if lines else "PASS", number=True)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
