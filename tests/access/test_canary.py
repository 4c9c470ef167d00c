"""A canary in each classified column is found nowhere it must not be, however deep one looks; and looking would find it."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.access import canary
from tests.access.canary import MONTH, SECRET, Sighting
from tests.whole import CHECKOUT, WAREHOUSE_ALONE, Stack, Whole

from tidegate.stack import dump, roles

pytestmark = pytest.mark.timeout(600)
#: Where rows of a dataset lie, and so restricted values in plain: tables, their files, the WAL, landed files, backups.
ROWS = (
    "raw.",
    "staging.",
    "archive.",
    "postgres/pg_wal/",
    "landing/bookings/",
    "backups/",
    "pg_catalog.pg_stats",
    "`pg_dump`",
)

#: A backup that is squeezed would show no canary that is in it.
ELSEWHERE = WAREHOUSE_ALONE | {"backup_tool": "pg_basebackup"}


@dataclass
class Flown:
    """A stack that has taken the canaries in, with what every command said."""

    stack: Stack
    said: dict[str, str]

    @property
    def home(self) -> Path:
        return self.stack.home

    def call(self, *words: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("tidegate"), *words],
            env={**os.environ, "TIDEGATE_HOME": str(self.home), **{f"TIDEGATE_{k.upper()}": v for k, v in ELSEWHERE.items()}},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        self.said[" ".join(words)] = done.stdout + done.stderr
        return self.said[" ".join(words)]

    def dump(self, *options: str) -> str:
        settings = self.stack.settings
        done = dump.run(settings, "pg_dump", *options, login=roles.credentials(settings, "backup"))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def look(self) -> list[Sighting]:
        """Everywhere: what was said, the database from inside, every file below home."""
        url = canary.superuser(self.stack.settings)
        canary.settle(url)
        self.said["pg_dump"] = self.dump()
        self.said["pg_dump without rows"] = self.dump(
            "--exclude-schema=raw", "--exclude-schema=staging", "--exclude-schema=archive"
        )
        found = [seen for words, text in self.said.items() for seen in canary.seen_in(f"`{words}`", text.encode())]
        return [*found, *canary.tables(url), *canary.sweep(self.home)]


@pytest.fixture(scope="module")
def flown(reachable_folder: Path) -> Iterator[Flown]:
    folder = reachable_folder / uuid.uuid4().hex[:8]
    folder.mkdir(mode=0o711)
    found = Flown(Stack(folder / "home", ELSEWHERE), {})
    try:
        settings = found.stack.up()
        canary.deliver(settings.inbox_path)
        held = found.call("ingest", "bookings", "--partition", MONTH)
        assert "is held: refused rows: 1 of 42 rows" in held
        with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:  # type: ignore[union-attr]
            (batch,) = connection.execute("SELECT batch_id FROM ops.batch").fetchone() or ("",)
        found.call("batch", "release", batch, "--why", "one row will be repaired")
        assert "published" in found.call("ingest", "bookings", "--partition", MONTH)
        for words in (
            ("batch", "show", batch), ("batch", "list"), ("quarantine", "list"), ("report",), ("keys", "list"), ("contract", "check"),
            ("backup", "take"), ("queries",),
        ):  # fmt: skip
            found.call(*words)
        yield found
    finally:
        found.stack.down()


def test_no_confidential_value_is_anywhere_in_plain(flown: Flown) -> None:
    assert [seen for seen in flown.look() if seen.canary in SECRET] == []


def test_a_restricted_value_is_where_rows_lie_and_nowhere_else(flown: Flown) -> None:
    allowed = (*ROWS, canary.warehouse_files(flown.stack.settings))
    seen = [seen for seen in flown.look() if seen.canary not in SECRET]
    assert [one for one in seen if not one.place.startswith(allowed)] == []
    # It is no empty search: the accepted row's name was found where rows do lie.
    places = {one.place.split("/")[0].split(".")[0] for one in seen if one.canary == canary.ACCEPTED["passenger_name"]}
    assert {"raw", "landing", "postgres", "backups"} <= places
    # The refused row is in the quarantine, sealed, and in no table.
    assert not [one for one in seen if one.canary in canary.REFUSED.values()]


#: Where a canary is planted, and which → how the places begin that the search must then find it in.
PLANTED = {
    "a log": (canary.ACCEPTED["email"], ("logs/planted.log",)),
    "evidence, in base64": (canary.ACCEPTED["phone"], ("evidence/planted.json",)),
    "a landed file, packed": (canary.REFUSED["email"], ("landing/planted.parquet",)),
    "what is left in the spool": (canary.REFUSED["passenger_name"], ("spool/planted",)),
    "the WAL": (canary.REFUSED["phone"], ("postgres/pg_wal/",)),
    "a data file": (canary.ACCEPTED["document_number"], ("public.planted", "postgres/base/", "`pg_dump`")),
    "the quarantine": (canary.REFUSED["document_number"], ("quarantine.refused_row", "postgres/base/", "`pg_dump`")),
}


@pytest.fixture(scope="module")
def planted(flown: Flown) -> list[Sighting]:
    """What is seen when there is something to see; it stays, and the tests above have looked before."""
    home, what = flown.home, {place: value for place, (value, _) in PLANTED.items()}
    (home / "logs/planted.log").write_text(f"told {what['a log']}\n")
    (home / "evidence/planted.json").write_bytes(base64.b64encode(what["evidence, in base64"].encode()))
    pq.write_table(
        pa.table({"email": [what["a landed file, packed"]] * 3}), home / "landing/planted.parquet", compression="zstd"
    )
    (home / "spool/planted").write_text(what["what is left in the spool"])
    with psycopg.connect(canary.superuser(flown.stack.settings), autocommit=True) as connection:
        connection.execute("SELECT pg_logical_emit_message(true, 'test', %s)", [what["the WAL"]])
        connection.execute("CREATE TABLE public.planted AS SELECT %s::text AS email", [what["a data file"]])
        connection.execute("UPDATE quarantine.refused_row SET value = %s", [what["the quarantine"]])
    return flown.look()


@pytest.mark.parametrize("place", PLANTED)
def test_a_value_that_is_planted_on_purpose_is_found(planted: list[Sighting], place: str) -> None:
    value, begins = PLANTED[place]
    found = {seen.place for seen in planted if seen.canary == value}
    assert [begin for begin in begins if not any(name.startswith(begin) for name in found)] == []


def test_a_wave_in_airflow_leaves_no_canary_in_its_logs_its_database_or_the_documentation(whole: Whole) -> None:
    contract = whole.project / "schemas/bookings.odcs.yaml"
    before = contract.read_text()
    share = "customProperties:\n  - {property: maxRefusedShare, value: 0.5}\n"
    contract.write_text(before.replace("slaProperties:\n", f"{share}slaProperties:\n", 1))
    try:
        canary.deliver(whole.inbox)
        run = whole.start("ingest_bookings", partition=MONTH)
        assert whole.ended("ingest_bookings", run) == "success"
        said = {words: whole.call(*words.split()) for words in ("docs", "batch list", "quarantine list")}
    finally:
        contract.write_text(before)
    assert {words: done.returncode for words, done in said.items()} == dict.fromkeys(said, 0)
    counted = "SELECT delivered_count, refused_count FROM ops.batch WHERE dataset = 'bookings' AND state = 'published'"
    assert whole.rows(counted) == [{"delivered_count": 42, "refused_count": 1}]
    settings = whole.settings
    for database in ("warehouse", "airflow"):
        canary.settle(canary.superuser(settings, database))
    inside = [
        Sighting(f"{database}: {seen.place}", seen.canary)
        for database in ("warehouse", "airflow")
        for seen in canary.tables(canary.superuser(settings, database))
    ]
    told = [
        seen for words, done in said.items() for seen in canary.seen_in(words, (done.stdout + done.stderr).encode())
    ]
    found = [*told, *inside, *canary.sweep(whole.home)]
    assert [seen for seen in found if seen.canary in SECRET] == []
    rows = tuple(f"warehouse: {place}" for place in ROWS)
    allowed = (*ROWS, *rows, canary.warehouse_files(settings))
    assert [seen for seen in found if not seen.place.startswith(allowed)] == []
    # The logs and XComs that were looked into are those of the run.
    assert list((whole.home / "airflow/logs").glob(f"dag_id=ingest_bookings/run_id={run}/**/*.log"))
    assert whole.rows("SELECT count(*) AS n FROM xcom WHERE dag_id = 'ingest_bookings'", of="airflow")[0]["n"] > 0
    assert (whole.home / "dbt/target/manifest.json").is_file()
