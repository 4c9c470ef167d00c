"""Which gate judges which sentence of a strategy, by which figure of which probe: one table, and the search in it.

What nothing measures yet stands in it, too, with the reason; a sentence that is not in the table is judged by nobody, and
told of as such. How a gate decides is not written here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tidegate.strategy.gate import Gate
from tidegate.strategy.model import Statement, Strategy, Target


@dataclass(frozen=True)
class Judge:
    """A gate with the figure that it reads; `missing` says why there is none yet.

    With `unit`, the figure is measured in it and held against the target's own number; with `needs`, against that.
    """

    gate: Gate | None
    probe: str = ""
    figure: str = ""
    unit: str | None = None
    needs: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Measure:
    """One thing that strategies set targets for, known by words (a pattern); two lines with the same name mean the same."""

    name: str
    words: str
    judges: tuple[Judge, ...]


@dataclass(frozen=True)
class Waiver:
    """Who lets a sentence of the strategy pass where nothing measures it, and why. What is measured is judged all the same."""

    by: str
    why: str


@dataclass(frozen=True)
class Judged:
    """A sentence of the strategy, or one number in it, with one of its judges; `measure` is empty where nobody knows it.

    `text` is the sentence without the waiver that it may end with.
    """

    line: int
    kind: str
    text: str
    target: Target | None
    measure: str
    judge: Judge
    waiver: Waiver | None = None


def _figure(gate: Gate, probe: str, figure: str, unit: str) -> Judge:
    return Judge(gate, probe, figure, unit)


def _none(gate: Gate, probe: str, figure: str) -> Judge:
    return Judge(gate, probe, figure, needs="= 0")


def _not_yet(gate: Gate | None, why: str) -> tuple[Judge, ...]:
    return (Judge(gate, missing=why),)


_REVERSIBLE = (
    _none(Gate.MIGRATION, "migration_each", "schema_lines_that_differ"),
    _none(Gate.MIGRATION, "migration_full_chain", "tables_that_differ"),
)
_RESTORED = _figure(Gate.QA, "backup_restore", "rto_seconds", "s")
_SUITE = "`make test` measures it, but no probe keeps the figure"

#: Of a number, the first one whose words are found counts; of a sentence without one, all of them do.
MEASURES: tuple[Measure, ...] = (
    Measure("documentation", r"^documentation", _not_yet(Gate.ENGINEERING, "somebody has to read it")),
    Measure("dbt tests", r"\bdbt\b", (_none(Gate.QA, "dbt_results", "failed"), _none(Gate.QA, "dbt_results", "models_untested"))),
    Measure("end-to-end tests", r"\be2e\b", _not_yet(Gate.QA, _SUITE)),
    Measure("rows lost in a failover", r"\blost\b", (_figure(Gate.FAILOVER, "pg_failover", "lost", ""),)),
    Measure("failed reads", r"failed reads", (_figure(Gate.QA, "staging_migration", "failed_reads", ""),)),
    Measure("longest read", r"longest read", (_figure(Gate.QA, "staging_migration", "longest_read_ms", "ms"),)),
    Measure("RTO", r"backup rto", (_RESTORED,)),
    Measure("RTO", r"\brto\b|recovery time", (_RESTORED, _figure(Gate.FAILOVER, "pg_failover", "outage_seconds", "s"))),
    Measure("RPO", r"\brpo\b|recovery point", (_figure(Gate.QA, "backup_restore", "rpo_seconds", "s"),)),
    Measure("Redis failover", r"redis.*failover", (_figure(Gate.FAILOVER, "redis_failover", "seconds", "s"),)),
    Measure("failover", r"failover", (_figure(Gate.FAILOVER, "pg_failover", "outage_seconds", "s"),)),
    Measure("reversible migrations", r"rollback|reversib", _REVERSIBLE),
    Measure("API P95", r"\bapi\b.*\bp\d\d\b", _not_yet(Gate.LOAD, "nothing serves an API yet")),
    Measure("query P95", r"quer.*\bp95\b|\bp95\b.*quer", (_figure(Gate.QUERY, "explain", "p95_ms", "ms"),)),
    Measure("query P99", r"\bp99\b", (_figure(Gate.QUERY, "explain", "p99_ms", "ms"),)),
    Measure("query P50", r"\bp50\b|median", (_figure(Gate.QUERY, "explain", "p50_ms", "ms"),)),
    Measure("pool utilisation", r"pool utili[sz]ation", (_figure(Gate.LOAD, "pool_stress", "normal_utilisation", "of 1"),)),
    Measure("connection pooling", r"connection pool|stress", (_none(Gate.LOAD, "pool_stress", "saturated_failed"),)),
    Measure("replication lag", r"replication lag|\blag\b", (_figure(Gate.FAILOVER, "replication", "lag_seconds", "s"),)),
    Measure("uptime", r"uptime", _not_yet(None, "it takes months of watching, and no release is held up for it")),
    Measure("pipeline success rate", r"success rate",
            (_figure(Gate.QA, "success_rate", "proven_share", "of 1"),)),
    Measure("freshness of streams", r"freshness.*stream|\bstreaming\b",
            (_figure(Gate.QA, "freshness", "stream_oldest_seconds", "s"), _none(Gate.QA, "freshness", "stale"))),
    Measure("freshness", r"freshness", (_figure(Gate.QA, "freshness", "oldest_seconds", "s"), _none(Gate.QA, "freshness", "stale"))),
    Measure("pipeline SLA", r"pipeline sla|\bbatch\b",
            (_figure(Gate.LOAD, "pipeline_sla", "longest_seconds", "s"),)),
    Measure("transactions per second", r"\btps\b|transactions per second", (_figure(Gate.LOAD, "pgbench", "tps", "/s"),)),
    Measure("throughput", r"throughput", (_figure(Gate.LOAD, "pipeline_sla", "rows_per_second", "/s"),)),
    Measure("cache hit rate", r"hit (rate|ratio)", (_figure(Gate.QA, "redis", "hit_rate", "of 1"),)),
    Measure("coverage of critical paths", r"coverage.*critical|critical paths", (_figure(Gate.QA, "coverage", "critical_percent", "%"),)),
    Measure("coverage", r"coverage", (_figure(Gate.QA, "coverage", "percent", "%"),)),
    Measure("vulnerabilities", r"vulnerabilit", (_none(Gate.QA, "pip_audit", "vulnerabilities"),)),
    Measure("mypy", r"\bmypy\b", (_none(Gate.CI, "lint", "errors"),)),
    Measure("ruff", r"\bruff\b", (_none(Gate.CI, "lint", "findings"),)),
    Measure("P0 schema", r"p0 schema", (_none(Gate.SCHEMA, "ddl_syntax", "failed"), _none(Gate.PGTAP, "pgtap", "failed"))),
    Measure("P0 features", r"p0 feature|p0 .*flows", _not_yet(Gate.QA, "each has acceptance criteria of its own, which QA's sign-off answers")),
    Measure("index strategy", r"\bindex(es)?\b", (_none(Gate.QUERY, "index_usage", "without_reason"),)),
    Measure("backup and restore", r"backup|restore", (_none(Gate.QA, "backup_restore", "tables_that_differ"),)),
    Measure("row-level security", r"row-level|\brls\b", (_none(Gate.COMPLIANCE, "rls_verification", "foreign_rows_seen"),)),
    Measure("masking", r"mask", (_none(Gate.COMPLIANCE, "masking", "found"),)),
    Measure("encrypted columns", r"encrypt.*(pii|sensitive|column)|(column|pii).*encrypt",
            (_none(Gate.COMPLIANCE, "pii_encryption", "findings"),)),
    Measure("audit", r"\baudit", (_none(Gate.COMPLIANCE, "audit_log_check", "chain_findings"),
                                  _none(Gate.COMPLIANCE, "audit_log_check", "tables_unwatched"))),
    Measure("encrypted connections", r"\b(tls|ssl)\b", (_none(Gate.COMPLIANCE, "auth_audit", "findings"),)),
    Measure("least privilege", r"least.privilege", (_none(Gate.COMPLIANCE, "auth_audit", "findings"),)),
    Measure("who is let in", r"authenticat|authori[sz]ation|access control",
            (_none(Gate.COMPLIANCE, "auth_audit", "findings"), *_not_yet(Gate.COMPLIANCE, "whom services let in beside the database, no probe tries"))),
    Measure("settings documented", r"\.env\.example", (_none(Gate.CI, "settings", "undocumented"),)),
    Measure("no secrets", r"secret|credential", (_none(Gate.SECRETS, "gitleaks", "leaks"), _none(Gate.SECRETS, "gitleaks_full", "leaks"))),
    Measure("ERD and dictionary", r"\berd\b|data dictionary", (_none(Gate.ENGINEERING, "documents", "differing"),)),
    Measure("normal forms", r"normali[sz]|\b3nf\b|normal form", (_none(Gate.ENGINEERING, "normalization", "keys_broken"),)),
    Measure("CI", r"\bci/cd\b", (_none(Gate.CI, "actionlint", "findings"), _none(Gate.CI, "act", "failed"))),
    Measure("compliance", r"complian|gdpr|erasure|\berased\b",
            (_none(Gate.COMPLIANCE, "erasure", "rows_left"), _none(Gate.COMPLIANCE, "erasure", "values_left"))),
    Measure("sensitive data", r"sensitiv", _not_yet(Gate.COMPLIANCE, "what is sensitive, whoever writes a contract says")),
    Measure("expectations", r"great expectations|quality suites",
            (_none(Gate.QA, "expectations", "failed"), _none(Gate.QA, "expectations", "unjudged"))),
    Measure("idempotent pipelines", r"idempoten", _not_yet(Gate.QA, _SUITE)),
    Measure("lineage", r"lineage", _not_yet(Gate.ENGINEERING, "no probe compares it with what ran")),
    Measure("contracts", r"contract|schema version", (_none(Gate.SCHEMA, "contracts", "findings"),)),
    Measure("DAGs", r"\bdags? (validat|import|structure)|\bdags\b.*import", (_none(Gate.CI, "dag_validation", "errors"),)),
    Measure("dashboards", r"dashboard", _not_yet(Gate.ENGINEERING, "somebody has to look")),
    Measure("deployment", r"deploy", (_none(Gate.DEPLOYMENT, "app_health", "failed"),
                                      *_not_yet(Gate.DEPLOYMENT, "on a rehearsal; only the release itself shows the rest"))),
)  # fmt: skip

#: Of which a target says the least that is enough.
MORE_IS_BETTER = (
    "uptime", "pipeline success rate", "coverage", "coverage of critical paths", "dbt tests", "cache hit rate",
    "reversible migrations", "throughput", "transactions per second",
)  # fmt: skip
_WATCHED = (
    "`tidegate database check` looks every five minutes (`upkeep_database`); an alarm is no condition of a release"
)
#: What somebody is told of while it runs. The names are those of targets, where there is one for the same thing.
ALERTS: tuple[Measure, ...] = tuple(
    Measure(name, words, _not_yet(None, _WATCHED))
    for name, words in (
        ("replication lag", r"\blag\b"), ("pool utilisation", r"\bpool\b"), ("disk", r"\bdisk\b"), ("slow queries", r"quer"),
    )
)  # fmt: skip
_UNKNOWN = Judge(None, missing="no gate knows this sentence: only a person can judge it")
_DEMANDS = ("Performance", "Security", "Availability")
#: Of a sentence with several targets, it may name the one that it is for.
_WAIVED = re.compile(r"\s*\((?P<what>[\w ]*?) ?waived by (?P<by>[^:()]+): (?P<why>[^()]+)\)", re.I)
_NOTHING = re.compile(r"^(n/?a|none)\b", re.I)


def measure(target: Target, text: str) -> Measure | None:
    """Return what a number is about; the words beside it count before the rest of its sentence."""
    table = ALERTS if target.purpose == "alert" else MEASURES
    near = f"{target.subject} {target.condition}"
    return next((known for where in (near, text) for known in table if re.search(known.words, where, re.I)), None)


def measures(text: str) -> list[Measure]:
    """Return everything that a sentence without a number speaks of; it holds when all of that does."""
    found = {known.name: known for known in reversed(MEASURES) if re.search(known.words, text, re.I)}
    return list(reversed(found.values()))


def judged(strategy: Strategy) -> list[Judged]:
    """Return every target, launch criterion and demand on security with each of its judges, in the document's order."""
    return sorted(_judged(strategy), key=lambda one: one.line)


def _judged(strategy: Strategy) -> Iterator[Judged]:
    for statement in (*strategy.requirements, strategy.testing.coverage):
        # A sentence without a number is a remark on how, except where something is demanded.
        if statement.targets or (statement.group in _DEMANDS and not _is_open(statement)):
            kind = "alert" if any(t.purpose == "alert" for t in statement.targets) else "requirement"
            yield from _of(statement, kind)
    for statement in strategy.success.launch:
        if not statement.entry.blank:
            yield from _of(statement, "launch criterion")
    for kpi in strategy.success.kpis:
        if not kpi.target.blank:
            yield from _of(
                Statement("KPIs", kpi.metric.text, kpi.target, kpi.targets),
                "KPI",
                f"{kpi.metric.text}: {kpi.target.text}",
            )


def _is_open(statement: Statement) -> bool:
    return statement.entry.blank or _NOTHING.match(statement.entry.text) is not None


def _of(statement: Statement, kind: str, text: str = "") -> Iterator[Judged]:
    said = text or statement.entry.text
    text, words = _WAIVED.sub("", said), _WAIVED.search(said)

    def waiver(measure: str) -> Waiver | None:
        meant = words is not None and words["what"].casefold() in measure.casefold()
        return Waiver(words["by"].strip(), words["why"].strip()) if words and meant else None

    for target in (one for one in statement.targets if one.purpose != "expected"):
        found = measure(target, text)
        name = found.name if found else ""
        for judge in found.judges if found else (_UNKNOWN,):
            yield Judged(statement.entry.line, kind, text, target, name, judge, waiver(name))
    if not statement.targets:
        for known in measures(text) or [Measure("", "", (_UNKNOWN,))]:
            # What needs no number is enough where none is stated.
            for judge in [one for one in known.judges if one.unit is None] or known.judges:
                found_by = _without_a_number(judge)
                yield Judged(statement.entry.line, kind, text, None, known.name, found_by, waiver(known.name))


def _without_a_number(judge: Judge) -> Judge:
    """Return who judges a sentence without a number: a figure that must be held against one judges nothing."""
    if judge.unit is None:
        return judge
    return Judge(judge.gate, missing=f"it states no number for {judge.figure} of the probe {judge.probe}: write one")
