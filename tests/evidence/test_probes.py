"""Probes on a real warehouse and its rehearsal: what they write, that it is what they say, and that they can fail."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.whole import PROJECT, Typed

from tidegate.evidence import performance, probe, static
from tidegate.evidence.probe import CannotRunError, Finding, Ground, Outcome, Probe, measure
from tidegate.evidence.probes import ALL

CHECKOUT = Path(__file__).resolve().parents[2]
KNOWN = {found.name: found for found in ALL}


@pytest.fixture(scope="module")
def ground(original: Typed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """The warehouse under a copy of the project, so that evidence and what is broken on purpose fall there."""
    project = tmp_path_factory.mktemp("probed")
    for name in (*PROJECT, "tests/sql"):
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, project)
    found = Ground(original.up().model_copy(update={"project": project}), seconds=3)
    yield found
    found.close()


def run(ground: Ground, name: str) -> Outcome:
    return measure(ground, KNOWN[name])


def figures(outcome: Outcome) -> dict[str, dict[str, Any]]:
    assert outcome.reason is None, outcome.reason
    return {found.path.name: found.figures for found in outcome.evidence}


def fitting(pattern: str, path: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".+"), path) is not None


QUICK = [
    "tools", "version", "extensions", "schema_apply", "index_usage", "config_diff", "sqlfluff", "ddl_syntax", "constraint_audit",
    "naming_check", "migration_each", "migration_full_chain", "migration_last", "slow_queries", "pgtap", "redis_benchmark",
    "redis_failover", "masking", "rls_verification", "audit_log_check", "staging_migration", "auth_audit",
    "pii_encryption", "pool_drain", "expectations", "pipeline_sla", "success_rate", "erasure",
]  # fmt: skip


@pytest.mark.parametrize("name", QUICK)
def test_a_probe_writes_the_files_that_it_names_and_their_hashes_are_in_the_ledger(
    ground: Ground, original: Typed, name: str
) -> None:
    outcome = run(ground, name)
    assert outcome.reason is None
    assert outcome.ended_well, [found for found in outcome.evidence if found.exit_status]
    written = [str(found.path.relative_to(ground.team / "evidence")) for found in outcome.evidence]
    assert all(any(fitting(pattern, path) for path in written) for pattern in KNOWN[name].files)
    assert all(any(fitting(pattern, path) for pattern in KNOWN[name].files) for path in written)
    with psycopg.connect(original.superuser, row_factory=dict_row) as connection:
        kept = {
            row["evidence_sha256"]: row["figures"]
            for row in connection.execute("SELECT * FROM ops.evidence").fetchall()
        }
    for found in outcome.evidence:
        assert found.figures, found.path
        assert found.sha256 == hashlib.sha256(found.path.read_bytes()).hexdigest()
        assert kept[found.sha256]["exit_status"] == 0
        assert kept[found.sha256]["command"] == found.command


def test_a_table_without_a_key_and_a_crooked_name_are_found(ground: Ground, original: Typed) -> None:
    before = figures(run(ground, "constraint_audit"))["constraint_audit.log"]["without_key"]
    with psycopg.connect(original.superuser, autocommit=True) as connection:
        connection.execute('CREATE TABLE ops.crooked ("Wrong" integer, seen timestamptz)')
        try:
            assert figures(run(ground, "constraint_audit"))["constraint_audit.log"]["without_key"] == before + 1
            found = run(ground, "naming_check")
        finally:
            connection.execute("DROP TABLE ops.crooked")
    assert figures(found)["naming_check.log"]["violations"] == 2
    text = found.evidence[0].path.read_text()
    assert "ops.crooked.Wrong: not snake_case" in text
    assert "ops.crooked.seen: a moment, and not called …_at" in text
    assert not found.ended_well


def test_a_migration_that_does_not_lead_back_is_found(ground: Ground) -> None:
    """After one that does: the way of them all takes another test half a minute."""
    versions = ground.settings.project / "migrations/versions"
    every = versions.rename(versions.with_name("every"))
    versions.mkdir()
    first = min(every.glob("0*.py"))
    shutil.copy(first, versions)
    (versions / "9999_crooked.py").write_text(
        '"""pre: a table that the way down forgets."""\n\nfrom alembic import op\n\nrevision = "9999"\n'
        f'down_revision = "{first.name[:4]}"\nUP = "CREATE TABLE ops.crooked (n integer PRIMARY KEY)"\nDOWN = "SELECT 1"\n'
        'AGAIN = "SELECT 1"\n\n\ndef upgrade() -> None:\n    op.execute("CREATE TABLE IF NOT EXISTS ops.crooked (n integer PRIMARY KEY)")\n'
        "\n\ndef downgrade() -> None:\n    op.execute(DOWN)\n"
    )
    try:
        found = run(ground, "migration_each")
    finally:
        shutil.rmtree(versions)
        every.rename(versions)
    told = figures(found)
    assert len(told) == 6
    assert told["migration_9999_down.log"]["schema_lines_that_differ"] > 0
    assert {name for name, of in told.items() if of["schema_lines_that_differ"]} == {"migration_9999_down.log"}
    assert not found.ended_well


def test_a_statement_that_does_not_parse_is_found(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    roles = ground.settings.project / "migrations/roles.sql"
    text = roles.read_text()
    roles.write_text("CREATE ROLE (;\n")
    try:
        found = run(ground, "sqlfluff")
    finally:
        roles.write_text(text)
    assert figures(found)["sqlfluff.log"]["violations"] > 0
    assert not found.ended_well


def test_a_failing_test_in_the_database_fails_the_probe(ground: Ground) -> None:
    file = ground.settings.project / "tests/sql/crooked.sql"
    file.write_text("BEGIN; SELECT plan(1); SELECT ok(false, 'never'); SELECT * FROM finish(); ROLLBACK;")
    try:
        found = run(ground, "pgtap")
    finally:
        file.unlink()
    told = figures(found)["pgtap_results.log"]
    assert (told["failed"], told["rounds"], told["flaky"]) == (1, 3, False)
    assert not found.ended_well


def test_a_policy_that_lets_everybody_in_is_found(ground: Ground) -> None:
    place = ground.peopled()
    with psycopg.connect(place.primary.dsn("warehouse"), autocommit=True) as connection:
        connection.execute("CREATE POLICY crooked ON raw.bookings FOR SELECT USING (true)")
        try:
            found = run(ground, "rls_verification")
        finally:
            connection.execute("DROP POLICY crooked ON raw.bookings")
    told = figures(found)["rls_verification.log"]
    assert told["foreign_rows_seen"] > 0
    assert not found.ended_well


def test_a_value_that_was_not_masked_is_counted_and_not_shown(ground: Ground, original: Typed) -> None:
    ((name, email),) = original.ask("SELECT passenger_name, email FROM raw.bookings LIMIT 1")
    with psycopg.connect(ground.rehearsal.primary.dsn("warehouse"), autocommit=True) as connection:
        connection.execute("CREATE TABLE public.copied (passenger_name text, email bytea, birth_on date)")
        rows = "INSERT INTO public.copied VALUES (%s, %s, '1990-05-17'), (md5('x'), 'y', '1990-01-01')"
        connection.execute(rows, [name, email])
        try:
            found = run(ground, "masking")
        finally:
            connection.execute("DROP TABLE public.copied")
    assert (figures(found)["masking.log"]["found"], found.ended_well) == (3, False)
    text = found.evidence[0].path.read_text()
    assert "FAIL public.copied.passenger_name: 1 of 2 values are the warehouse's" in text
    assert "FAIL public.copied.birth_on: 1 of 2" in text
    assert name not in text


def test_a_deed_that_leaves_no_line_is_found(ground: Ground) -> None:
    place = ground.peopled()
    with psycopg.connect(place.primary.dsn("warehouse"), autocommit=True) as connection:
        connection.execute("ALTER EVENT TRIGGER audit_ddl DISABLE")
        try:
            found = run(ground, "audit_log_check")
        finally:
            connection.execute("ALTER EVENT TRIGGER audit_ddl ENABLE ALWAYS")
    told = figures(found)["audit_log_check.log"]
    assert told["lines_found"] < told["lines_expected"]
    assert not found.ended_well


def test_what_was_busy_for_a_moment_is_measured_again_and_leaves_one_file(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_PAUSES", (0.0, 0.0))
    tries: list[int] = []

    def ended_twice(_: Ground) -> Iterator[Finding]:
        tries.append(len(tries))
        words = "kill -9 $$" if len(tries) < 3 else "echo well"
        ran = probe.run(["sh", "-c", words])
        yield Finding("tests/ended.log", ran.said, {"tries": len(tries)}, ran.command, ran.exit_status)

    found = measure(ground, Probe("ended", "it is ended twice", "checkout", ("tests/ended.log",), ended_twice))
    assert (tries, found.ended_well, figures(found)["ended.log"]["tries"]) == ([0, 1, 2], True, 3)

    def ended_always(_: Ground) -> Iterator[Finding]:
        yield Finding("tests/never.log", probe.run(["sh", "-c", "kill -9 $$"]).said, {}, "sh")

    found = measure(ground, Probe("never", "it is always ended", "checkout", ("tests/never.log",), ended_always))
    assert (found.evidence, (found.reason or "")[:27]) == ((), "sh was ended by SIGKILL bef")


def test_who_cannot_look_for_secrets_has_found_none_and_says_so(ground: Ground, tmp_path: Path) -> None:
    elsewhere = Ground(ground.settings.model_copy(update={"project": tmp_path}))
    with pytest.raises(CannotRunError, match="gitleaks could not look"):
        list(static.gitleaks_history(elsewhere))


def test_a_secret_in_a_commit_is_found_and_not_shown(ground: Ground, tmp_path: Path) -> None:
    secret = "AKIA" + "QYLPMN5HFIQR7XYZ"
    (tmp_path / "aws.py").write_text(f'aws_access_key_id = "{secret}"\n')
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "leak"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    elsewhere = Ground(ground.settings.model_copy(update={"project": tmp_path}))
    (found,) = static.gitleaks_history(elsewhere)
    assert found.figures == {"leaks": 1}
    assert found.exit_status != 0
    assert "aws.py:1" in found.text
    assert secret not in found.text


def test_a_program_that_is_missing_is_said_and_yields_no_figure(ground: Ground) -> None:
    def wants(_: Ground) -> Iterator[Finding]:
        probe.run(["no-such-program-anywhere"])
        yield Finding("never.log", "", {}, "")

    outcome = measure(ground, Probe("wanting", "wants", "checkout", ("never.log",), wants))
    assert outcome.evidence == ()
    assert outcome.reason is not None
    assert outcome.reason.startswith("no-such-program-anywhere is not installed on this machine")
    assert not (ground.team / "evidence/never.log").exists()
    assert issubclass(CannotRunError, Exception)


def test_older_evidence_goes_to_the_archive(ground: Ground) -> None:
    first = run(ground, "version").evidence[0]
    old = first.path.read_bytes()
    run(ground, "version")
    kept = [file.read_bytes() for file in (ground.team / "archive/evidence/pg").glob("version.log.*")]
    assert old in kept


def test_load_is_put_on_the_rehearsal_and_told_by_client(ground: Ground) -> None:
    told = figures(run(ground, "pgbench"))
    assert {told[f"pgbench_{n}c.log"]["clients"] for n in (10, 50, 100)} == {10, 50, 100}
    assert all(told[f"pgbench_{n}c.log"]["tps"] > 0 and not told[f"pgbench_{n}c.log"]["failed"] for n in (10, 50, 100))


def test_a_failover_loses_nothing_and_a_full_pool_answers_everybody(ground: Ground) -> None:
    failed_over = figures(run(ground, "pg_failover"))["pg_failover.log"]
    assert failed_over["acknowledged"] > 0
    assert (failed_over["lost"], failed_over["rejoined"]) == (0, "rewound")
    stressed = figures(run(ground, "pool_stress"))["pool_stress.log"]
    assert stressed["saturated_waiting"] > 0
    assert stressed["saturated_failed"] == stressed["normal_failed"] == 0
    assert stressed["normal_utilisation"] < 0.8 < stressed["saturated_utilisation"]


def test_a_replica_that_stops_replaying_is_told_by_how_far_it_is_behind(ground: Ground) -> None:
    well = figures(run(ground, "replication"))["replication_lag.log"]
    assert (well["caught_up"], well["failed"]) == (True, 0)
    # Less than while it stands still, below, on a machine however busy.
    assert well["lag_p95_seconds"] <= well["lag_seconds"] < ground.seconds
    assert well["rows"] > well["looks"] > 3
    with psycopg.connect(ground.rehearsal.replica.dsn(), autocommit=True) as replica:
        replica.execute("SELECT pg_wal_replay_pause()")
        try:
            found = run(ground, "replication")
        finally:
            replica.execute("SELECT pg_wal_replay_resume()")
    told = figures(found)["replication_lag.log"]
    assert told["lag_seconds"] > ground.seconds
    assert told["lag_bytes"] > well["lag_bytes"]
    assert not told["caught_up"]
    assert not found.ended_well


def test_what_pgbench_says_is_read_and_what_it_does_not_say_is_not_made_up() -> None:
    said = "number of transactions actually processed: 12\nlatency average = 1.5 ms\ntps = 801.25 (without initial connection time)\n"
    assert performance.read_pgbench(said) == {"tps": 801.25, "latency_ms": 1.5, "transactions": 12}
    assert performance.read_pgbench("connection refused") == {}


def test_every_probe_names_its_files_once() -> None:
    files = [file for found in ALL for file in found.files]
    assert len(files) == len(set(files))
    assert json.dumps([found.purpose for found in ALL])
    assert all(found.purpose for found in ALL)
