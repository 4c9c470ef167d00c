"""A stream with personal columns: its rows are the batch's rows, and what is sealed there is in plain nowhere here."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from psycopg import sql
from psycopg.rows import dict_row
from tests.conftest import KEYS
from tests.contracts.command import run
from tests.kafka_servers import reaching
from tests.stream.parcels import letters
from tests.whole import CHECKOUT

from tidegate.contracts import Contract, load, load_all
from tidegate.errors import ContractError, HeldError, NoKeyError
from tidegate.evidence import encryption
from tidegate.gates.tables import of_streams
from tidegate.ingest import refused_messages
from tidegate.people import erase, places
from tidegate.people.export import export
from tidegate.people.person import Person
from tidegate.publish.partitions import archive_outlived, restore
from tidegate.rehearsal.mask import mask
from tidegate.rotation.places import census
from tidegate.rotation.rotate import rotate
from tidegate.run import bookings
from tidegate.run.messages import Disturbance
from tidegate.run.play import Played, play, seats
from tidegate.sealing import Seal, keyring
from tidegate.sealing.columns import place
from tidegate.sealing.keys import generate, parse
from tidegate.settings import Settings, load_settings
from tidegate.stack.kafka_server import KafkaServer
from tidegate.stack.postgres import PostgresServer
from tidegate.stores import kafka as store
from tidegate.stores.postgres import connect
from tidegate.stream.judge import judge
from tidegate.stream.ledger import newest_batch
from tidegate.stream.reconcile import reconcile
from tidegate.stream.worker import Account, Worker
from tidegate.wave import ingest

SEATS = 120
NOW = datetime.now(UTC)
FIRST, LAST = date(2013, 1, 1), date(2013, 1, 31)
POOR = Disturbance(seed=2, disorder=0.2, duplicates=0.1, poison=0.3)
SEALED = ("email", "phone", "document_number")


@dataclass
class Agency:
    """A project with the bookings, delivered and streamed, whose topic a real broker has."""

    settings: Settings
    server: PostgresServer
    root: Path
    topic: str

    @property
    def contract(self) -> Contract:
        return load(self.settings, bookings.STREAM)

    def play(self, disturbance: Disturbance) -> Played:
        return play(self.settings, FIRST, LAST, None, disturbance, record=seats(SEATS), topic=self.topic)

    def drain(self) -> Account:
        return Worker(self.settings, bookings.STREAM).drain()

    def send(self, *messages: Any, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        with closing(store.producer(self.settings)) as producer:
            for message in messages:
                value = message if isinstance(message, bytes) else json.dumps(message).encode()
                producer.send(self.topic, value, key=b"k", headers=list(headers)).get()

    def people(self) -> list[dict[str, str]]:
        """Every passenger of the month, as delivered."""
        file = self.settings.inbox_path / "bookings/bookings-2013-01.csv.gz"
        return list(csv.DictReader(io.StringIO(gzip.decompress(file.read_bytes()).decode())))

    def administrate(self, statement: Any) -> list[dict[str, Any]]:
        """Run a statement as the server's superuser, whom no policy binds."""
        assert self.settings.warehouse_url is not None
        name = self.settings.warehouse_url.get_secret_value().rpartition("/")[2].partition("?")[0]
        with psycopg.connect(self.server.dsn(name), autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def rows(self, dataset: str) -> list[dict[str, Any]]:
        """The published rows, opened."""
        contract = load(self.settings, dataset)
        names = [column.name for column in load(self.settings, bookings.DATASET).columns]
        found = self.administrate(
            sql.SQL("SELECT {} FROM raw.{} ORDER BY booking_id").format(
                sql.SQL(", ").join(
                    sql.SQL("{0}::bytea AS {0}" if name in SEALED else "{0}").format(sql.Identifier(name))
                    for name in names
                ),
                sql.Identifier(contract.table),
            )
        )
        for name in SEALED:
            values = Seal(keyring(self.settings), place(dataset, name)).open(row[name] for row in found)
            for row, value in zip(found, values, strict=True):
                row[name] = None if value is None else value.decode()
        return found

    def letters(self) -> list[Any]:
        return letters(self.settings, self.topic)

    def dump(self, *, without: Sequence[str] = ()) -> str:
        """Every row of every table, and what the planner knows of them, as it lies there."""
        names = self.administrate(
            "SELECT nspname, relname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace "
            "WHERE relkind = 'r' AND pg_class.oid > 16384"
        )
        told = [
            row["t"]
            for name in names
            if name["nspname"] not in without
            for row in self.administrate(
                sql.SQL("SELECT t::text AS t FROM {} AS t").format(sql.Identifier(*name.values()))
            )
        ]
        if not without:
            told += [str(row) for row in self.administrate("SELECT most_common_vals, histogram_bounds FROM pg_stats")]
        return "\n".join(told)


@pytest.fixture
def agency(
    postgres: PostgresServer,
    shared_kafka: KafkaServer,
    settings: Settings,
    topic: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Agency:
    """January's bookings are published from their file; the topic is empty."""
    root = tmp_path / "project"
    (root / "schemas").mkdir(parents=True)
    name = topic(**{"retention.ms": "600000000"})
    for dataset in (bookings.DATASET, bookings.STREAM):
        shutil.copy(CHECKOUT / f"schemas/{dataset}.odcs.yaml", root / "schemas")
    path = root / "schemas/booking_event.odcs.yaml"
    told = path.read_text().replace("value: booking_event", f"value: {name}").replace("value: 0.05", "value: 0.9")
    path.write_text(told)
    monkeypatch.setenv("TIDEGATE_PROJECT", str(root))
    found = reaching(load_settings(), shared_kafka, monkeypatch)
    bookings.deliver(found, ["2013-01"], SEATS)
    ingest(found, bookings.DATASET, "2013-01")
    return Agency(found, postgres, root, name)


def secrets(agency: Agency, *names: str) -> set[str]:
    return {row[name] for row in agency.people() for name in names if row[name]}


def test_the_streams_rows_are_the_batchs_rows(agency: Agency) -> None:
    played = agency.play(POOR)
    account = agency.drain()
    assert (account.rows, account.known, account.refused) == (
        played.events, played.duplicates, sum(played.poison.values()),
    )  # fmt: skip
    assert account.rows == SEATS
    assert agency.rows(bookings.STREAM) == agency.rows(bookings.DATASET)
    assert reconcile(agency.settings, agency.contract).rows == SEATS


def test_what_comes_again_is_known_though_no_two_sealed_values_are_alike(agency: Agency) -> None:
    played = agency.play(Disturbance())
    agency.drain()
    agency.play(Disturbance())
    account = agency.drain()
    assert (account.rows, account.known, account.refused) == (0, played.events, 0)
    other = {**agency.people()[0], "booked_at": "2013-01-01T00:00:00Z", "email": "somebody@example.org"}
    agency.send({**other, "flight": int(other["flight"]), "phone": other["phone"] or None})
    assert agency.drain().refused == 1


def test_nothing_of_a_passenger_lies_in_plain_where_it_is_not_published(
    agency: Agency, capfd: pytest.CaptureFixture[str]
) -> None:
    agency.play(POOR)
    with structlog.testing.capture_logs() as logs:
        agency.drain()
        batch = newest_batch(agency.settings, bookings.STREAM)
        assert batch is not None
        judge(agency.settings, agency.contract, batch)
    agency.administrate("ANALYZE")
    confidential = secrets(agency, *SEALED)
    everything = agency.dump()
    assert "booking_id" in everything
    assert not [value for value in confidential if value in everything]
    # Names are restricted: in plain in the tables that readers are kept from, and nowhere else.
    people = confidential | secrets(agency, "passenger_name")
    evidence = [file.read_text() for file in (agency.settings.home / "evidence").rglob("*.json")]
    letters = [str((m.key, m.value, m.headers)) for m in agency.letters()]
    said = capfd.readouterr()
    assert evidence
    assert letters
    assert logs
    elsewhere = "\n".join(
        [agency.dump(without=["raw", "pg_catalog"]), *evidence, *letters, str(logs), said.out, said.err]
    )
    assert not [value for value in people if value in elsewhere]
    with connect(agency.settings) as connection:
        audited = encryption.audit(connection, [agency.contract])
    assert (audited.findings, audited.values > SEATS) == ([], True)


def test_a_dead_letter_says_where_the_message_lies_and_no_more(agency: Agency) -> None:
    agency.send(b"canary@example.org", headers=[("trace", b"canary@example.org")])
    agency.drain()
    (letter,) = agency.letters()
    told = dict(letter.headers)
    assert (letter.key, letter.value) == (None, b"")
    assert (told["tidegate.topic"].decode(), told["tidegate.rule"]) == (agency.topic, b"structure")
    assert "trace" not in told


def test_a_refused_message_is_opened_repaired_and_replayed(agency: Agency, tmp_path: Path) -> None:
    person = agency.people()[0]
    whole = {**person, "flight": int(person["flight"]), "booked_at": "2013-01-01T00:00:00Z", "phone": None}
    agency.send(whole | {"email": "no address"}, headers=[("trace", b"\xff")])
    agency.drain()
    (refused,) = agency.administrate("SELECT * FROM quarantine.refused_message")
    assert (refused["rule"], refused["column_name"]) == ("pattern", "email")
    assert bytes(refused["message_value"])[0] == 0xF5
    assert refused["headers"].keys() == {"sealed$"}
    assert refused["value"].startswith("sealed:")
    file = tmp_path / "repair.jsonl"
    assert run("quarantine", "export", "--to", str(file)).exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    (line,) = [json.loads(text) for text in file.read_text().splitlines()]
    assert json.loads(line["value"])["email"] == "no address"
    again = run("quarantine", "replay", str(file))
    assert "column email: found something else, expected email matches" in again.output
    file.write_text(json.dumps(line | {"value": whole}))
    assert "1 messages accepted" in run("quarantine", "replay", str(file)).output
    (row,) = agency.rows(bookings.STREAM)
    assert (row["email"], row["passenger_name"]) == (person["email"], person["passenger_name"])
    assert "no address" in run("quarantine", "show", f"m{refused['refused_message_id']}").output


def test_whoever_asks_is_erased_from_the_streams_rows_and_its_quarantine(agency: Agency) -> None:
    agency.play(Disturbance())
    person, *others = agency.people()
    told = {**person, "flight": int(person["flight"]), "booked_at": "2013-01-01T00:00:00Z", "fare_usd": -1}
    # One that is an object, one that is none, and one of somebody else.
    agency.send(
        told, json.dumps(told).encode()[:-3], told | {"email": "x@example.org"} | dict.fromkeys(("phone",), None)
    )
    agency.drain()
    settings, contracts = agency.settings, load_all(agency.settings)
    who = Person.called([f"email={person['email']}"], contracts, keyring(settings).newest)
    kept = export(settings, contracts, who)["datasets"][bookings.STREAM]
    assert sum(len(row["kept_in"]) for row in kept) == 3
    before = [row for row in agency.rows(bookings.STREAM) if row["booking_id"] != person["booking_id"]]
    done = erase.erase(settings, contracts, who, by="ada", why="asked")
    assert done == {"raw": 2, "landing": 1, "quarantine": 2}
    assert export(settings, contracts, who)["datasets"] == {}
    (row,) = [row for row in agency.rows(bookings.STREAM) if row["booking_id"] == person["booking_id"]]
    assert (row["passenger_name"], row["phone"], row["fare_usd"]) == ("erased", None, row["fare_usd"])
    assert [r for r in agency.rows(bookings.STREAM) if r["booking_id"] != person["booking_id"]] == before
    with connect(settings) as connection:
        messages = refused_messages.opened(settings, refused_messages.messages(connection))
        (table,) = (t for t in of_streams(connection) if t.name == "booking_event__2013_01")
        connection.execute("SELECT ops.enter_all()")
        assert places.rows_of(connection, settings, agency.contract, table, who) == []
    assert [message.state for message in messages] == ["dismissed", "dismissed", "open"]
    # The first one named the column that broke a rule, too, which is blank with what is personal.
    assert json.loads(messages[0].message_value or b"") == {
        name: "" if name in (*told.keys() & {"passenger_name", "email", "phone", "birth_on", "document_number"}, "fare_usd")
        else value for name, value in told.items()
    }  # fmt: skip
    assert messages[1].message_value == b"erased"
    assert person["document_number"] not in "".join(str(message) for message in messages[:2])
    assert len(others) == SEATS - 1


def test_an_archived_month_of_a_stream_is_sealed_in_its_file_and_a_person_is_erased_from_it(agency: Agency) -> None:
    agency.play(Disturbance())
    agency.drain()
    settings, contract, right = agency.settings, agency.contract, agency.rows(bookings.STREAM)
    assert archive_outlived(settings, contract, NOW) == []
    (done,) = archive_outlived(settings, contract, NOW + timedelta(days=3 * 366))
    assert (done.trouble, agency.rows(bookings.STREAM)) == (None, [])
    assert done.batch is not None
    file = Path(done.batch.landing_url.removeprefix("file://")).read_bytes()
    assert not [value for value in secrets(agency, *SEALED) if value.encode() in file]
    person, contracts = agency.people()[0], load_all(settings)
    who = Person.called([f"email={person['email']}"], contracts, keyring(settings).newest)
    assert erase.erase(settings, contracts, who, by="ada", why="asked") == {"raw": 1, "landing": 2}
    restore(settings, contract, "2013-01", by="ada", why="the auditors ask")
    found = agency.rows(bookings.STREAM)
    assert [row for row in found if row["passenger_name"] != "erased"] == [
        row for row in right if row["booking_id"] != person["booking_id"]
    ]
    assert export(settings, contracts, who)["datasets"] == {}


def test_a_new_key_takes_over_rows_and_refused_messages_and_a_worker_of_before_is_told(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    agency.play(POOR)
    agency.drain()
    right, seen = agency.rows(bookings.STREAM), threading.Event()
    worker = Worker(agency.settings, bookings.STREAM, told=lambda _: seen.set())
    with ThreadPoolExecutor() as pool:
        at_work = pool.submit(worker.run)
        try:
            agency.send(b"?")
            assert seen.wait(30)
            _rotated(agency, monkeypatch)
            assert agency.rows(bookings.STREAM) == right
            agency.send(b"?")
            assert isinstance(at_work.exception(timeout=30), NoKeyError)
        finally:
            worker.stop.set()
    assert agency.drain().refused == 1


def _rotated(agency: Agency, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = parse(f"{generate('k2')},{KEYS}")
    monkeypatch.setenv("TIDEGATE_ENCRYPTION_KEYS", str(keys))
    agency.settings = load_settings()
    done = rotate(agency.settings, keys, None, lambda _: None)
    assert done["refused messages"] > 0
    assert {use.key: use.needed_by for use in census(agency.settings, keys)}["k1"] == 0


def test_a_copy_of_the_warehouse_has_none_of_it(agency: Agency) -> None:
    agency.play(POOR)
    agency.drain()
    assert agency.settings.warehouse_url is not None
    name = agency.settings.warehouse_url.get_secret_value().rpartition("/")[2].partition("?")[0]
    masked = mask(agency.server.dsn(name), load_all(agency.settings))
    assert masked["quarantine.refused_message"] == ["message_key", "message_value", "headers", "value"]
    assert agency.administrate(
        "SELECT count(*) AS n FROM quarantine.refused_message WHERE message_value IS NOT NULL"
    ) == [{"n": 0}]


def test_tenants_are_kept_apart_in_every_partition_of_the_stream(agency: Agency) -> None:
    agency.play(Disturbance())
    agency.drain()
    assert not agency.administrate(
        "SELECT relname FROM pg_class WHERE relname LIKE 'booking_event%' AND relkind IN ('r', 'p') "
        "AND relnamespace = 'raw'::regnamespace AND NOT (relrowsecurity AND relforcerowsecurity)"
    )
    with connect(agency.settings) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT count(*) AS n FROM raw.booking_event")


def test_a_contract_that_does_not_say_how_long_its_topic_keeps_personal_values_is_refused(agency: Agency) -> None:
    path = agency.root / "schemas/booking_event.odcs.yaml"
    path.write_text(path.read_text().replace("topicRetention", "somethingElse"))
    with pytest.raises(
        ContractError, match=r"'passenger_name' is restricted, and a topic keeps messages in plain.*topicRetention"
    ):
        agency.drain()


def test_a_topic_that_keeps_personal_values_for_longer_holds_the_stream(agency: Agency) -> None:
    path = agency.root / "schemas/booking_event.odcs.yaml"
    path.write_text(path.read_text().replace("value: 7 d", "value: 6 d"))
    agency.play(Disturbance())
    agency.drain()
    batch = newest_batch(agency.settings, bookings.STREAM)
    assert batch is not None
    with pytest.raises(HeldError, match="topic retention"):
        judge(agency.settings, agency.contract, batch)
