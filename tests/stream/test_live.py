"""A live mart is what its SELECT says of all rows, whatever came late, out of order, or by whom, and whenever dbt builds it anew."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs
from tests.conftest import CHECKOUT, OWNER, PASSWORD, TEMPLATE
from tests.stream.board import BEGIN, MART, Board, events, expected, shown
from tests.stream.parcels import Depot, parcel

from tidegate import dbt
from tidegate.migrate import door
from tidegate.settings import Settings, load_settings
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database
from tidegate.stores.postgres import Connection, connect, warehouse_url
from tidegate.stream import live
from tidegate.stream.live import LiveMarts

BUILT, SCRATCH = "live_built", "live_scratch"
NEXT, CURRENT = f"marts_next.{MART}", f"marts_current.{MART}"
DATASET = "flight_event"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def built(postgres: PostgresServer, home: Path) -> None:
    """The mart, built in a warehouse that has never seen a stream."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        ensure_database(connection, SCRATCH, OWNER, TEMPLATE)
        (done, *checks) = dbt.build(_settings(postgres, home), [MART])
        assert (done.name, done.status, {check.status for check in checks}) == (MART, "success", {"pass"})
        connection.execute(f"ALTER DATABASE {SCRATCH} RENAME TO {BUILT}")


@pytest.fixture
def scratch(postgres: PostgresServer, built: None, home: Path) -> Iterator[Settings]:
    """A copy of it, always of one name: dbt reads all models anew when its profile changes."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        ensure_database(connection, SCRATCH, OWNER, BUILT)
        yield _settings(postgres, home)
        connection.execute(f"DROP DATABASE {SCRATCH} WITH (FORCE)")


def _settings(postgres: PostgresServer, home: Path) -> Settings:
    url = SecretStr(postgres.dsn(SCRATCH, OWNER, PASSWORD))
    return load_settings(project=CHECKOUT, home=home, warehouse_url=url)


@pytest.fixture
def board(scratch: Settings) -> Iterator[Board]:
    with Board(scratch) as board:
        yield board


def _rows_of(connection: Connection, query: str) -> list[dict[str, Any]]:
    with connection.transaction():
        return connection.execute(query).fetchall()


def test_without_a_stream_the_mart_is_there_and_empty(scratch: Settings) -> None:
    with connect(scratch) as connection:
        assert shown(connection, NEXT) == []
        assert [mart.name for mart in live.marts(connection, DATASET)] == [NEXT]
        assert live.refresh(connection, DATASET) == 0
        assert [mart.trouble for mart in live.marts(connection, DATASET)] == [None]


def test_the_first_rows_of_a_stream_are_shown_without_a_build(board: Board) -> None:
    board.take(events(0))
    assert live.refresh(board.connection, DATASET) > 10
    assert shown(board.connection, NEXT) == expected(board.connection)


@pytest.mark.parametrize("seed", range(6))
def test_the_mart_is_its_select_after_each_micro_batch_of_disordered_and_late_events(board: Board, seed: int) -> None:
    drawn = random.Random(seed)
    waiting = events(seed)
    # Places change within some hours; a few come a day late, which the window may have left behind.
    waiting.sort(
        key=lambda e: (
            e["event_at"].timestamp() + 3600 * drawn.choice([0, 0, 0, drawn.random() * 6, drawn.random() * 40])
        )
    )
    seen = set()
    while waiting:
        count = drawn.randrange(1, 30)
        board.take(waiting[:count])
        waiting = waiting[count:]
        live.refresh(board.connection, DATASET)
        rows = shown(board.connection, NEXT)
        assert rows == expected(board.connection)
        seen |= {(row["origin"], row["scheduled_hour_at"]) for row in rows}
    assert len(seen) > len(rows), "hours fell out of the window"


def test_only_what_a_micro_batch_touched_is_written(board: Board) -> None:
    happened = events(1)
    board.take(happened[:-3])
    live.refresh(board.connection, DATASET)
    places = f"SELECT ctid::text AS place, origin, scheduled_hour_at FROM {NEXT}"
    before = _rows_of(board.connection, places)
    late = next(e for e in happened[-4::-1] if e["event_type"] == "departed") | {"flight": 999}
    board.take([late])
    assert live.refresh(board.connection, DATASET) == 1
    moved = [row for row in _rows_of(board.connection, places) if row not in before]
    assert [(row["origin"], row["scheduled_hour_at"]) for row in moved] == [(late["origin"], late["time_hour"])]
    assert live.refresh(board.connection, DATASET) == 0, "nothing has come since"


def test_a_micro_batch_that_was_stamped_before_and_commits_after_a_refresh_is_not_missed(scratch: Settings) -> None:
    with Board(scratch, 0) as slow, Board(scratch, 1) as fast, connect(scratch) as connection:
        first, second, third = events(2)[::3], events(2)[1::3], events(2)[2::3]
        slow.take(first)
        with slow.connection.transaction():
            slow.take(second)
            fast.take(third)
            live.refresh(connection, DATASET)
            assert shown(connection, NEXT) == expected(connection)
            between = shown(connection, NEXT)
        stamps = _rows_of(connection, "SELECT row_count FROM ops.stream_batch ORDER BY committed_at")
        assert [row["row_count"] for row in stamps] == [len(first), len(second), len(third)]
        assert live.refresh(connection, DATASET) > 0
        assert shown(connection, NEXT) == expected(connection) != between


def test_while_one_refreshes_the_others_neither_wait_nor_lose_anything(board: Board, scratch: Settings) -> None:
    happened = events(3)
    board.take(happened[:50])
    with connect(scratch) as other:
        with other.transaction():
            assert live.refresh(other, DATASET) > 0
            board.take(happened[50:])
            assert live.refresh(board.connection, DATASET) == 0
        assert live.refresh(board.connection, DATASET) > 0
    assert shown(board.connection, NEXT) == expected(board.connection)


def _taken_in(settings: Settings, partition: int, happened: list[dict[str, Any]], pause: threading.Event) -> None:
    with Board(settings, partition) as board:
        marts = LiveMarts(board.connection, DATASET)
        for first in range(0, len(happened), 5):
            board.take(happened[first : first + 5])
            marts.turn(True)
            # As messages come, not as fast as they can be written.
            pause.wait(0.02)
        marts.catch_up()


def test_two_workers_at_once_and_a_build_in_their_middle_leave_the_mart_that_its_select_says(scratch: Settings) -> None:
    happened, ended = events(4, flights=400), threading.Event()
    workers = [threading.Thread(target=_taken_in, args=(scratch, n, happened[n::2], ended)) for n in (0, 1)]
    with connect(scratch) as connection:
        before = live.marts(connection, DATASET)
        for worker in workers:
            worker.start()
        dbt.build(scratch, [MART])
        for worker in workers:
            worker.join()
        live.refresh(connection, DATASET)
        after = live.marts(connection, DATASET)
        assert [mart.name for mart in after] == [NEXT]
        assert after[0].oid != before[0].oid
        assert after[0].trouble is None
        assert shown(connection, NEXT) == expected(connection)
        assert len(_rows_of(connection, "SELECT mart FROM ops.stream_mart")) == 1, "the table that is gone is forgotten"


def test_every_build_follows_whatever_schema_it_was_moved_to(board: Board, scratch: Settings) -> None:
    happened = events(5)
    board.take(happened[:60])
    board.connection.execute("ALTER SCHEMA marts_next RENAME TO marts_current")
    board.connection.commit()
    dbt.build(scratch, [MART])
    board.take(happened[60:])
    live.refresh(board.connection, DATASET)
    assert [mart.name for mart in live.marts(board.connection, DATASET)] == [CURRENT, NEXT]
    assert shown(board.connection, CURRENT) == shown(board.connection, NEXT) == expected(board.connection)


def test_a_warehouse_that_was_restored_on_another_server_makes_its_marts_anew(board: Board) -> None:
    board.take(events(0))
    live.refresh(board.connection, DATASET)
    # Of a server that was much further, so that nothing seems to have come since.
    board.connection.execute(f"DELETE FROM {NEXT}")
    board.connection.execute("UPDATE ops.stream_mart SET server = 7, seen = '900000000:900000000:'")
    board.connection.commit()
    live.refresh(board.connection, DATASET)
    assert shown(board.connection, NEXT) == expected(board.connection)


def test_a_mart_comes_back_from_a_way_down_as_it_was_or_is_made_anew_where_its_stream_went_on(
    scratch: Settings,
) -> None:
    happened, url = events(7), warehouse_url(scratch)
    with Board(scratch) as board:
        board.take(happened[:60])
        live.refresh(board.connection, DATASET)
        before = _rows_of(board.connection, "SELECT * FROM ops.stream_mart")
        board.connection.commit()
        door.downgrade(url, CHECKOUT, "0022")
        door.upgrade(url, CHECKOUT)
        assert _rows_of(board.connection, "SELECT * FROM ops.stream_mart") == before
        assert before[0]["seen"] is not None
        board.connection.commit()
        door.downgrade(url, CHECKOUT, "0022")
        board.take(happened[60:])
        door.upgrade(url, CHECKOUT)
        live.refresh(board.connection, DATASET)
        assert shown(board.connection, NEXT) == expected(board.connection)


def test_a_mart_that_cannot_follow_is_told_of_once_and_stops_nobody(board: Board) -> None:
    happened = events(6)
    board.take(happened[:60])
    live.refresh(board.connection, DATASET)
    sound = _rows_of(board.connection, "SELECT touched FROM ops.stream_mart")[0]["touched"]
    board.connection.execute("UPDATE ops.stream_mart SET touched = 'SELECT nothing'")
    board.connection.commit()
    marts = LiveMarts(board.connection, DATASET)
    with capture_logs() as told:
        for count in (60, 70, 80):
            board.take(happened[count : count + 10])
            marts.catch_up()
    assert [entry["mart"] for entry in told if entry["event"] == "live mart stands still"] == [NEXT]
    (mart,) = live.marts(board.connection, DATASET)
    assert mart.trouble == 'column "nothing" does not exist'
    board.connection.execute("UPDATE ops.stream_mart SET touched = %s", [sound])
    board.connection.commit()
    marts.catch_up()
    assert [mart.trouble for mart in live.marts(board.connection, DATASET)] == [None]
    assert shown(board.connection, NEXT) == expected(board.connection)


def test_marts_follow_at_most_once_a_pause_and_at_once_when_nothing_comes(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(live, "refresh", lambda _, dataset: done.append(dataset))
    marts = LiveMarts(board.connection, DATASET)
    monkeypatch.setattr(live, "_PAUSE", 3600.0)
    for came, refreshed in ((True, 1), (True, 1), (True, 1), (False, 2), (False, 2), (True, 2), (False, 3)):
        marts.turn(came)
        assert len(done) == refreshed
    monkeypatch.setattr(live, "_PAUSE", 0.0)
    marts.turn(True)
    assert len(done) == 4


FOLLOWED = """
CREATE TABLE marts_next.city_now (city text PRIMARY KEY, parcel_count bigint NOT NULL);
INSERT INTO ops.stream_mart (mart, dataset, source, key_columns, definition, touched, outlived) VALUES (
    'marts_next.city_now', 'parcel', 'raw.parcel', '{city}',
    'SELECT city, count(*) AS parcel_count FROM raw.parcel GROUP BY city',
    'SELECT DISTINCT city FROM raw.parcel WHERE _batch_id = ANY ($1)', 'false');
"""


def test_a_worker_leaves_no_row_unshown_when_its_drain_ends(depot: Depot) -> None:
    depot.query("CREATE SCHEMA marts_next")
    depot.query(FOLLOWED)
    for first in (0, 30):
        depot.send(*(parcel(n) for n in range(first, first + 30)))
        depot.drain()
        counted = {row["city"]: row["parcel_count"] for row in depot.query("SELECT * FROM marts_next.city_now")}
        assert counted == {f"City {n}": sum(i % 7 == n for i in range(first + 30)) for n in range(7)}


def test_the_window_begins_a_day_before_the_newest_event_and_has_no_end(board: Board) -> None:
    board.take(events(0))
    live.refresh(board.connection, DATASET)
    hours = {row["scheduled_hour_at"] for row in shown(board.connection, NEXT)}
    (newest,) = _rows_of(board.connection, "SELECT max(event_at) AS at FROM raw.flight_event")
    assert min(hours) > BEGIN
    assert all((newest["at"] - hour).total_seconds() < 86_400 for hour in hours)
