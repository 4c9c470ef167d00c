"""What QA writes: which test holds which demand, what each measured, and a sign-off that is computed, never given."""

from __future__ import annotations

import re

from tidegate.delivery.cited import Asked, cite, figures, file, holding, shown, why_not
from tidegate.delivery.judge import Case, evident
from tidegate.delivery.markdown import head, link, table
from tidegate.delivery.work import Work
from tidegate.evidence import indexes, queries
from tidegate.evidence.probes import ALL
from tidegate.gates.verdict import Verdict
from tidegate.stores.postgres import connect
from tidegate.strategy.gate import Gate
from tidegate.strategy.judges import judged

_STATUS = re.compile(r"^status: (PASS|FAIL)$", re.M)
#: The wave at whose end QA signs.
_WAVE = "3"
#: Words of a required kind of test → the probes that measure it, and the tests of this checkout that hold it.
_KINDS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (r"chaos|kill", ("pg_failover", "redis_failover"), ("tests/journeys/test_killed_anywhere.py", "tests/availability")),
    (r"data migration", ("migration_full_chain",), ("tests/migrate",)),
    (r"\bmigration", ("migration_each", "migration_full_chain", "staging_migration"), ("tests/migrate",)),
    (r"\bdbt\b", ("dbt_results",), ("tests/models",)),
    (r"\bdags?\b", ("dag_validation",), ("tests/dags",)),
    (r"idempoten", ("success_rate",), ("tests/journeys/test_killed_anywhere.py", "tests/ingest/test_replay.py")),
    (r"evolution", ("contracts",), ("tests/contracts",)),
    (r"integration", ("app_health", "schema_apply"), ("tests/journeys", "tests/publish", "tests/ingest")),
    (r"pipeline", ("pipeline_sla",), ("tests/journeys",)),
    (r"\btype", ("lint",), ("pyproject.toml",)),
    (r"quality|data validation", ("expectations",), ("tests/gates",)),
    (r"schema|pgtap", ("pgtap", "ddl_syntax", "constraint_audit"), ("tests/sql",)),
    (r"backup|restore", ("backup_restore",), ("tests/backup",)),
    (r"pool|\bload", ("pool_stress", "pool_drain"), ("tests/availability/test_pool.py",)),
    (r"quer|performance", ("explain", "pgbench"), ("tests/evidence/test_queries.py", "benchmarks")),
    (r"security", ("rls_verification", "auth_audit", "pii_encryption"), ("tests/access", "tests/audit")),
    (r"property", (), ("tests/delivery/test_quantity.py",)),
    (r"unit", ("coverage",), ("tests",)),
)  # fmt: skip
#: The figure that says most of a probe.
_TELLING = {
    "migration_each": "schema_lines_that_differ", "migration_full_chain": "tables_that_differ", "staging_migration": "failed_reads",
    "explain": "p95_ms", "pgbench": "tps", "app_health": "failed", "schema_apply": "statements", "pgtap": "failed",
    "ddl_syntax": "failed", "constraint_audit": "without_key", "backup_restore": "tables_that_differ",
    "pool_stress": "saturated_failed", "pool_drain": "failed", "pg_failover": "lost", "redis_failover": "lost",
    "dbt_results": "failed", "dag_validation": "errors", "success_rate": "left_behind", "contracts": "findings", "lint": "errors",
    "pipeline_sla": "longest_seconds", "expectations": "failed", "coverage": "percent",
    "rls_verification": "foreign_rows_seen", "auth_audit": "findings", "pii_encryption": "findings",
}  # fmt: skip


def signed(text: str) -> bool:
    """Return whether a sign-off says PASS; one without a status, or with several, signs nothing."""
    return _STATUS.findall(text) == ["PASS"]


def test_strategy(work: Work) -> str:
    """Return for each kind of test that the strategy asks for what holds it here, and what it measured last."""
    rows = []
    for kind in work.strategy.testing.types:
        told = kind.entry.text.strip()
        probes, tests = next(((p, t) for words, p, t in _KINDS if re.search(words, told, re.I)), ((), ()))
        rows.append([
            f"{told} (line {kind.entry.line})", ", ".join(file(work, one) for one in tests) or "nothing",
            "; ".join(f"`{one}` {_TELLING[one]}: {cite(work, one, _TELLING[one])}" for one in probes) or "nothing measures it",
        ])  # fmt: skip
    said = judged(work.strategy)
    unmeasured = [one for one in said if one.judge.missing and one.kind != "alert"]
    where = work.strategy.path.name
    places = {place: sum(probe.place == place for probe in ALL) for place in ("checkout", "warehouse", "rehearsal")}
    return "\n".join([
        *head(work, "What is tested, where, and by what figure"),
        f"{len(ALL)} probes measure: {places['rehearsal']} on a rehearsal that may be destroyed, {places['warehouse']} on the warehouse, "
        f"{places['checkout']} on the checkout. {where} asks for {len(rows)} kinds of test and sets {len(said) - len(unmeasured)} bounds that one of them judges.",
        "",
        *table(["the strategy asks for", "tests that hold it", "measured in this delivery"], rows),
        "## Tools that it names",
        "",
        f"{work.strategy.testing.tools.text} ({where}:{work.strategy.testing.tools.line}).",
        "",
        "## What a figure is judged by",
        "",
        *table(
            ["line", "demand", "gate", "figure"],
            [
                [one.line, one.measure or one.text, one.judge.gate.value if one.judge.gate else "", f"`{one.judge.probe} {one.judge.figure}`"]
                for one in said if not one.judge.missing and one.judge.probe
            ],
        ),
        "## What no probe measures",
        "",
        *table(["line", "demand", "why"], [[one.line, one.text, one.judge.missing] for one in unmeasured]),
    ])  # fmt: skip


def pgtap_results(work: Work) -> str:
    """Return how many tests ran inside the database, how often, and in which files they stand."""
    files = sorted((work.settings.project / "tests" / "sql").glob("*.sql"))
    planned = [(path, path.read_text(encoding="utf-8")) for path in files]
    return "\n".join([
        *head(work, "Tests inside the database"),
        *figures(work, [
            Asked("tests", "pgtap", "tests"), Asked("failed", "pgtap", "failed"), Asked("rounds", "pgtap", "rounds"),
            Asked("other result in another round", "pgtap", "flaky"), Asked("files", "pgtap", "files"),
        ]),
        f"{len(files)} files under {file(work, 'tests/sql')}, each in a transaction that is rolled back, on a rehearsal with masked passengers:",
        "",
        *table(
            ["file", "what it holds", "assertions written"],
            [
                [file(work, f"tests/sql/{path.name}", path.name), _first_comment(text), len(re.findall(r"^\s*SELECT\s+(?!plan|no_plan|\*\s+FROM\s+(?:no_plan|finish))\S+\(", text, re.M | re.I))]
                for path, text in planned
            ],
        ),
    ])  # fmt: skip


def migration_tests(work: Work) -> str:
    """Return what came of each migration up, down and up again, and of the chain over the warehouse's rows."""
    by_way: dict[str, dict[str, str]] = {}
    differing = 0
    for one in sorted(work.taken_by("migration_each"), key=lambda one: one.path):
        revision, _, way = one.path.rpartition("migration_")[2].removesuffix(".log").partition("_")
        lines = one.figures["schema_lines_that_differ"]
        differing += lines
        by_way.setdefault(revision, {})[way] = f"{shown(one.figures['seconds'], 's')}, {lines} differ ({link(one)})"
    return "\n".join([
        *head(work, "Every migration there and back"),
        f"{len(by_way)} migrations ran up, down and up again; {differing} lines of the schema were not as before."
        if by_way else f"None ran: {why_not(work, 'migration_each')}.",
        "",
        *table(["revision", "up", "down", "up again"], [[revision, *(ways.get(way) for way in ("up", "down", "reup"))] for revision, ways in by_way.items()]),
        "## Over the warehouse's own rows",
        "",
        *figures(work, [
            Asked("rows that went down to nothing and up again, twice", "migration_full_chain", "rows"),
            Asked("tables whose rows differ", "migration_full_chain", "tables_that_differ"),
            Asked("reads that failed while the newest was applied", "staging_migration", "failed_reads"),
            Asked("the longest of them waited", "staging_migration", "longest_read_ms", "ms"),
        ]),
    ])  # fmt: skip


def performance_benchmarks(work: Work) -> str:
    """Return how fast the important queries were against their targets, and what the server and its pool bore."""
    plans = {
        one.path.rpartition("explain_query_")[2].removesuffix(".json"): one
        for one in work.taken_by("explain")
        if "explain_query_" in one.path
    }
    rows = []
    for query in queries.read(work.settings.project):
        one = plans.get(query.name)
        if one is None:
            rows.append([query.name, f"{query.target_ms:g}", "not measured", "", "", "", ""])
            continue
        told = one.figures
        missed = "missed" if told["p95_ms"] >= query.target_ms else "met"
        rows.append([
            query.name, f"{query.target_ms:g}", shown(told["p50_ms"]), f"{shown(told['p95_ms'])} ({missed})", shown(told["p99_ms"]),
            shown(told["unintended_whole_reads"]), link(one),
        ])  # fmt: skip
    with connect(work.settings, autocommit=True) as connection:
        slow = indexes.slowest(connection, 5)
    return "\n".join([
        *head(work, "How fast, and how much at once"),
        "Milliseconds from sending a query of `queries/` to holding its rows, parameters drawn anew each time.",
        "",
        *table(["query", "target P95", "P50", "P95", "P99", "large tables read whole", "plan"], rows),
        "## pgbench, at once",
        "",
        *table(
            ["clients", "transactions/s", "latency, ms", "log"],
            [[o.figures["clients"], shown(o.figures["tps"]), shown(o.figures["latency_ms"]), link(o)] for o in sorted(holding(work, "pgbench", "tps"), key=lambda o: int(o.figures["clients"]))]
            or [["", why_not(work, "pgbench"), "", ""]],
        ),
        "## The pool",
        "",
        *figures(work, [
            Asked("places of the pool", "pool_stress", "pool_size"),
            Asked("share of them in use, 10 clients", "pool_stress", "normal_utilisation"),
            Asked("clients when there were too many", "pool_stress", "saturated_clients"),
            Asked("transactions that failed then", "pool_stress", "saturated_failed"),
            Asked("longest wait for a place then", "pool_stress", "saturated_longest_wait_seconds", "s"),
        ]),
        "## Statements that took the warehouse most time",
        "",
        *table(
            ["total, ms", "calls", "mean, ms", "statement"],
            [[s["total_ms"], s["calls"], s["mean_ms"], f"`{s['statement'][:120].replace('`', '')}`"] for s in slow or []]
            or [["", "", "", why_not(work, "slow_queries") if slow is None else "none yet"]],
        ),
    ])  # fmt: skip


def failover_tests(work: Work) -> str:
    """Return what clients noticed when servers died or were restarted under them, and what a restore brought back."""
    return "\n".join([
        *head(work, "Servers that were killed"),
        "The primary, with kill -9, under four clients of the pool:",
        "",
        *figures(work, [
            Asked("until the pool led to the promoted replica", "pg_failover", "seconds", "s"),
            Asked("longest gap that a client saw", "pg_failover", "outage_seconds", "s"),
            Asked("rows acknowledged", "pg_failover", "acknowledged"), Asked("of these, gone", "pg_failover", "lost"),
            Asked("the old primary came back as", "pg_failover", "rejoined"),
            Asked("its way back took", "pg_failover", "rejoin_seconds", "s"),
        ]),
        "## The replica before that",
        "",
        *figures(work, [
            Asked("behind, at most", "replication", "lag_seconds", "s"),
            Asked("behind, in 95 of 100 looks", "replication", "lag_p95_seconds", "s"),
            Asked("caught up after the last row", "replication", "catch_up_seconds", "s"),
        ]),
        "## A restart that nobody was to notice",
        "",
        *figures(work, [
            Asked("queries held by the pool for", "pool_drain", "held_seconds", "s"), Asked("failed", "pool_drain", "failed"),
        ]),
        "## Redis",
        "",
        *figures(work, [
            Asked("until its sentinels had another master", "redis_failover", "seconds", "s"),
            Asked("acknowledged writes that it lost", "redis_failover", "lost"),
        ]),
        "## A restore beside the warehouse",
        "",
        *figures(work, [
            Asked("time to restore", "backup_restore", "rto_seconds", "s"),
            Asked("what would have been lost", "backup_restore", "rpo_seconds", "s"),
            Asked("tables compared", "backup_restore", "tables"), Asked("that differ", "backup_restore", "tables_that_differ"),
        ]),
    ])  # fmt: skip


def pytest_results(work: Work) -> str:
    """Return how much of the code the last whole run of the tests went through, and where tests stand."""
    folder = work.settings.project / "tests"
    counted: dict[str, tuple[int, int]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        place = path.relative_to(folder).parts[0]
        files, tests = counted.get(place, (0, 0))
        counted[place] = (
            files + 1,
            tests + len(re.findall(r"^(?:async )?def test_", path.read_text(encoding="utf-8"), re.M)),
        )
    return "\n".join([
        *head(work, "What the tests went through"),
        f"{sum(tests for _, tests in counted.values())} tests in {sum(files for files, _ in counted.values())} files.",
        "",
        *figures(work, [
            Asked("covered", "coverage", "percent", "%"), Asked("of critical paths", "coverage", "critical_percent", "%"),
            Asked("lines", "coverage", "lines"), Asked("measured at commit", "coverage", "commit"), Asked("hours ago", "coverage", "age_hours"),
        ]),
        "## Where they stand",
        "",
        *table(["tests", "files", "tests written"], [[file(work, f"tests/{place}"), *found] for place, found in counted.items()]),
    ])  # fmt: skip


#: Teams call it by either name.
coverage_report = pytest_results


def security_scans(work: Work) -> str:
    """Return what was found when packages, commits, logins and copies were looked through."""
    return "\n".join([
        *head(work, "What scans have found"),
        f"Versions and hashes of every package stand in {file(work, 'requirements.txt')}, which is what was looked up.",
        "",
        *figures(work, [
            Asked("packages", "pip_audit", "packages"), Asked("known vulnerabilities in them", "pip_audit", "vulnerabilities"),
            Asked("secrets in what is staged", "gitleaks", "leaks"), Asked("secrets in any commit", "gitleaks_full", "leaks"),
            Asked("values of persons left in a masked copy", "masking", "found"),
            Asked("findings about logins and rules", "auth_audit", "findings"),
            Asked("plain values in confidential columns", "pii_encryption", "findings"),
            Asked("rows of other tenants seen", "rls_verification", "foreign_rows_seen"),
        ]),
    ])  # fmt: skip


def load_test(work: Work) -> str:
    """Return how much pipelines and the pool bore; of an API, once it is served."""
    return "\n".join([
        *head(work, "Under load"),
        "Deliveries, as the ledger timed them, and PgBouncer in front of a rehearsal under pgbench:",
        "",
        *figures(work, [
            Asked("rows a second, from landing to readers", "pipeline_sla", "rows_per_second"),
            Asked("transactions a second through the pool", "pool_stress", "normal_tps"),
            Asked("with 200 clients", "pool_stress", "saturated_tps"), Asked("of these, failed", "pool_stress", "saturated_failed"),
        ]),
        *table(["demand", "why it has no figure"], [[one.text, one.judge.missing] for one in judged(work.strategy) if one.judge.gate is Gate.LOAD and one.judge.missing]),
    ])  # fmt: skip


def qa_signoff(work: Work) -> str:
    """Return the sign-off: PASS only where every gate of QA's wave has judged, and none of their rules fails.

    The gate that it is signed for judges after it; what that one demands of the evidence stands in it, too.
    """
    gates = [gate for gate, rules in work.team.gates.items() if rules.wave == _WAVE and not rules.signed]
    signed_for = [gate for gate, rules in work.team.gates.items() if rules.wave == _WAVE and rules.signed]
    case = Case(work.team, work.strategy, tuple(work.exhibits), approvals=tuple(work.approvals))
    mine = [one for one in work.verdicts if one.gate in {gate.value for gate in gates}]
    silent = [gate for gate in gates if not any(one.gate == gate.value for one in mine)]
    mine += [verdict for gate in signed_for for verdict in evident(gate, case)]
    failing = [one for one in mine if one.verdict == "FAIL"]
    waived = [one for one in mine if one.verdict == "WARN"]
    status = "FAIL" if failing or silent else "PASS"
    return "\n".join([
        *head(work, "QA's sign-off"),
        f"status: {status}",
        "",
        f"{len(gates)} gates stand before or after wave {_WAVE}, and {len(gates) - len(silent)} have judged. With what "
        f"{', '.join(gate.value for gate in signed_for)} demands itself there are {len(mine)} rules, of which {len(failing)} fail and "
        f"{len(waived)} pass with a warning.",
        "",
        *table(
            ["gate", "rules", "fail", "warn", "works again when it fails"],
            [
                [gate.value, sum(o.gate == gate.value for o in mine), sum(o.gate == gate.value for o in failing),
                 sum(o.gate == gate.value for o in waived), _responsible(work, gate)]
                for gate in (*gates, *signed_for)
            ],
        ),
        "## What stands in the way",
        "",
        *table(
            ["gate", "rule", "found", "expected", "written in", "responsible"],
            [[*_told(one), _responsible(work, Gate(one.gate))] for one in failing]
            + [[gate.value, "", "has not judged", "a verdict", f"teams/{work.team.path.name}", _responsible(work, gate)] for gate in silent],
        ),
        "## What passes with a warning",
        "",
        *table(["gate", "rule", "found", "expected", "written in"], [_told(one) for one in waived]),
    ])  # fmt: skip


def _told(verdict: Verdict) -> list[str]:
    return [verdict.gate, verdict.rule, verdict.value, verdict.target, f"`{verdict.target_source}`"]


def _responsible(work: Work, gate: Gate) -> str:
    rules = work.team.gates[gate]
    return ", ".join(rules.again) or ("a person: it stops the delivery" if rules.hard_stop else "a person")


def _first_comment(text: str) -> str:
    return next((line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--")), "")
