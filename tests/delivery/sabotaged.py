"""A delivery over a small warehouse with a rehearsal, whose gates have all let it pass; and a probe run anew after a sabotage."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
from tests.conftest import CHECKOUT
from tests.whole import WAREHOUSE_ALONE, Typed

from tidegate import dbt, strategy
from tidegate.contracts import derived
from tidegate.delivery import approval, cases, ledger, team, work
from tidegate.delivery.cases import Place
from tidegate.delivery.judge import judge
from tidegate.delivery.team import Team
from tidegate.gates.verdict import Verdict
from tidegate.publish import marts
from tidegate.rehearsal import rehearsal
from tidegate.rehearsal.rehearsal import Rehearsal
from tidegate.run.bookings import deliver
from tidegate.settings import Settings, load_settings
from tidegate.stores.postgres import connect
from tidegate.strategy.gate import Gate
from tidegate.wave import ingest

MONTHS = ("2013-01", "2013-02")
DELIVERY, STRATEGY = "manual__sabotaged", "strategies/database.md"
#: Rows that an index is worth it for.
FLIGHTS = 3000
#: What the project is made of: the checkout's own, but for models, queries and rules, which are few.
PARTS = (
    "migrations", "macros", "dbt_project.yml", "profiles.yml", "teams", "strategies", "tests/sql/functions.sql",
    "schemas/bookings.odcs.yaml", "schemas/airlines.odcs.yaml", "schemas/airports.odcs.yaml",
)  # fmt: skip
FILES = {
    ".gitignore": ".team/\n",
    "models/marts/fct_flight.sql": "{{ config(indexes=[{'columns': ['n']}]) }}\nselect n, 'flight ' || n as told from raw.flights\n",
    "models/marts/fct_flight.yml": (
        "models:\n  - name: fct_flight\n    data_tests:\n      - unique_grain: {arguments: {columns: [n]}}\n"
        "      - holds: {name: counted_from_one, arguments: {condition: n > 0}}\n"
    ),
    "expectations/bookings.yaml": (
        "expectations:\n  - name: somebody has booked\n    type: expect_table_row_count_to_be_between\n    kwargs: {min_value: 1}\n"
        "  - name: nobody flies to where they are\n    type: unexpected_rows_expectation\n"
        "    kwargs: {unexpected_rows_query: \"SELECT 1 FROM {batch} WHERE origin = dest\"}\n"
    ),
    "expectations/fct_flight.yaml": (
        "expectations:\n  - name: there are flights\n    type: expect_table_row_count_to_be_between\n    kwargs: {min_value: 1}\n"
    ),
    "queries/flight.sql": (
        "-- A flight.\n-- target: P95 < 50 ms\n-- sample: SELECT n FROM raw.flights\nSELECT told FROM marts.fct_flight WHERE n = %(n)s\n"
    ),
}  # fmt: skip
#: What each role measures; the gates of CI and load have nothing here that a sabotage could reach.
EVIDENCE: dict[str, dict[str, tuple[str, ...]]] = {
    "PG": {"2": ("index_usage", "explain", "pgtap")},
    "MIG": {"2": ("migration_full_chain",)},
    "QA": {
        "3": (
            "gitleaks", "gitleaks_full", "contracts", "dbt_results", "expectations", "rls_verification", "audit_log_check",
            "auth_audit", "pii_encryption", "masking", "erasure", "staging_migration", "backup_restore", "replication",
            "redis_failover", "pg_failover",
        )
    },
}  # fmt: skip
ARTIFACTS: dict[str, dict[str, tuple[str, ...]]] = {
    "QA": {"3": ("qa/QA_SIGNOFF.md",)}, "RM": {"4": ("releases/DEPLOYMENT_SIGNOFF.md",)},
}  # fmt: skip
GATES = (
    Gate.MIGRATION, Gate.QUERY, Gate.PGTAP, Gate.EVIDENCE, Gate.FAILOVER, Gate.SECRETS, Gate.COMPLIANCE, Gate.QA,
    Gate.DEPLOYMENT,
)  # fmt: skip


@dataclass
class House:
    """The delivery; `passed` is what each gate has said of it before anything was sabotaged."""

    stack: Typed
    settings: Settings
    team: Team
    passed: dict[Gate, list[Verdict]] = field(default_factory=dict)
    _attempts: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    @property
    def project(self) -> Path:
        return self.settings.project

    @property
    def evidence(self) -> Path:
        return self.project / ".team/evidence"

    @property
    def place(self) -> Place:
        with connect(self.settings) as connection:
            delivery = ledger.get(connection, DELIVERY)
        read = replace(strategy.read(self.project / STRATEGY), path=Path(STRATEGY))
        return Place(self.settings, self.team, read, delivery)

    @property
    def rehearsal(self) -> Rehearsal:
        return rehearsal.reach(self.settings)

    def judge(self, gate: Gate) -> list[Verdict]:
        return judge(gate, cases.gather(self.place))

    def take(self, code: str, probe: str) -> None:
        """Let a role run one probe, as in another attempt."""
        wave = next(iter(EVIDENCE[code]))
        role = self.team.roles[code].model_copy(update={"evidence": {wave: (probe,)}})
        alone = self.team.model_copy(update={"roles": {**self.team.roles, code: role}})
        work.take(replace(self.place.role(code, wave, next(self._attempts)), team=alone, role=role))

    def write(self, path: str, text: str) -> None:
        file = self.project / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    @contextmanager
    def changed(self, path: str, text: str) -> Iterator[None]:
        """Have a file of the project say something else, or be there at all, as long as the block runs."""
        file = self.project / path
        before = file.read_text() if file.exists() else None
        self.write(path, text)
        try:
            yield
        finally:
            file.unlink() if before is None else file.write_text(before)

    @contextmanager
    def ordered(self, wrong: str, right: str, *, dsn: str | None = None) -> Iterator[None]:
        """Have the superuser do something to the warehouse, or to a copy, and undo it."""
        with psycopg.connect(dsn or self.stack.superuser, autocommit=True) as connection:
            connection.execute(wrong)
        try:
            yield
        finally:
            with psycopg.connect(dsn or self.stack.superuser, autocommit=True) as connection:
                connection.execute(right)

    @contextmanager
    def first_migration(self, **beside: str) -> Iterator[None]:
        """Have no migration but the first, and those that are given by name: the way of them all takes half a minute."""
        versions = self.project / "migrations/versions"
        every = versions.rename(versions.with_name("every"))
        versions.mkdir()
        shutil.copy(min(every.glob("0*.py")), versions)
        for name, text in beside.items():
            (versions / f"{name}.py").write_text(text)
        try:
            yield
        finally:
            shutil.rmtree(versions)
            every.rename(versions)

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.project, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, subject: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", f"--message={subject}")


@contextmanager
def house(folder: Path) -> Iterator[House]:
    """Make the warehouse, publish into it, begin the delivery, let every role measure and every gate judge."""
    project = folder / "sabotaged_project"
    _copy(project)
    stack = Typed(
        folder / "sabotaged", {**WAREHOUSE_ALONE, "backup_tool": "pg_basebackup", "team_load_seconds": "2"}, project
    )
    stack.up()
    settings = load_settings(project=project, home=stack.home, **stack.elsewhere)
    try:
        derived.write(settings)
        found = House(stack, settings, _team(project))
        _commit(found)
        _publish(found)
        _deliver(found)
        yield found
    finally:
        rehearsal.down(settings, lambda _: None)
        stack.down()


def _copy(project: Path) -> None:
    for name in PARTS:
        source, target = CHECKOUT / name, project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for name, text in FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)


def _commit(found: House) -> None:
    found.git("init", "--quiet", "--initial-branch=main")
    found.git("config", "user.name", "Ada")
    found.git("config", "user.email", "ada@example.org")
    found.commit("feat(x): begin")
    found.write("README.md", "What the warehouse is.\n")
    found.commit("docs(x): what it is")


def _publish(found: House) -> None:
    deliver(found.settings, MONTHS, 400)
    for month in MONTHS:
        ingest(found.settings, "bookings", month)
    with connect(found.settings) as connection:
        connection.execute(
            f"CREATE TABLE raw.flights (n integer PRIMARY KEY); INSERT INTO raw.flights SELECT generate_series(1, {FLIGHTS})"
        )
    build = marts.prepare(found.settings)
    dbt.build(found.settings)
    marts.judge(found.settings, build)
    marts.publish(found.settings, build)


def _team(project: Path) -> Team:
    """Return the database's team with no more evidence and artifacts than stand above."""
    found = team.load(project, "database")
    roles = {
        code: role.model_copy(update={"evidence": EVIDENCE.get(code, {}), "artifacts": ARTIFACTS.get(code, {})})
        for code, role in found.roles.items()
    }
    return found.model_copy(update={"roles": roles, "gates": {gate: found.gates[gate] for gate in GATES}})


def _deliver(found: House) -> None:
    facts: dict[str, Any] = {
        "delivery_id": DELIVERY, "team": found.team.name, "strategy": STRATEGY, "code_version": found.git("rev-parse", "HEAD"),
        "strategy_sha256": work.hash_of(found.project / STRATEGY), "started_by": "Ada", "dag_run_id": DELIVERY,
    }  # fmt: skip
    with connect(found.settings) as connection:
        ledger.begin(connection, facts)
    rehearsal.up(found.settings, lambda _: None)
    with found.first_migration():
        found.take("MIG", "migration_each")
    for code in ("PG", "MIG"):
        work.do(found.place.role(code, "2"))
    work.take(found.place.role("QA", "3"))
    for gate in GATES:
        if gate is Gate.QA:
            work.make(found.place.role("QA", "3"))
        if gate is Gate.DEPLOYMENT:
            work.make(found.place.role("RM", "4"))
            place = found.place
            shown = approval.subject(found.settings, place.delivery, "deployment")
            approval.decide(
                found.settings, found.team, place.delivery, shown, shown, "approve", by="Grace", why="read it"
            )
        found.passed[gate] = found.judge(gate)
        with connect(found.settings) as connection:
            ledger.record_verdicts(connection, found.place.delivery, 1, found.passed[gate])
