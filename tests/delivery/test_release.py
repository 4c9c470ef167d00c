"""Releases into a real warehouse, with dbt and all: what they leave there, what a failing one leaves, and a killed one."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr
from tests.conftest import CHECKOUT, KEYS, OWNER, PASSWORD, TEMPLATE
from tests.delivery.repository import Repository
from tests.shop import MARCH, Shop

from tidegate.delivery import health, ledger, release, version
from tidegate.delivery.ledger import Delivery, Release
from tidegate.errors import HeldError, UsageError
from tidegate.gates import ledger as gates
from tidegate.gates.verdict import Verdict
from tidegate.migrate import door, steps
from tidegate.publish import marts, schemas
from tidegate.settings import Settings, load_settings
from tidegate.stack import dump
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database
from tidegate.stores.postgres import connect

MIGRATION = '''"""pre: notes on orders."""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0901"
down_revision = "{before}"

UP = """
CREATE TABLE core.note (note_id bigint PRIMARY KEY, told text NOT NULL);
INSERT INTO core.note SELECT n, 'note ' || n FROM generate_series(1, 5) AS n;
"""
DOWN = "CREATE SCHEMA aside_0901; ALTER TABLE core.note SET SCHEMA aside_0901;"
AGAIN = "ALTER TABLE aside_0901.note SET SCHEMA core; DROP SCHEMA aside_0901;"


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
'''
FLIGHTS = "-- Flights there are.\n-- target: P95 < 50 ms\n-- sample: SELECT n FROM raw.flights\nSELECT count(*) FROM marts.fct_flight WHERE n = %(n)s\n"
NOTES = "-- A note.\n-- target: P95 < 50 ms\n-- sample: SELECT note_id FROM core.note\nSELECT {column} FROM core.note WHERE note_id = %(note_id)s\n"


@dataclass
class House:
    """A project in git with a small dbt project, its warehouse, and deliveries to it."""

    repository: Repository
    settings: Settings

    def commit(self, **files: str) -> None:
        for name, text in files.items():
            self.repository.write(name, text)
        self.repository.git("add", "--all")
        self.repository.git("commit", "--quiet", "--message=feat(x): more")

    def deliver(self, name: str) -> Delivery:
        facts = {
            "delivery_id": name, "team": "database", "strategy": "strategies/database.md", "strategy_sha256": "0" * 64,
            "code_version": self.repository.git("rev-parse", "HEAD"), "started_by": "Ada", "dag_run_id": name,
        }  # fmt: skip
        with connect(self.settings) as connection:
            ledger.begin(connection, facts)
            return ledger.get(connection, name)

    def close(self, delivery: Delivery) -> None:
        with connect(self.settings) as connection:
            ledger.set_state(connection, delivery.delivery_id, "success")

    def release(self, delivery: Delivery, say: Any = lambda _: None) -> Release:
        return release.release(self.settings, self.repository.team, delivery, say)

    def ask(self, query: str) -> list[dict[str, Any]]:
        assert self.settings.warehouse_url is not None
        with psycopg.connect(self.settings.warehouse_url.get_secret_value(), row_factory=dict_row) as connection:
            return connection.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]

    def value(self, query: str) -> Any:
        return next(iter(self.ask(query)[0].values()))

    def schema(self) -> str:
        """Everything but what is set aside; of the marts, whose views name a swap, what readers find."""
        shown = self.ask(
            "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'marts' ORDER BY 1, 2"
        )
        apart = ("marts", "marts_*", "aside_*")
        text = dump.schema(self.settings, *(f"--exclude-schema={name}" for name in apart))
        # In which order statements stand depends on which views need which table.
        return "\n\n".join(sorted(text.split("\n\n"))) + repr(shown)

    def tags(self) -> list[str]:
        return self.repository.git("tag", "--list").splitlines()


def mini(repository: Repository) -> None:
    """Give the project migrations, a contract's folder, a query and a model of its own."""
    root = repository.root
    shutil.copytree(CHECKOUT / "migrations", root / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CHECKOUT / "macros", root / "macros")
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(CHECKOUT / name, root)
    repository.write("models/marts/fct_flight.sql", "select n, 'first' as made_for from raw.flights\n")
    repository.write("queries/flights.sql", FLIGHTS)
    repository.git("checkout", "--quiet", "--", ".")


@pytest.fixture(scope="module")
def built(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose first release has been made, of a migration less than the second one will have."""
    folder, name = tmp_path_factory.mktemp("house"), f"house_{uuid.uuid4().hex[:12]}"
    repository = Repository.make(folder)
    mini(repository)
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection, pytest.MonkeyPatch.context() as patch:
        ensure_database(connection, name, OWNER, TEMPLATE)
        patch.setenv("TIDEGATE_WAREHOUSE_URL", postgres.dsn(name, OWNER, PASSWORD))
        patch.setenv("TIDEGATE_ENCRYPTION_KEYS", KEYS)
        shop = Shop(load_settings(project=repository.root, home=folder / "home"), repository.root)
        shop.agree()
        shop.ingest(MARCH)
        shop.query("CREATE TABLE raw.flights AS SELECT generate_series(1, 100) AS n")
        found = House(repository, shop.settings)
        found.commit()
        first = found.deliver("first")
        found.release(first)
        found.close(first)
        yield found
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def house(built: House, postgres: PostgresServer, tmp_path: Path) -> Iterator[House]:
    """A copy of it, one migration and one model behind its project."""
    assert built.settings.warehouse_url is not None
    name, source = f"house_{uuid.uuid4().hex[:12]}", built.settings.warehouse_url.get_secret_value().rpartition("/")[2]
    folder = tmp_path / "house"
    shutil.copytree(built.repository.root.parent, folder, symlinks=True)
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        ensure_database(connection, name, OWNER, source.partition("?")[0])
        url = postgres.dsn(name, OWNER, PASSWORD)
        settings = built.settings.model_copy(
            update={"project": folder / "project", "home": folder / "home", "warehouse_url": SecretStr(url)}
        )
        found = House(Repository(folder / "project", folder / "home"), settings)
        head = steps.read(CHECKOUT)[-1].revision
        found.commit(
            **{
                "migrations/versions/0901_note.py": MIGRATION.format(before=head),
                "models/marts/fct_flight.sql": "select n, 'second' as made_for from raw.flights\n",
                "queries/notes.sql": NOTES.format(column="told"),
            }
        )
        yield found
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_a_release_takes_migrations_and_marts_into_the_warehouse_and_tags_the_commit(house: House) -> None:
    head = steps.read(CHECKOUT)[-1].revision
    delivery = house.deliver("second")
    user = house.repository.of_the_user()
    told: list[str] = []
    done = house.release(delivery, told.append)
    assert told == ["begin", "backup", "migrations", "marts", "health", "tag"]
    number = int(head)
    assert (done.version, done.state) == (f"0.{number + 1}.0", "released")
    assert (done.from_revision, done.to_revision) == (head, "0901")
    assert done.backup_id == f"before-v{done.version}.dump"
    assert (house.settings.home / "backups" / done.backup_id).read_bytes()[:5] == b"PGDMP"
    assert house.ask("SELECT DISTINCT made_for FROM marts.fct_flight") == [{"made_for": "second"}]
    assert house.value("SELECT count(*) FROM core.note") == 5
    assert house.tags() == [f"v0.{number}.0", f"v{done.version}"]
    assert house.repository.git("rev-parse", f"v{done.version}^{{commit}}") == delivery.code_version
    assert house.repository.of_the_user() == user
    # Again: nothing is left to be done, and nothing is.
    steps_before = house.value("SELECT count(*) FROM ops.step")
    told.clear()
    assert house.release(delivery, told.append) == done
    assert told == ["tag"]
    assert house.value("SELECT count(*) FROM ops.step") == steps_before


def test_a_failing_health_check_takes_everything_back(house: House) -> None:
    house.commit(**{"queries/notes.sql": NOTES.format(column="author")})
    delivery, before = house.deliver("second"), house.schema()
    told: list[str] = []
    with pytest.raises(
        HeldError, match=r'the health check found 1 of \d+ wrong: notes: column "author" does not exist'
    ):
        house.release(delivery, told.append)
    assert told[-2:] == ["health", "roll back"]
    assert house.schema() == before
    assert house.ask("SELECT DISTINCT made_for FROM marts.fct_flight") == [{"made_for": "first"}]
    assert house.value("SELECT count(*) FROM aside_0901.note") == 5
    (row,) = house.ask("SELECT state, reason FROM ops.release WHERE delivery_id = 'second'")
    assert row["state"] == "rolled back"
    assert "author" in row["reason"]
    assert len(house.tags()) == 1
    # Once is enough, and it stays so; the next delivery has another number, and its rows are there again.
    with pytest.raises(HeldError, match="was rolled back"):
        house.release(delivery)
    house.close(delivery)
    house.commit(**{"queries/notes.sql": NOTES.format(column="told")})
    third = house.release(house.deliver("third"))
    assert third.version.endswith(".1")
    assert house.value("SELECT count(*) FROM core.note") == 5
    assert house.ask("SELECT DISTINCT made_for FROM marts.fct_flight") == [{"made_for": "second"}]


def test_a_gate_that_holds_the_marts_takes_the_migrations_back(house: House) -> None:
    house.commit(**{"models/marts/fct_flight.sql": "select n, 'half' as made_for from raw.flights where n > 50\n"})
    before = house.schema()
    with pytest.raises(HeldError, match=r"marts: build \w+ of the marts is held"):
        house.release(house.deliver("second"))
    assert house.schema() == before
    assert house.ask("SELECT DISTINCT made_for FROM marts.fct_flight") == [{"made_for": "first"}]


def test_a_release_killed_before_and_after_every_step_ends_as_if_it_had_not_been(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = house.deliver("second")
    names = ["begin", "backup", "migrations", "marts", "health"]
    for name in names:
        assert _killed(house, delivery, monkeypatch, before=name)
        assert name == "begin" or _killed(house, delivery, monkeypatch, after=name)
    assert _killed(house, delivery, monkeypatch, before="tag")
    done = house.release(delivery)
    assert done.state == "released"
    assert len(house.tags()) == 2
    for table, expected in {
        "ops.release WHERE delivery_id = 'second'": 1,
        "ops.schema_change WHERE name = '0901'": 1,
        "ops.marts_swap": 2,
        f"ops.step WHERE subject = 'release {done.version}'": 4,
        "core.note": 5,
    }.items():
        assert house.value(f"SELECT count(*) FROM {table}") == expected, table
    assert len(list((house.settings.home / "backups").glob(f"before-v{done.version}*"))) == 1


def test_a_roll_back_that_is_killed_goes_on_and_takes_back_no_more_than_it_should(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.commit(**{"queries/notes.sql": NOTES.format(column="author")})
    delivery, before = house.deliver("second"), house.schema()
    assert _killed(house, delivery, monkeypatch, before="roll back")
    assert _killed(house, delivery, monkeypatch, after="undo")
    assert _killed(house, delivery, monkeypatch, after="down")
    with pytest.raises(HeldError, match="was rolled back"):
        house.release(delivery)
    assert house.schema() == before
    assert house.value("SELECT count(*) FROM ops.marts_swap") == 3


def _killed(house: House, delivery: Delivery, patch: pytest.MonkeyPatch, before: str = "", after: str = "") -> bool:
    """Release in a child that kills itself before a step, or after what it does and before that is written down."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def say(step: str) -> None:
        if step == before:
            die()

    record, undo, down = gates.record_step, marts.undo, door.downgrade

    def recorded(connection: Any, subject: str, step: str, *rest: Any, **more: Any) -> None:
        if subject.startswith("release ") and step == after:
            die()
        record(connection, subject, step, *rest, **more)

    def then_die(name: str, work: Any) -> Any:
        def done(*given: Any, **more: Any) -> Any:
            result = work(*given, **more)
            if name == after:
                die()
            return result

        return done

    with patch.context() as inside:
        inside.setattr(gates, "record_step", recorded)
        inside.setattr(marts, "undo", then_die("undo", undo))
        inside.setattr(door, "downgrade", then_die("down", down))
        child = os.fork()
        if child == 0:
            try:
                house.release(delivery, say)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
    return status == signal.SIGKILL


def test_the_health_check_sees_what_is_wrong(house: House) -> None:
    with connect(house.settings) as connection:
        (first,) = ledger.releases(connection)
        (batch,) = gates.batches(connection, state="published")
        build = schemas.comment_on(connection, marts.CURRENT)

    def wrong() -> list[str]:
        return [look.told for look in health.check(house.settings, first) if not look.ok]

    # What the house has in its project already is a query about what the next migration brings.
    (missing,) = wrong()
    assert missing.startswith("notes: ")
    (house.repository.root / "queries/notes.sql").unlink()
    assert wrong() == []
    failing = Verdict("contract", "keys are keys", "FAIL", "2", "0", "here", "1")
    sabotage = {
        f"COMMENT ON SCHEMA {marts.CURRENT} IS 'another'": [f"readers see the marts another, the ledger says {build}"],
        "UPDATE ops.migration SET version_num = '0018'": [
            f"the schema is at migration 0018, expected {first.to_revision}"
        ],
        f'ALTER TABLE raw.orders DETACH PARTITION raw."{batch.table}"': [],
        f'ALTER TABLE raw."{batch.table}" SET SCHEMA staging': ["orders 2024-03 is published, and has no table in raw"],
    }
    told: list[str] = []
    for statement, expected in sabotage.items():
        with connect(house.settings) as connection:
            connection.execute(statement)
        told += expected
        assert sorted(wrong()) == sorted(told)
    with connect(house.settings) as connection:
        gates.record_verdicts(connection, batch.batch_id, "orders", "2024-03", [failing])
    assert "orders 2024-03 is published against its gate: keys are keys" in wrong()
    with connect(house.settings) as connection:
        gates.record_decision(connection, batch.batch_id, "release", "Ada", "both are right")
    assert sorted(wrong()) == sorted(told)


def test_two_releases_at_once_are_one_too_many(house: House) -> None:
    delivery = house.deliver("second")

    def stop(step: str) -> None:
        if step == "migrations":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        house.release(delivery, stop)
    with connect(house.settings) as connection:
        connection.execute("UPDATE ops.delivery SET team = 'another' WHERE delivery_id = 'second'")
    with pytest.raises(UsageError, match="of second is under way"):
        house.release(house.deliver("third"))
    # Somebody gives it up: what it did is taken back, and the other one may go on.
    with pytest.raises(HeldError, match="nobody wants it"):
        release.take_back(house.settings, house.repository.team, delivery, lambda _: None, why="nobody wants it")
    with connect(house.settings) as connection:
        third = ledger.get(connection, "third")
    assert house.release(third).state == "released"


def test_the_version_says_what_readers_lose_and_gain(house: House) -> None:
    def number() -> str:
        with connect(house.settings) as connection:
            return version.upcoming(house.settings, connection).number

    head = int(steps.read(CHECKOUT)[-1].revision)
    assert number() == f"0.{head + 1}.0"
    (house.repository.root / "migrations/versions/0901_note.py").unlink()
    assert number() == f"0.{head}.1"
    contract = house.repository.root / "schemas/orders.odcs.yaml"
    text = contract.read_text()
    house.repository.write("schemas/customers.odcs.yaml", text)
    assert number() == f"0.{head + 1}.0"
    contract.write_text(text.replace("name: weight_kg", "name: weight_pounds").replace("1.0.0", "2.0.0"))
    assert number() == "1.0.0"
    house.repository.git("tag", "v1.0.0")
    assert number() == "1.0.1"


@pytest.mark.parametrize(
    ("revision", "part"), [("0001", "minor"), ("0006", "major"), ("0005", "patch"), ("0019", "minor")]
)
def test_a_migration_is_graded_by_its_own_words(revision: str, part: str) -> None:
    (step,) = [one for one in steps.read(CHECKOUT) if one.revision == revision]
    assert version.grade(step)[0] == part
