"""A delivery in a real ledger, with the files that its probes have left; figures are such as probes have measured here."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.conftest import KEYS, OWNER, PASSWORD, TEMPLATE
from tests.delivery.originals import ROOT

from tidegate.delivery import ledger, manifest
from tidegate.delivery.judge import Case, judge
from tidegate.delivery.ledger import Delivery
from tidegate.delivery.team import Team, load
from tidegate.delivery.work import Work, hash_of, keep
from tidegate.evidence.probe import Finding, Probe, _keep
from tidegate.evidence.probes import ALL
from tidegate.gates import ledger as of_gates
from tidegate.settings import Settings, load_settings
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database
from tidegate.stores.postgres import connect
from tidegate.strategy import read as strategy_of
from tidegate.strategy.gate import Gate
from tidegate.strategy.model import Strategy

_PERFORMANCE, _INTEGRATION, _STATIC = "tests/performance", "tests/integration", "tests/static"
BEGAN = datetime.now(UTC) - timedelta(hours=5)

Figures = dict[str, dict[str, Any]]


def _queries(slower: float) -> Figures:
    times = {
        "carrier_punctuality": (5.1, 2, []), "departures_of_a_day": (7.9, 311, ["fct_flight_by_day"]), "flight_by_key": (0.4, 6, ["fct_flight_pk"]),
        "flights_of_aircraft": (2.2, 88, ["fct_flight_by_aircraft"]), "route_reliability": (19.4, 940, ["mart_route_reliability_pk"]),
        "verdicts_of_batch": (0.7, 14, ["verdict_by_subject"]), "published_batch": (0.3, 3, ["batch_published"]), "open_refused_rows": (1.1, 21, []),
    }  # fmt: skip
    return {
        f"pg/explain_query_{name}.json": {
            "p50_ms": round(0.7 * p95 * slower, 3), "p95_ms": round(p95 * slower, 3), "p99_ms": round(1.3 * p95 * slower, 3), "target_ms": 50,
            "indexes": indexes, "unintended_whole_reads": [], "shared_hit": blocks, "shared_read": blocks // 40,
        }
        for name, (p95, blocks, indexes) in times.items()
    }  # fmt: skip


def _migrations() -> Figures:
    return {
        f"{_INTEGRATION}/migration_{number:04}_{way}.log": {
            "seconds": round(0.11 + 0.013 * number + 0.05 * place, 3),
            "schema_lines_that_differ": 0,
        }
        for number in range(14, 20)
        for place, way in enumerate(("up", "down", "reup"))
    }


def measured(slower: float = 1.0) -> dict[str, Figures]:
    """What each probe leaves, by file."""
    load = {
        clients: {"clients": clients, "tps": round(tps / slower, 3), "latency_ms": round(1000 * clients * slower / tps, 3),
                  "transactions": round(15 * tps), "failed": 0}
        for clients, tps in ((10, 603.922), (50, 653.334), (100, 641.077))
    }  # fmt: skip
    return {
        "version": {"pg/version.log": {"server_version_num": 150018}},
        "extensions": {"pg/extensions.log": {"installed": {"plpgsql": "1.0"}, "available": 49}},
        "erd": {"architecture/erd_diagram.md": {"tables": 31}},
        "data_dictionary": {"architecture/data_dictionary.md": {"columns": 386}},
        "documents": {"architecture/documents.log": {"pages": 14, "differing": 0}},
        "normalization": {"architecture/normalization_analysis.md": {"keys_broken": 0, "tables": 24}},
        "schema_apply": {"pg/schema_apply.log": {"statements": 151}, "pg/schema_verify.log": {"columns": 107, "tables": 14}},
        "ddl_syntax": {f"{_STATIC}/ddl_syntax.log": {"files": 24, "failed": 0}},
        "constraint_audit": {f"{_STATIC}/constraint_audit.log": {"primary_keys": 20, "without_key": 0, "unvalidated": 0}},
        "naming_check": {f"{_STATIC}/naming_check.log": {"columns": 386, "violations": 0}},
        "sqlfluff": {f"{_STATIC}/sqlfluff.log": {"files": 23, "violations": 0, "unparsed": 0}},
        "index_usage": {"pg/index_usage.log": {"indexes": 33, "without_reason": 0, "unused": 7, "foreign_keys_without_index": 0, "index_hit_ratio": 0.9987}},
        "config_diff": {"pg/config_diff.log": {"changed": 21}},
        "explain": _queries(slower),
        "pgtap": {"tests/unit/pgtap_results.log": {"files": 5, "tests": 131, "failed": 0, "rounds": 3, "flaky": False}},
        "pgbench": {"pg/pgbench_init.log": {"scale": 10}, **{f"{_PERFORMANCE}/pgbench_{many}c.log": told for many, told in load.items()}},
        "redis": {
            "redis/info.log": {"redis_version": "7.0.15", "evicted_keys": 0}, "redis/config.log": {"maxmemory": 67108864},
            "redis/memory_info.log": {"used_memory": 2147483, "maxmemory": 67108864, "used_share": 0.032, "evicted_keys": 0, "expired_keys": 318},
            "redis/hit_rate.log": {"hits": 8123, "misses": 911, "hit_rate": 0.8992}, "redis/bigkeys.log": {"keys": 47, "bytes": 91211},
        },
        "migration_each": _migrations(),
        "migration_full_chain": {
            f"{_INTEGRATION}/migration_full_chain.log": {
                "migrations": 19, "tables": 33, "rows": 1383038, "tables_that_differ": 0, "schema_lines_that_differ": 0
            }
        },
        "migration_last": {"migrations/migrate_up.log": {"migrations": 1, "seconds": 0.17}, "migrations/alembic_current.log": {"applied": 19, "pending": 0}},
        "gitleaks": {f"{_STATIC}/gitleaks.log": {"leaks": 0}},
        "gitleaks_full": {"tests/security/gitleaks_full.log": {"leaks": 0}},
        "slow_queries": {f"{_PERFORMANCE}/slow_queries.log": {"statements": 10, "slow": 2, "limit_seconds": 1.0, "limit_source": "strategies/database.md:122"}},
        "pool_stress": {
            f"{_PERFORMANCE}/pool_stress.log": {
                "normal_tps": 415.144, "normal_latency_ms": 24.088, "normal_transactions": 1571, "normal_failed": 0, "normal_clients": 10,
                "normal_utilisation": 0.333, "normal_waiting": 8, "saturated_tps": 500.048, "saturated_latency_ms": 399.961,
                "saturated_transactions": 710, "saturated_failed": 0, "saturated_clients": 200, "saturated_utilisation": 1.0,
                "saturated_waiting": 186, "pool_size": 60,
            }
        },
        "redis_benchmark": {
            f"{_PERFORMANCE}/redis_benchmark.log": {
                name: {"ops_per_second": many, "p95_ms": p95}
                for name, many, p95 in (("SET", 10188.49, 10.039), ("GET", 11641.44, 8.919), ("INCR", 11117.29, 8.311), ("LPUSH", 14513.79, 6.631))
            }
        },
        "rls_verification": {"tests/security/rls_verification.log": {"attempts": 60, "refused": 27, "foreign_rows_seen": 0}},
        "audit_log_check": {"tests/security/audit_log_check.log": {"chain_findings": 0, "tables_unwatched": 0}},
        "auth_audit": {"tests/security/auth_audit.log": {"logins": 9, "findings": 0}},
        "pii_encryption": {"tests/security/pii_encryption.log": {"columns": 3, "values": 5623, "sealed": 5623, "findings": 0}},
        "staging_migration": {"tests/release/staging_migration.log": {"migrations": 2, "reads": 14, "longest_read_ms": 22.9, "failed_reads": 0}},
        "backup_restore": {"tests/release/backup_restore.log": {"rto_seconds": 12.01, "rpo_seconds": 29.75, "tables_that_differ": 0}},
        "pool_drain": {"tests/release/pool_drain.log": {"drained_seconds": 0.04, "held_seconds": 0.775, "queries": 235, "failed": 0, "longest_wait_seconds": 0.767}},
        "app_health": {"tests/release/app_health.log": {"logins": 8, "queries": 8, "failed": 0}},
        "redis_failover": {f"{_INTEGRATION}/redis_failover.log": {"seconds": 1.912, "acknowledged": 201, "lost": 0}},
        "pg_failover": {
            f"{_INTEGRATION}/pg_failover.log": {"seconds": 0.558, "outage_seconds": 1.133, "acknowledged": 1736, "lost": 0, "rejoin_seconds": 2.714}
        },
        "replication": {
            f"{_INTEGRATION}/replication_lag.log": {"lag_seconds": round(0.214 * slower, 3), "lag_p95_seconds": 0.061, "lag_bytes": 81920, "looks": 150,
                                                    "rows": 9120, "caught_up": True, "catch_up_seconds": 0.031, "failed": 0}
        },
        "actionlint": {"ci/actionlint.log": {"workflows": 2, "findings": 0}},
        "act": {"ci/act_dryrun.log": {"jobs": 4, "failed": 0}, "ci/act_push.log": {"jobs": 1, "failed": 0, "steps": 6, "of_jobs": 4}},
    }  # fmt: skip


@cache
def _strategy(project: Path) -> Strategy:
    return strategy_of(project / "strategies" / "database.md")


@dataclass
class Delivered:
    """A delivery that is filled in step by step; `minute` is when in it the next thing happens."""

    settings: Settings
    team: Team
    delivery_id: str
    probes: dict[str, Figures]
    began: datetime = BEGAN
    minute: float = 0

    @property
    def delivery(self) -> Delivery:
        with connect(self.settings) as connection:
            return ledger.get(connection, self.delivery_id)

    @property
    def root(self) -> Path:
        return self.settings.project / ".team"

    def begin(self) -> None:
        told = {
            "delivery_id": self.delivery_id, "team": self.team.name, "strategy": "strategies/database.md", "strategy_sha256": "5" * 64,
            "code_version": _git(self.settings.project, "rev-parse", "HEAD"), "started_by": "Ingrid", "dag_run_id": self.delivery_id,
        }  # fmt: skip
        with connect(self.settings) as connection:
            ledger.begin(connection, told)
            connection.execute(
                "UPDATE ops.delivery SET started_at = %s WHERE delivery_id = %s", [self.began, self.delivery_id]
            )

    def wave(self, number: str) -> None:
        """Let every role of a wave do all its work."""
        with connect(self.settings) as connection:
            ledger.go_on(connection, self.delivery_id, number)
        for code in self.team.wave(number).roles:
            self.work(number, code)

    def work(
        self,
        number: str,
        code: str,
        attempt: int = 1,
        *,
        probes: tuple[str, ...] | None = None,
        failed: str | None = None,
    ) -> None:
        role, where = self.team.roles[code], (number, code, attempt)
        began = self.minute
        if code == "NOSQL":
            with connect(self.settings) as connection:
                ledger.work_ends(
                    connection,
                    self.delivery_id,
                    where,
                    "skipped",
                    reason="the strategy's stack has no MongoDB: database.md:66",
                )
            return self._date(where, began, began)
        with connect(self.settings) as connection:
            ledger.work_begins(connection, self.delivery_id, where)
        known = {probe.name: probe for probe in ALL}
        for name in role.evidence.get(number, ()) if probes is None else probes:
            self.minute += 0.4
            self.take(where, known[name])
        self.minute += 2
        made = {
            path: keep(self.root, path, f"# {path}\n\nof {self.delivery_id}\n".encode())
            for path in role.artifacts.get(number, ())
        }
        if failed is None:
            strategy = _strategy(self.settings.project)
            manifest.write(Work(self.settings, self.team, strategy, self.delivery, role, number, attempt), made)
        with connect(self.settings) as connection:
            ledger.work_ends(
                connection,
                self.delivery_id,
                where,
                "failed" if failed else "done",
                artifacts=None if failed else made,
                reason=failed,
            )
        return self._date(where, began, self.minute)

    def take(self, where: tuple[str, str, int], probe: Probe) -> None:
        files = self.probes.get(probe.name)
        with connect(self.settings) as connection:
            if files is None:
                reason = f"no program for {probe.name} is installed on this machine: `bin/bootstrap test` installs it"
                ledger.record_no_exhibit(connection, self.delivery, where, probe.name, reason)
                return
            found = [
                _keep(self.root, probe, Finding(path, f"{path}: {told}\n", told, f"run {probe.name}"), 1.5)
                for path, told in files.items()
            ]
            of_gates.record_evidence(connection, found)
            ledger.record_exhibits(connection, self.delivery, where, probe.name, found, self.root / "evidence")

    def judge(self, *gates: Gate, attempt: int = 1) -> None:
        """Let gates judge what there is, as they do in a run."""
        for gate in gates:
            self.minute += 0.2
            with connect(self.settings) as connection:
                parts = {
                    "exhibits": ledger.exhibits(connection, self.delivery_id), "work": ledger.work(connection, self.delivery_id),
                    "verdicts": ledger.verdicts(connection, self.delivery_id), "approvals": ledger.approvals(connection, self.delivery_id),
                }  # fmt: skip
                case = Case(
                    self.team, _strategy(self.settings.project),
                    **{name: tuple(rows) for name, rows in parts.items()},  # type: ignore[arg-type]
                    files={str(p.relative_to(self.root)): hash_of(p) or "" for p in self.root.rglob("*") if p.is_file()},
                    manifests=tuple(one for code in self.team.roles for one in manifest.verify(self.root, code)),
                )  # fmt: skip
                said = judge(gate, case)
                ledger.record_verdicts(connection, self.delivery, attempt, said)
                connection.execute(
                    "UPDATE ops.verdict SET decided_at = %s WHERE subject = %s AND gate = %s AND partition = %s",
                    [self._at(self.minute), self.delivery_id, gate.value, f"attempt {attempt}"],
                )

    def gates(self, wave: str, *, before: bool = False) -> tuple[Gate, ...]:
        return tuple(
            gate for gate, rules in self.team.gates.items() if (rules.before if before else rules.after) == wave
        )

    def end(self, state: ledger.State, reason: str | None = None) -> None:
        with connect(self.settings) as connection:
            ledger.set_state(connection, self.delivery_id, state, reason)
            if state in ledger.ENDED:
                connection.execute(
                    "UPDATE ops.delivery SET finished_at = %s WHERE delivery_id = %s",
                    [self._at(self.minute + 1), self.delivery_id],
                )

    def _at(self, minute: float) -> datetime:
        return self.began + timedelta(minutes=minute)

    def _date(self, where: tuple[str, str, int], began: float, ended: float) -> None:
        with connect(self.settings) as connection:
            connection.execute(
                "UPDATE ops.delivery_work SET started_at = %s, finished_at = %s WHERE delivery_id = %s AND wave = %s AND role = %s "
                "AND attempt = %s",
                [self._at(began), self._at(ended), self.delivery_id, *where],
            )


@contextmanager
def warehouse(postgres: PostgresServer, folder: Path, **variables: str) -> Iterator[Settings]:
    """Have a database of its own for as long as the block runs; its settings are of a small checkout in `folder`."""
    name = f"team_{uuid.uuid4().hex[:12]}"
    known = {
        "HOME": folder / "home", "WAREHOUSE_URL": postgres.dsn(name, OWNER, PASSWORD), "ENCRYPTION_KEYS": KEYS, "PROJECT": ROOT, **variables,
    }  # fmt: skip
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection, pytest.MonkeyPatch.context() as patch:
        ensure_database(connection, name, OWNER, TEMPLATE)
        for variable, value in known.items():
            patch.setenv(f"TIDEGATE_{variable}", str(value))
        yield load_settings().model_copy(update={"project": project(folder / "project")})
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def project(folder: Path) -> Path:
    """Return a small checkout of its own: the team, the strategy, a few commits, and roles' commits on their branch."""
    for part in ("teams", "strategies"):
        shutil.copytree(ROOT / part, folder / part)
    (folder / ".gitignore").write_text("/.team/\n")
    _git(folder, "init", "-q", "-b", "main")
    _git(folder, "add", ".gitignore")
    _commit(folder, "build(repo): what is not committed", "2026-11-12T10:00:00Z")
    _git(folder, "tag", "v0.1.0")
    _git(folder, "add", "strategies")
    _commit(folder, "docs(strategy): targets of the warehouse [#7]", "2026-11-14T10:00:00Z")
    _git(folder, "add", "teams")
    for day, subject in (
        (15, "feat(teams): a team is a file [#12]"),
        (17, "fix(marts): hours are local"),
        (17, "test(marts): hours are local"),
        (20, "perf(sql): an index for routes [#31]"),
    ):
        _commit(folder, subject, f"2026-11-{day}T10:00:00Z")
    _git(folder, "checkout", "-q", "-b", "ai-team")
    for agent, wave, subject in (
        ("PM", "1", "docs(plan): charter and milestones [#40]"),
        ("DBA", "2", "docs(model): diagram and dictionary [#41]"),
        ("PG", "2", "evidence(pg): plans of the important queries [#42]"),
        ("PG", "2", "docs(pg): why each index is there [#42]"),
    ):
        _commit(
            folder,
            subject,
            f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            f"Evidence: .team/evidence/manifests/{agent}_manifest.md\nAgent: {agent}\nWave: {wave}",
        )
    _git(folder, "checkout", "-q", "main")
    return folder


def _commit(folder: Path, subject: str, at: str, trailers: str = "") -> None:
    body = ["-m", "why it was done", *(["-m", trailers] if trailers else [])]
    _git(folder, "commit", "-q", "--allow-empty", "-m", subject, *body, at=at)


def _git(folder: Path, *words: str, at: str = "2026-11-12T10:00:00Z") -> str:
    who = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "Tomás"), ("EMAIL", "tomas@example.org"), ("DATE", at))
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *words], env={"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(folder), **who},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def begun(
    settings: Settings, name: str, *, ago: timedelta = timedelta(hours=5), probes: dict[str, Figures] | None = None
) -> Delivered:
    found = Delivered(
        settings,
        load(settings.project, "database"),
        name,
        measured() if probes is None else probes,
        datetime.now(UTC) - ago,
    )
    found.begin()
    return found


def rehearse(one: Delivered, *, until: str = "5") -> None:
    """Take a delivery through its waves up to one, with gates in between."""
    (one.root / "KANBAN.md").parent.mkdir(exist_ok=True)
    (one.root / "KANBAN.md").write_text("# Kanban\n")
    for wave in one.team.waves:
        if wave.attempts > 1:
            continue
        one.judge(*one.gates(wave.wave, before=True))
        one.wave(wave.wave)
        one.minute += 5
        one.judge(*one.gates(wave.wave))
        if wave.wave == until:
            return
