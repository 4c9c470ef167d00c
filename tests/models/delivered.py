"""A delivery in the built warehouse: probes that need nothing but the warehouse have run, the others left what they last said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr
from tests.conftest import CHECKOUT, KEYS, OWNER, PASSWORD
from tests.models.conftest import BUILT

from tidegate.contracts import access, load_all
from tidegate.delivery import ledger, team
from tidegate.delivery.ledger import Delivery
from tidegate.delivery.work import Work, write
from tidegate.evidence.probe import Ground, Outcome, measure
from tidegate.evidence.probes import ALL
from tidegate.gates import ledger as of_batches
from tidegate.gates.verdict import Evidence, Verdict
from tidegate.migrate import steps
from tidegate.publish import window
from tidegate.run.bookings import deliver
from tidegate.settings import Settings, load_settings
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database, ensure_role
from tidegate.stack.roles import ROLES
from tidegate.stores.postgres import connect, exists
from tidegate.strategy import read as strategy_of
from tidegate.wave import ingest

MONTH = "2013-01"
#: Of what the project consists, as far as artifacts tell of it or link to it.
PARTS = (
    ".github", "dags", "docs", "expectations", "macros", "migrations", "models", "queries", "schemas", "src", "strategies", "teams", "tests",
    "transforms", "benchmarks", "dbt_project.yml", "profiles.yml", "pyproject.toml", "requirements.txt",
)  # fmt: skip
HERE = (
    "version", "extensions", "index_usage", "config_diff", "redis", "erd", "data_dictionary", "documents", "normalization",
    "constraint_audit", "naming_check", "explain", "pii_encryption",
)  # fmt: skip
_RELEASE, _INTEGRATION, _PERFORMANCE = "tests/release", "tests/integration", "tests/performance"
#: What probes of the rehearsal have found, by the file that says so.
REHEARSED: dict[str, dict[str, dict[str, Any]]] = {
    "schema_apply": {"pg/schema_apply.log": {"statements": 231}, "pg/schema_verify.log": {"columns": 190, "tables": 24}},
    "pgtap": {"tests/unit/pgtap_results.log": {"files": 7, "tests": 214, "failed": 0, "rounds": 3, "flaky": False}},
    "pgbench": {
        f"{_PERFORMANCE}/pgbench_{clients}c.log": {"clients": clients, "tps": 900.5 - clients, "latency_ms": clients / 0.9, "failed": 0}
        for clients in (10, 50, 100)
    },
    "ddl_syntax": {"tests/static/ddl_syntax.log": {"files": 38, "failed": 0}},
    "sqlfluff": {"tests/static/sqlfluff.log": {"files": 37, "violations": 0, "unparsed": 0}},
    "migration_full_chain": {
        f"{_INTEGRATION}/migration_full_chain.log": {
            "migrations": 18, "tables": 40, "rows": 812345, "tables_that_differ": 0, "schema_lines_that_differ": 0,
        }
    },
    "migration_last": {"migrations/migrate_down.log": {"migrations": 1, "seconds": 0.31}},
    "staging_migration": {
        f"{_RELEASE}/staging_migration.log": {"migrations": 1, "reads": 57, "longest_read_ms": 8.2, "failed_reads": 0}
    },
    "pg_failover": {
        f"{_INTEGRATION}/pg_failover.log": {
            "seconds": 1.9, "outage_seconds": 2.4, "acknowledged": 412, "lost": 0, "timeline": 2, "rejoined": "rewound",
            "rejoin_seconds": 3.1, "synchronous": True,
        }
    },
    "redis_failover": {f"{_INTEGRATION}/redis_failover.log": {"seconds": 1.2, "acknowledged": 200, "lost": 0, "refused": 31}},
    "pool_stress": {
        f"{_PERFORMANCE}/pool_stress.log": {
            "normal_utilisation": 0.5, "saturated_failed": 0, "saturated_clients": 200, "saturated_waiting": 180, "pool_size": 20,
            "normal_tps": 640.5, "saturated_tps": 700.1, "saturated_longest_wait_seconds": 1.25,
        }
    },
    "pool_drain": {f"{_RELEASE}/pool_drain.log": {"queries": 900, "failed": 0, "held_seconds": 1.4, "longest_wait_seconds": 1.6}},
    "replication": {
        f"{_INTEGRATION}/replication_lag.log": {"lag_seconds": 0.21, "lag_p95_seconds": 0.1, "rows": 5000, "catch_up_seconds": 0.06}
    },
    "backup_restore": {
        f"{_RELEASE}/backup_restore.log": {"rto_seconds": 21.5, "rpo_seconds": 31.2, "tables": 40, "rows": 812345, "tables_that_differ": 0}
    },
    "rls_verification": {
        "tests/security/rls_verification.log": {"attempts": 72, "refused": 30, "own_rows_seen": 400, "foreign_rows_seen": 0}
    },
    "audit_log_check": {
        "tests/security/audit_log_check.log": {
            "deeds": 60, "lines_expected": 41, "lines_found": 41, "chain_lines": 900, "chain_findings": 0, "tables_unwatched": 0,
        }
    },
    "auth_audit": {"tests/security/auth_audit.log": {"rules": 2, "logins": 9, "without_scram": 0, "findings": 0, "tls": "off"}},
}  # fmt: skip


@dataclass
class Delivered:
    """A delivery, and the artifacts that its roles have made, by path."""

    settings: Settings
    team: team.Team
    delivery: Delivery
    made: dict[str, str] = field(default_factory=dict)

    def work(self, code: str, wave: str) -> Work:
        strategy = strategy_of(self.settings.project / self.team.strategy)
        return Work(self.settings, self.team, strategy, self.delivery, self.team.roles[code], wave)

    def make(self, code: str) -> None:
        """Let a role make its artifacts."""
        for wave, paths in self.team.roles[code].artifacts.items():
            work = self.work(code, wave)
            for path in paths:
                write(work, path)
                self.made[path] = (work.folder / path).read_text()

    def judged(self, *verdicts: Verdict) -> None:
        with connect(self.settings) as connection:
            ledger.record_verdicts(connection, self.delivery, 1, verdicts)


@contextmanager
def begun(server: PostgresServer, folder: Path) -> Iterator[Delivered]:
    """Begin a delivery over a copy of the built warehouse, with bookings in it, and have its evidence taken."""
    name = "models_delivered"
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for role in ROLES:
            ensure_role(connection, role, PASSWORD)
        ensure_database(connection, name, OWNER, BUILT)
        # Grants on a database stay with the one that is copied.
        connection.execute(f"GRANT CONNECT ON DATABASE {name} TO {', '.join(ROLES)}")  # type: ignore[call-overload]
    project = folder / "project"
    project.mkdir()
    for part in PARTS:
        (project / part).symlink_to(CHECKOUT / part)
    settings = load_settings(
        project=project, home=folder / "home", warehouse_url=SecretStr(server.dsn(name, OWNER, PASSWORD)),
        encryption_keys=SecretStr(KEYS), team_load_seconds=1,
    )  # fmt: skip
    deliver(settings, [MONTH], 200)
    ingest(settings, "bookings", MONTH)
    _publish_marts(settings)
    found = Delivered(settings, team.load(project, "database"), _begin(settings))
    _take(found)
    yield found
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


def _publish_marts(settings: Settings) -> None:
    with connect(settings) as connection:
        for contract in load_all(settings):
            # Of a stream that nobody has begun there is no table.
            if exists(connection, contract.schema, contract.table):
                for statement in access.statements(contract):
                    connection.execute(statement)
        connection.execute("INSERT INTO ops.marts_build (build_id, state, inputs) VALUES ('first', 'published', '{}')")
        window.open_on(connection, 1, None, "marts_next")
        connection.execute("ALTER SCHEMA marts_next RENAME TO marts_current")
        connection.execute("INSERT INTO ops.marts_swap (swap_id, build_id) VALUES (1, 'first')")


def _begin(settings: Settings) -> Delivery:
    told = {
        "delivery_id": "databaseEng-1", "team": "databaseEng", "strategy": "strategies/database.md", "strategy_sha256": "0" * 64,
        "code_version": "0" * 40, "started_by": "tester", "dag_run_id": "manual__1",
    }  # fmt: skip
    with connect(settings) as connection:
        ledger.begin(connection, told)
        return ledger.get(connection, "databaseEng-1")


def _take(found: Delivered) -> None:
    work = found.work("QA", "3")
    root, known = work.folder / "evidence", {probe.name: probe for probe in ALL}
    outcomes = [measure(Ground(found.settings, 1), known[name]) for name in HERE]
    for probe, files in {**REHEARSED, "migration_each": _each(found.settings.project)}.items():
        taken = tuple(_evidence(root / path, probe, figures) for path, figures in files.items())
        with connect(found.settings) as connection:
            of_batches.record_evidence(connection, taken)
        outcomes.append(Outcome(probe, taken))
    with connect(found.settings) as connection:
        for one in outcomes:
            ledger.record_exhibits(connection, found.delivery, work.where, one.probe, one.evidence, root)
            if one.reason is not None:
                ledger.record_no_exhibit(connection, found.delivery, work.where, one.probe, one.reason)


def _each(project: Path) -> dict[str, dict[str, Any]]:
    return {
        f"{_INTEGRATION}/migration_{step.revision}_{way}.log": {
            "seconds": 0.1 + number / 100, "schema_lines_that_differ": 0,
            **({"locks": {"ops.batch": "AccessExclusiveLock"}} if way == "up" and number % 2 else {}),
        }
        for number, step in enumerate(steps.read(project))
        for way in ("up", "down", "reup")
    }  # fmt: skip


def _evidence(path: Path, probe: str, figures: dict[str, Any]) -> Evidence:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"path": path.name, **figures})
    path.write_text(text)
    return Evidence(f"probe {probe}", path, hashlib.sha256(text.encode()).hexdigest(), figures, probe, 0.5, 0)
