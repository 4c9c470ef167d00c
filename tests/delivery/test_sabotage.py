"""Each sabotage is made and measured, and the gate that is meant to see it refuses, with value, target and line.

Before it was made, the same gate let the delivery pass: that is where every test begins.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from tests.delivery import sabotaged
from tests.delivery.sabotaged import DELIVERY, FILES, STRATEGY, House

from tidegate.backup import shelf
from tidegate.delivery import approval, cases, ledger, steps
from tidegate.delivery.judge import judge
from tidegate.delivery.steps import GateError, NotDueError
from tidegate.errors import UsageError
from tidegate.evidence import performance
from tidegate.gates.verdict import Verdict, worst
from tidegate.people import erase
from tidegate.stores.postgres import connect
from tidegate.strategy.gate import Gate

#: Its fixture measures all that the gates ask for, on a busy machine minutes long.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def house(reachable_folder: Path) -> Iterator[House]:
    with pytest.MonkeyPatch.context() as patch, sabotaged.house(reachable_folder) as found:
        # A query that sleeps is slow the first time, too.
        patch.setattr(performance, "_RUNS", 20)
        yield found


def rule(said: list[Verdict], name: str) -> Verdict:
    return next(one for one in said if one.rule.startswith(name))


def refused(house: House, gate: Gate, name: str) -> Verdict:
    """Return the verdict that a gate refuses by, whose line asks for what it says; before, the gate let it pass."""
    assert worst(house.passed[gate]) != "FAIL"
    assert rule(house.passed[gate], name).verdict == "PASS"
    said = rule(house.judge(gate), name)
    assert said.verdict == "FAIL", said
    file, _, line = said.target_source.partition(":")
    if line:
        text = (house.project / file).read_text().splitlines()[int(line) - 1]
        assert said.rule.startswith(text.strip(" -").partition(" ")[0]) or f"line {line}" in said.rule
    return said


@pytest.mark.parametrize("gate", sabotaged.GATES, ids=lambda gate: gate.value)
def test_without_a_sabotage_every_gate_lets_it_pass(house: House, gate: Gate) -> None:
    """What nothing measures here is told, with who excuses it."""
    said = house.passed[gate]
    assert [(one.rule, one.value) for one in said if one.verdict == "FAIL"] == []
    assert all("waived in the strategy" in one.value for one in said if one.verdict == "WARN")
    assert any(one.verdict == "PASS" for one in said)


Made = Callable[[House], AbstractContextManager[object]]


@dataclass(frozen=True)
class Sabotage:
    """What is done, whose probe looks, which rule of which gate refuses, and what it says that it found."""

    name: str
    made: Made
    role: str
    probe: str
    gate: Gate
    rule: str
    value: str
    target: str


MIGRATION = '"""pre: notes."""\n\nfrom alembic import op\n\nrevision = "9999"\ndown_revision = "0001"\nUP = AGAIN = "CREATE TABLE IF NOT EXISTS ops.note (n integer PRIMARY KEY)"\nDOWN = "{down}"\n\n\ndef upgrade() -> None:\n    op.execute(UP)\n\n\ndef downgrade() -> None:\n    op.execute(DOWN)\n'


def without_a_down(house: House) -> AbstractContextManager[None]:
    return house.first_migration(crooked=MIGRATION.format(down="SELECT 1"))


def no_word_of_a_down(house: House) -> AbstractContextManager[None]:
    text = re.sub(r"DOWN = .*\n", "", MIGRATION).replace("    op.execute(DOWN)", "    pass")
    return house.first_migration(crooked=text)


@contextmanager
def a_down_that_loses_rows(house: House) -> Iterator[None]:
    """It empties what it should only have put aside."""
    (file,) = (house.project / "migrations/versions").glob("0019_*.py")
    text = file.read_text()
    lost = text.replace(
        "def downgrade() -> None:\n    op.execute(DOWN)\n",
        'def downgrade() -> None:\n    op.execute(DOWN)\n    op.execute("TRUNCATE aside_0019.delivery CASCADE")\n',
    )
    assert lost != text
    with house.changed(str(file.relative_to(house.project)), lost):
        yield


def an_index_of_the_ledger(house: House) -> AbstractContextManager[None]:
    made = "CREATE INDEX batch_by_dataset ON ops.batch (dataset, partition, created_at)"
    told = "COMMENT ON INDEX ops.batch_by_dataset IS 'Back again.'"
    return house.ordered("DROP INDEX ops.batch_by_dataset", f"{made}; {told}")


def the_key_of_a_dataset(house: House) -> AbstractContextManager[None]:
    return house.ordered(
        "ALTER TABLE raw.bookings DROP CONSTRAINT bookings_pkey",
        "ALTER TABLE raw.bookings ADD CONSTRAINT bookings_pkey PRIMARY KEY (booking_id, _partition)",
    )


def a_query_without_an_index(house: House) -> AbstractContextManager[None]:
    text = FILES["queries/flight.sql"].replace("SELECT n FROM raw.flights", "SELECT told FROM marts.fct_flight")
    return house.changed(
        "queries/told.sql",
        text.replace(
            "SELECT told FROM marts.fct_flight WHERE n = %(n)s", "SELECT n FROM marts.fct_flight WHERE told = %(told)s"
        ),
    )


def a_slow_query(house: House) -> AbstractContextManager[None]:
    text = FILES["queries/flight.sql"].replace("SELECT told FROM", "SELECT told, pg_sleep(0.06) FROM")
    return house.changed("queries/flight.sql", text)


def an_impossible_target(house: House) -> AbstractContextManager[None]:
    text = (house.project / STRATEGY).read_text()
    return house.changed(STRATEGY, text.replace("- Query response P95: < 50ms", "- Query response P95: < 0.0001ms"))


def a_test_that_fails(house: House) -> AbstractContextManager[None]:
    return house.changed("tests/sql/crooked.sql", tap("false"))


@contextmanager
def a_test_that_is_flaky(house: House) -> Iterator[None]:
    """A sequence counts on when a transaction is rolled back: every second round passes."""
    dsn = house.rehearsal.primary.dsn("warehouse")
    with (
        house.ordered("CREATE SEQUENCE public.coin", "DROP SEQUENCE public.coin", dsn=dsn),
        house.changed("tests/sql/crooked.sql", tap("nextval('public.coin') % 2 = 1")),
    ):
        yield


def tap(condition: str) -> str:
    return f"BEGIN; SELECT plan(1); SELECT ok({condition}, 'by chance'); SELECT * FROM finish(); ROLLBACK;\n"


@contextmanager
def a_column_that_is_not_masked(house: House) -> Iterator[None]:
    """The rehearsal has somebody's name as the warehouse has it."""
    ((name,),) = house.stack.ask("SELECT passenger_name FROM raw.bookings ORDER BY booking_id LIMIT 1")
    with psycopg.connect(house.rehearsal.primary.dsn("warehouse"), autocommit=True) as connection:
        connection.execute("CREATE TABLE public.copied (passenger_name text)")
        connection.execute("INSERT INTO public.copied VALUES (%s)", [name])
        try:
            yield
        finally:
            connection.execute("DROP TABLE public.copied")


def a_view_that_does_not_mask(house: House) -> AbstractContextManager[None]:
    """Whoever may see the first letter of a name sees all of it."""
    return house.ordered(
        "ALTER VIEW masked.bookings RENAME TO set_aside; CREATE VIEW masked.bookings AS SELECT passenger_name FROM raw.bookings; "
        "ALTER VIEW masked.bookings OWNER TO tidegate",
        "DROP VIEW masked.bookings; ALTER VIEW masked.set_aside RENAME TO bookings",
    )


def a_policy_that_is_dropped(house: House) -> AbstractContextManager[None]:
    own = "(carrier = (SELECT ops.tenant()))"
    return house.ordered(
        "DROP POLICY tenant ON raw.bookings",
        f"CREATE POLICY tenant ON raw.bookings USING {own} WITH CHECK {own}",
    )


def policies_that_are_off(house: House) -> AbstractContextManager[None]:
    dsn = house.rehearsal.primary.dsn("warehouse")
    return house.ordered(
        "ALTER TABLE raw.bookings DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE raw.bookings ENABLE ROW LEVEL SECURITY",
        dsn=dsn,
    )


@contextmanager
def a_person_who_stays(_: House) -> Iterator[None]:
    """What was refused is not looked through when somebody is erased."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(erase, "_erase_refused", lambda *_: None)
        yield


def a_dbt_test_that_is_gone(house: House) -> AbstractContextManager[None]:
    text = FILES["models/marts/fct_flight.yml"]
    return house.changed("models/marts/fct_flight.yml", text[: text.index("      - holds")])


def a_suite_that_is_empty(house: House) -> AbstractContextManager[None]:
    return house.changed("expectations/bookings.yaml", "expectations: []\n")


@contextmanager
def a_replica_that_stands_still(house: House) -> Iterator[None]:
    with psycopg.connect(house.rehearsal.replica.dsn(), autocommit=True) as replica:
        replica.execute("SELECT pg_wal_replay_pause()")
        try:
            yield
        finally:
            replica.execute("SELECT pg_wal_replay_resume()")


@contextmanager
def a_backup_that_is_damaged(house: House) -> Iterator[None]:
    """Where its control file should be, it has nothing but zeros; a table's pages the WAL may bring back."""
    newest = shelf.backups(house.settings)[-1]
    (victim,) = shelf.folder_of(house.settings, newest.backup_id).rglob("pg_control")
    content = victim.read_bytes()
    victim.write_bytes(bytes(len(content)))
    try:
        yield
    finally:
        victim.write_bytes(content)


SABOTAGES = [
    Sabotage("a migration whose down does nothing", without_a_down, "MIG", "migration_each", Gate.MIGRATION, "migration_each schema_lines_that_differ", r"\d+ \(tests/integration/migration_9999_down\.log\)", "= 0"),
    Sabotage("a migration without a down", no_word_of_a_down, "MIG", "migration_each", Gate.MIGRATION, "migration_each schema_lines_that_differ", r"not measured: .*crooked\.py: no DOWN", "= 0"),
    Sabotage("a down that loses rows", a_down_that_loses_rows, "MIG", "migration_full_chain", Gate.MIGRATION, "migration_full_chain tables_that_differ", r"1 \(.*\.log\), and 1 more", "= 0"),
    Sabotage("a dropped index of the ledger", an_index_of_the_ledger, "PG", "index_usage", Gate.QUERY, "index_usage missing", r"1 \(pg/index_usage\.log\)", "= 0"),
    Sabotage("a dropped key of a dataset", the_key_of_a_dataset, "PG", "index_usage", Gate.QUERY, "index_usage missing", r"1 \(pg/index_usage\.log\)", "= 0"),
    Sabotage("a sequential scan", a_query_without_an_index, "PG", "explain", Gate.QUERY, "explain unintended_whole_reads", r"1 \(.*told\.json\), and 1 more", "= 0"),
    Sabotage("a slow query", a_slow_query, "PG", "explain", Gate.QUERY, "query P95, line", r"\d+\.\d+ ms \(.*flight\.json\), and 1 more", "< 50 ms"),
    Sabotage("an impossible target", an_impossible_target, "PG", "explain", Gate.QUERY, "query P95, line", r"\d+\.\d+ ms \(.*flight\.json\), and 1 more", "< 0.0001 ms"),
    Sabotage("a failing pgTAP test", a_test_that_fails, "PG", "pgtap", Gate.PGTAP, "pgtap failed", r"1 \(tests/unit/pgtap_results\.log\)", "= 0"),
    Sabotage("a flaky pgTAP test", a_test_that_is_flaky, "PG", "pgtap", Gate.PGTAP, "pgtap flaky", r"1 \(tests/unit/pgtap_results\.log\)", "= 0"),
    Sabotage("an unmasked column of the rehearsal", a_column_that_is_not_masked, "QA", "masking", Gate.COMPLIANCE, "masking found", r"1 \(tests/security/masking\.log\)", "= 0"),
    Sabotage("an unmasked column of a view", a_view_that_does_not_mask, "QA", "masking", Gate.COMPLIANCE, "masking shown", r"\d+ \(tests/security/masking\.log\)", "= 0"),
    Sabotage("a policy removed", a_policy_that_is_dropped, "QA", "rls_verification", Gate.COMPLIANCE, "rls_verification unguarded", r"1 \(.*rls_verification\.log\)", "= 0"),
    Sabotage("policies switched off", policies_that_are_off, "QA", "rls_verification", Gate.COMPLIANCE, "rls_verification foreign_rows_seen", r"\d+ \(.*rls_verification\.log\)", "= 0"),
    Sabotage("a person who is not erased everywhere", a_person_who_stays, "QA", "erasure", Gate.COMPLIANCE, "erasure rows_left", r"1 \(tests/security/erasure\.log\)", "= 0"),
    Sabotage("a dbt test removed", a_dbt_test_that_is_gone, "QA", "dbt_results", Gate.QA, "dbt_results tests_lost", r"1 \(tests/quality/dbt_results\.log\)", "= 0"),
    Sabotage("a suite emptied", a_suite_that_is_empty, "QA", "expectations", Gate.QA, "expectations rules_lost", r"2 \(tests/quality/expectations\.log\)", "= 0"),
    Sabotage("a replica that lags", a_replica_that_stands_still, "QA", "replication", Gate.FAILOVER, "replication lag, line", r"\d+\.\d+ s \(.*replication_lag\.log\)", "< 1 s"),
    Sabotage("a backup that does not restore", a_backup_that_is_damaged, "QA", "backup_restore", Gate.QA, "backup and restore, line", r"1 \(tests/release/backup_restore\.log\)|not measured: .*", "= 0"),
]  # fmt: skip


@pytest.mark.parametrize("one", SABOTAGES, ids=lambda one: one.name)
def test_a_sabotage_is_refused_by_the_gate_that_is_meant_for_it(house: House, one: Sabotage) -> None:
    with one.made(house):
        house.take(one.role, one.probe)
        said = refused(house, one.gate, one.rule)
    assert re.match(one.value, said.value), said.value
    assert said.target == one.target


def test_a_leaked_secret_ends_the_delivery_at_once(house: House) -> None:
    secret = "AKIA" + "QYLPMN5HFIQR7XYZ"
    house.write("aws.py", f'aws_access_key_id = "{secret}"\n')
    house.commit("feat(x): a key")
    with connect(house.settings) as connection:
        waves = [Verdict(gate.value, "all", "PASS", "", "", "", "1") for gate in (Gate.PLANNING, Gate.ENGINEERING)]
        ledger.record_verdicts(connection, house.place.delivery, 1, waves)
    try:
        house.take("QA", "gitleaks_full")
        said = refused(house, Gate.SECRETS, "gitleaks_full leaks")
        assert (said.value, said.target) == ("1 (tests/security/gitleaks_full.log)", "= 0")
        told = r"No Secrets Gate refuses: gitleaks_full leaks: 1 \(.*\), expected = 0 \(teams/database.yaml:\d+\)"
        with pytest.raises(GateError, match=told):
            steps.decide(house.settings, DELIVERY, Gate.SECRETS)
        ended = house.place.delivery
        assert (ended.state, ended.finished_at is None) == ("failed", False)
        assert "rotate what leaked at once" in (ended.reason or "")
        with pytest.raises(NotDueError, match="the delivery has ended: No Secrets Gate"):
            steps.perform(house.settings, DELIVERY, "QA", "3")
        assert secret not in (house.evidence / "tests/security/gitleaks_full.log").read_text()
    finally:
        house.git("reset", "--quiet", "--hard", "HEAD~1")
        with connect(house.settings) as connection:
            ledger.reopen(connection, DELIVERY, DELIVERY)


def test_evidence_that_was_edited_is_refused_whatever_its_manifest_says(house: House) -> None:
    house.take("PG", "index_usage")
    file, manifest = house.evidence / "pg/index_usage.log", house.evidence / "manifests/PG_manifest.md"
    with house.changed(".team/evidence/pg/index_usage.log", file.read_text() + "Nothing is missing.\n"):
        edited = refused(house, Gate.EVIDENCE, "manifest of PG")
        assert re.search(
            r"pg/index_usage\.log: the file has changed since: SHA-256 \w{12}…, expected \w{12}…", edited.value
        )
        assert edited.target == "VERIFIED"
        now, taken = re.findall(r"(\w{12})…", edited.value)
        whole = re.sub(rf"{taken}\w*", _hash(file), manifest.read_text())
        with house.changed(".team/evidence/manifests/PG_manifest.md", whole):
            said = refused(house, Gate.EVIDENCE, "manifest of PG")
            assert f"the manifest says SHA-256 {now}…, taken as {taken}…" in said.value
    assert rule(house.judge(Gate.EVIDENCE), "manifest of PG").verdict == "PASS"
    lines = [line for line in manifest.read_text().splitlines() if "index_usage.log" not in line]
    with house.changed(".team/evidence/manifests/PG_manifest.md", "\n".join(lines)):
        said = refused(house, Gate.EVIDENCE, "manifest of PG")
        assert "index_usage.log: it was taken, and the manifest does not tell of it" in said.value


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_evidence_of_an_earlier_run_counts_for_nothing(house: House) -> None:
    """Neither in the place of what was taken since, nor for a delivery that has taken none."""
    house.take("PG", "index_usage")
    house.take("PG", "index_usage")
    older = max((house.project / ".team/archive/evidence/pg").glob("index_usage.log.*"))
    with house.changed(".team/evidence/pg/index_usage.log", older.read_text()):
        said = refused(house, Gate.EVIDENCE, "manifest of PG")
        assert "pg/index_usage.log: the file has changed since" in said.value
    with connect(house.settings) as connection:
        facts = vars(house.place.delivery) | {
            "delivery_id": "manual__next",
            "team": "another",
            "dag_run_id": "manual__next",
        }
        ledger.begin(connection, facts)
        place = replace(house.place, delivery=ledger.get(connection, "manual__next"))
    case = cases.gather(place)
    assert (house.evidence / "pg/index_usage.log").exists()
    said = rule(judge(Gate.QUERY, case), "index_usage missing")
    assert (said.verdict, said.value) == ("FAIL", "not measured: the probe index_usage was not run for this delivery")
    said = rule(judge(Gate.EVIDENCE, case), "manifest of PG")
    assert (said.verdict, "index_usage.log: it was not taken for this delivery" in said.value) == ("FAIL", True)


def test_an_approval_is_void_when_anything_has_changed_since(house: House) -> None:
    def approve() -> None:
        delivery = house.place.delivery
        shown = approval.subject(house.settings, delivery, "deployment")
        approval.decide(house.settings, house.team, delivery, shown, shown, "approve", by="Grace", why="read it")
        assert rule(house.judge(Gate.DEPLOYMENT), "deployment").verdict == "PASS"

    approve()
    (file,) = (house.project / "migrations/versions").glob("0019_*.py")
    changes = {
        str(file.relative_to(house.project)): file.read_text().replace(
            "REFERENCES ops.delivery", "REFERENCES  ops.delivery"
        ),
        STRATEGY: (house.project / STRATEGY).read_text().replace("P95: < 50ms", "P95: < 60ms"),
        "models/marts/fct_flight.sql": FILES["models/marts/fct_flight.sql"].replace("'flight '", "'Flight '"),
        ".team/releases/DEPLOYMENT_SIGNOFF.md": "all is well\n",
    }
    for path, text in changes.items():
        with house.changed(path, text):
            said = refused(house, Gate.DEPLOYMENT, "deployment")
        assert re.match(
            r"approved by Grace, but what was approved \(\w{12}…\) has changed since \(\w{12}…\)", said.value
        ), path
        assert rule(house.judge(Gate.DEPLOYMENT), "deployment").verdict == "PASS", path
    house.take("PG", "index_usage")
    assert "has changed since" in refused(house, Gate.DEPLOYMENT, "deployment").value
    with pytest.raises(UsageError, match="the author cannot approve"):
        approval.check(house.settings, house.team, "deployment", "approve", by="Ada", why="it is mine")
