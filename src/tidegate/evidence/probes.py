"""Every probe there is, by the team document's phases; the order is the one in which they build on each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tidegate.evidence import (
    agreement,
    architecture,
    availability,
    cache,
    code,
    coverage,
    dags,
    dependencies,
    documents,
    environment,
    masking,
    migrations,
    models,
    normalization,
    performance,
    pipelines,
    privacy,
    release,
    replication,
    schema,
    security,
    static,
    unit,
    workflows,
)
from tidegate.evidence.probe import Finding, Ground, Place, Probe

_INTEGRATION = "tests/integration"


def _probe(name: str, place: Place, run: Callable[[Ground], Iterator[Finding]], *files: str) -> Probe:
    return Probe(name, (run.__doc__ or "").strip().splitlines()[0].rstrip("."), place, files, run)


ALL: tuple[Probe, ...] = (
    # The machine, the server, and its schema.
    _probe("tools", "checkout", environment.tools, *(f"env_{name}.txt" for name in environment.TOOLS)),
    _probe("version", "warehouse", schema.version, "pg/version.log"),
    _probe("extensions", "warehouse", schema.extensions, "pg/extensions.log"),
    _probe("schema_apply", "rehearsal", schema.schema_apply, "pg/schema_apply.log", "pg/schema_verify.log"),
    _probe("index_usage", "warehouse", schema.index_usage, "pg/index_usage.log"),
    _probe("config_diff", "warehouse", schema.config_diff, "pg/config_diff.log"),
    _probe(
        "redis", "checkout", cache.state, "redis/ping.log", "redis/data_test.log", "redis/info.log", "redis/config.log", "redis/memory_info.log",
        "redis/hit_rate.log", "redis/bigkeys.log",
    ),
    _probe("erd", "warehouse", architecture.erd, "architecture/erd_diagram.md"),
    _probe("data_dictionary", "warehouse", architecture.data_dictionary, "architecture/data_dictionary.md"),
    _probe("documents", "warehouse", documents.current, "architecture/documents.log"),
    _probe("normalization", "warehouse", normalization.normal_forms, "architecture/normalization_analysis.md"),
    # Phase 1: without a row.
    _probe("sqlfluff", "checkout", static.sqlfluff, "tests/static/sqlfluff.log"),
    _probe("lint", "checkout", code.lint, "tests/static/ruff.log", "tests/static/mypy.log"),
    _probe("settings", "checkout", code.settings, "tests/static/settings.log"),
    _probe("actionlint", "checkout", workflows.actionlint, "ci/actionlint.log"),
    _probe("act", "checkout", workflows.act, "ci/act_dryrun.log", "ci/act_push.log"),
    _probe("act_database", "rehearsal", workflows.act_database, *(f"ci/{file}.log" for file in workflows.OF_DATABASE)),
    _probe("dag_validation", "checkout", dags.validation, "tests/static/dag_validation.log"),
    _probe("contracts", "warehouse", agreement.contracts, "tests/static/contract_check.log"),
    _probe("ddl_syntax", "rehearsal", static.ddl_syntax, "tests/static/ddl_syntax.log"),
    _probe("constraint_audit", "warehouse", static.constraint_audit, "tests/static/constraint_audit.log"),
    _probe("naming_check", "warehouse", static.naming_check, "tests/static/naming_check.log"),
    _probe("gitleaks", "checkout", static.gitleaks_staged, "tests/static/gitleaks.log"),
    # Phase 2: in the database.
    _probe("pgtap", "rehearsal", unit.pgtap, "tests/unit/pgtap_results.log"),
    _probe("coverage", "checkout", coverage.of_tests, "tests/unit/coverage.log"),
    # Data that are published: what judged them.
    _probe("expectations", "warehouse", pipelines.expectations, "tests/quality/expectations.log"),
    _probe("dbt_results", "warehouse", models.dbt_results, "tests/quality/dbt_results.log"),
    # Phase 3: migrations.
    _probe(
        "migration_each", "rehearsal", migrations.each, f"{_INTEGRATION}/migration_*_up.log",
        f"{_INTEGRATION}/migration_*_down.log", f"{_INTEGRATION}/migration_*_reup.log",
    ),
    _probe(
        "migration_full_chain", "rehearsal", migrations.chain, "migrations/schema_before.sql", "migrations/schema_after.sql",
        "migrations/rollback_test.log", f"{_INTEGRATION}/migration_full_chain.log",
    ),
    _probe(
        "migration_last", "rehearsal", migrations.last, "migrations/migrate_up.log", "migrations/migrate_down.log",
        "migrations/alembic_upgrade.log", "migrations/alembic_downgrade.log", "migrations/alembic_reupgrade.log",
        "migrations/alembic_current.log",
    ),
    # Phase 4: queries.
    _probe("explain", "warehouse", performance.explain, "pg/explain_query_*.json", "tests/performance/explain_*.json"),
    _probe("slow_queries", "warehouse", performance.slow_queries, "tests/performance/slow_queries.log"),
    _probe("pipeline_sla", "warehouse", pipelines.sla, "tests/performance/pipeline_sla.log"),
    _probe("success_rate", "warehouse", pipelines.success, "tests/performance/success_rate.log"),
    _probe("freshness", "warehouse", pipelines.freshness, "tests/performance/freshness.log"),
    # Phase 5: load.
    _probe(
        "pgbench", "rehearsal", performance.pgbench, "pg/pgbench_init.log", "pg/pgbench_results.log",
        "tests/performance/pgbench_*c.log",
    ),
    _probe("pool_stress", "rehearsal", availability.pool_stress, "tests/performance/pool_stress.log"),
    _probe("redis_benchmark", "checkout", cache.benchmark, "tests/performance/redis_benchmark.log"),
    # Phase 6: failover.
    _probe(
        "pg_failover", "rehearsal", availability.pg_failover, f"{_INTEGRATION}/pg_failover.log",
        f"{_INTEGRATION}/failover_test.log",
    ),
    _probe("redis_failover", "checkout", cache.failover, f"{_INTEGRATION}/redis_failover.log"),
    _probe("replication", "rehearsal", replication.lag, f"{_INTEGRATION}/replication_lag.log"),
    # Phase 7: security.
    _probe("rls_verification", "rehearsal", security.rls_verification, "tests/security/rls_verification.log"),
    _probe("masking", "rehearsal", masking.left_over, "tests/security/masking.log"),
    _probe("audit_log_check", "rehearsal", security.audit_log_check, "tests/security/audit_log_check.log"),
    _probe("auth_audit", "warehouse", security.auth_audit, "tests/security/auth_audit.log"),
    _probe("pii_encryption", "warehouse", security.pii_encryption, "tests/security/pii_encryption.log"),
    _probe("erasure", "rehearsal", privacy.erasure, "tests/security/erasure.log"),
    _probe("gitleaks_full", "checkout", static.gitleaks_history, "tests/security/gitleaks_full.log"),
    _probe("pip_audit", "checkout", dependencies.vulnerabilities, "tests/security/pip_audit.log"),
    # Phase 8: release.
    _probe("staging_migration", "rehearsal", release.staging_migration, "tests/release/staging_migration.log"),
    _probe("backup_restore", "warehouse", release.backup_restore, "tests/release/backup_restore.log"),
    _probe("pool_drain", "rehearsal", availability.pool_drain, "tests/release/pool_drain.log"),
    _probe("app_health", "rehearsal", release.app_health, "tests/release/app_health.log"),
)  # fmt: skip
