"""Whatever dies in the middle of a stream, and whatever the broker forgets: nothing is lost, nothing is there twice."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial

import psutil
import pytest
from tests import postgres_servers
from tests.journeys import dying
from tests.kafka_servers import kill
from tests.stream.parcels import Depot, in_the_middle, parcel, taken_in, until, working

from tidegate.errors import TransientError
from tidegate.evidence import pipelines
from tidegate.evidence.probe import Ground
from tidegate.stack.kafka_server import KEEPER, KafkaServer
from tidegate.stack.postgres import PostgresServer
from tidegate.stores import kafka as store
from tidegate.stores.postgres import Connection, connect
from tidegate.stream import crew
from tidegate.stream.reconcile import reconcile
from tidegate.stream.worker import Worker

POISON = [b"?", b'{"parcel_id": 1}']
#: What dies: of ten times, each of these once, in any order.
FATES = ["worker"] * 7 + ["PostgreSQL", "connections", "broker"]


def sound(depot: Depot, numbers: list[int], refused: int) -> None:
    """Check that readers see these parcels, once, that the ledger accounts for every offset, and the poison is kept once."""
    assert depot.numbers() == numbers
    assert len(depot.refused()) == refused
    holes = depot.query(
        "SELECT * FROM (SELECT *, lag(next_offset) OVER (PARTITION BY topic_partition ORDER BY first_offset) AS before "
        "FROM ops.stream_range) AS r WHERE first_offset <> coalesce(before, 0)"
    )
    assert holes == []
    (told,) = depot.query("SELECT sum(row_count) AS rows, sum(refused_count) AS refused FROM ops.stream_batch")
    assert (told["rows"], told["refused"] or 0) == (len(numbers), refused)


@pytest.mark.timeout(600)
def test_a_worker_killed_before_any_effect_loses_and_doubles_nothing(depot: Depot) -> None:
    depot.agree(share=1)
    expected: list[int] = []
    drain = partial(taken_in, depot.settings)

    def more() -> None:
        first = len(expected)
        depot.send(parcel(first), *POISON, parcel(first + 1), parcel(first))
        expected.extend((first, first + 1))

    more()
    ended, effects = dying.run_apart(drain)
    assert ended == dying.SURVIVED
    # The first run makes the table: those after it do what is done every time.
    more()
    ended, effects = dying.run_apart(drain)
    assert ended == dying.SURVIVED
    assert effects > 10
    for number in range(1, effects + 1):
        more()
        ended, _ = dying.run_apart(drain, die_before=number)
        assert ended == signal.SIGKILL or number > effects - 3, f"effect {number} of {effects}"
    depot.drain()
    sound(depot, expected, 2 * (effects + 2))
    assert all(message["copied_at"] for message in depot.refused())


def test_a_killed_broker_is_waited_for(depot: Depot, own_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    depot.move(own_kafka, monkeypatch)
    with working(depot) as worker:
        depot.send(*(parcel(n) for n in range(50)))
        until(lambda: worker.account.rows == 50)
        kill(own_kafka)
        until(lambda: worker.account.trouble is not None)
        own_kafka.start()
        depot.send(*(parcel(n) for n in range(50, 100)))
        until(lambda: worker.account.rows == 100)
    sound(depot, list(range(100)), 0)


def at_work(depot: Depot) -> int:
    with connect(depot.settings) as connection:
        return crew.count(connection, "parcel")


def test_a_connection_to_the_warehouse_that_is_cut_while_rows_are_copied_is_made_anew(
    depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot.send(*(parcel(n) for n in range(100)))
    cut = list[int]()

    def cut_off(connection: Connection) -> None:
        cut.append(connection.info.backend_pid)
        depot.query("SELECT pg_terminate_backend(%s)", cut)

    in_the_middle(monkeypatch, cut_off)
    assert depot.drain().rows == 100
    assert cut
    sound(depot, list(range(100)), 0)


def test_messages_that_were_removed_unread_are_a_gap(depot: Depot) -> None:
    from kafka import TopicPartition

    depot.send(*(parcel(n) for n in range(5)), partition=0)
    depot.drain()
    depot.send(*(parcel(n) for n in range(5, 15)), partition=0)
    removed(depot, {TopicPartition(depot.topic, 0): 12})
    account = depot.drain()
    assert (account.gaps, account.rows) == (1, 3)
    (gap,) = depot.query("SELECT kind, topic_partition, first_offset, next_offset FROM ops.stream_gap")
    assert gap == {"kind": "removed unread", "topic_partition": 0, "first_offset": 5, "next_offset": 12}
    assert depot.numbers() == [*range(5), *range(12, 15)]


def removed(depot: Depot, before: dict[object, int]) -> None:
    """Let the broker forget what lies before these offsets."""
    here = store.Address.of(depot.server.url(KEEPER))
    with store.reached(here), contextlib.closing(store.admin(here)) as admin:
        admin.delete_records(before)


def test_what_a_broker_has_lost_after_it_was_taken_in_stays_and_reading_goes_on(depot: Depot) -> None:
    depot.send(*(parcel(n) for n in range(10)), partition=0)
    depot.drain()
    # As if three more had been taken in, of which the broker knows nothing after a power cut.
    depot.query("UPDATE ops.stream_offset SET next_offset = 13 WHERE topic_partition = 0")
    depot.query("UPDATE ops.stream_range SET next_offset = 13 WHERE topic_partition = 0")
    depot.send(*(parcel(n) for n in range(10, 12)), partition=0)
    assert depot.drain().gaps == 1
    depot.send(*(parcel(n) for n in range(12, 20)), partition=0)
    assert depot.drain().rows == 8
    (gap,) = depot.query("SELECT kind, first_offset, next_offset FROM ops.stream_gap")
    assert gap == {"kind": "taken back", "first_offset": 13, "next_offset": 12}
    assert depot.numbers() == [*range(10), *range(12, 20)]
    reconcile(depot.settings, depot.contract)


def test_a_topic_that_was_made_again_is_read_from_its_beginning(depot: Depot) -> None:
    depot.send(*(parcel(n) for n in range(20)))
    depot.drain()
    here = store.Address.of(depot.server.url(KEEPER))
    with store.reached(here), contextlib.closing(store.admin(here)) as admin:
        admin.delete_topics([depot.topic])
        until(lambda: depot.topic not in admin.list_topics())
        admin.create_topics({depot.topic: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True)
    depot.send(*(parcel(n) for n in range(15, 60)))
    account = depot.drain()
    assert (account.rows, account.known) == (40, 5)
    assert depot.numbers() == list(range(60))
    assert {gap["kind"] for gap in depot.query("SELECT kind FROM ops.stream_gap")} == {"topic made again"}


@pytest.mark.parametrize("kills", [12, pytest.param(200, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
@pytest.mark.timeout(600)
def test_whatever_is_killed_at_random_everything_is_taken_once(
    depot: Depot, doomed: PostgresServer, own_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    """Two processes share a topic; now one of them dies, now the broker, now PostgreSQL, or every connection to it."""
    depot.move(own_kafka, monkeypatch)
    rolls, sent = random.Random(kills), 0
    fates = itertools.chain.from_iterable(rolls.sample(FATES, len(FATES)) for _ in itertools.count())
    program = [sys.executable, "-c", "from tidegate.cli import main; main()", "stream", "run", "parcel"]
    workers = [subprocess.Popen(program) for _ in range(2)]
    try:
        for fate in itertools.islice(fates, kills):
            depot.send(*(parcel(n) for n in range(sent, sent + 200)))
            sent += 200
            time.sleep(rolls.uniform(0.2, 2.0))
            match fate:
                case "worker":
                    victim = rolls.randrange(2)
                    workers[victim].kill()
                    workers[victim].wait()
                    workers[victim] = subprocess.Popen(program)
                case "PostgreSQL":
                    psutil.wait_procs([postgres_servers.kill(doomed)], timeout=10)
                    doomed.start()
                case "connections":
                    depot.query(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                case "broker":
                    kill(own_kafka)
                    own_kafka.start()
        until(lambda: len(depot.numbers()) == sent, 180)
        # One that is still being started knows no better than to die of it.
        until(lambda: at_work(depot) == 2)
        for worker in workers:
            worker.terminate()
        assert [worker.wait(60) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    sound(depot, list(range(sent)), 0)
    reconcile(depot.settings, depot.contract)
    (rate,) = pipelines.success(Ground(depot.settings))
    assert rate.figures["share"] >= 0.995, rate.text


def test_two_workers_share_a_topic_and_one_that_ends_is_stood_in_for(depot: Depot) -> None:
    with working(depot) as stays:
        with working(depot) as ends:
            workers = (stays, ends)
            until(lambda: sorted(worker.account.partitions for worker in workers) == [(0,), (1,)])
            depot.send(*(parcel(n) for n in range(100)))
            until(lambda: sum(worker.account.rows for worker in workers) == 100)
            assert all(worker.account.rows for worker in workers)
        depot.send(*(parcel(n) for n in range(100, 200)))
        until(lambda: sum(worker.account.rows for worker in workers) == 200)
    sound(depot, list(range(200)), 0)


def test_a_worker_that_comes_in_the_middle_of_a_micro_batch_gets_its_share_after_it(
    depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers: list[Worker] = []
    with ExitStack() as stack:

        def joined(_: Connection) -> None:
            workers.append(stack.enter_context(working(depot)))
            until(lambda: at_work(depot) == 2)

        in_the_middle(monkeypatch, joined)
        depot.send(*(parcel(n) for n in range(100)))
        workers.append(stack.enter_context(working(depot)))
        until(lambda: sorted(worker.account.partitions for worker in workers) == [(0,), (1,)])
        assert depot.numbers() == list(range(100))
        depot.send(*(parcel(n) for n in range(100, 200)))
        until(lambda: sum(worker.account.rows for worker in workers) == 200)
        assert all(worker.account.rows for worker in workers)
    sound(depot, list(range(200)), 0)


def test_of_two_workers_that_read_the_same_messages_the_offsets_let_one_write(
    depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers: list[Worker] = []
    with ExitStack() as stack:

        def bereft(connection: Connection) -> None:
            # Its locks are gone, and its session is not: another worker reads what it is writing.
            connection.execute("SELECT pg_advisory_unlock_all()")
            workers.append(stack.enter_context(working(depot)))
            waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            until(lambda: bool(depot.query(waits)))

        in_the_middle(monkeypatch, bereft)
        depot.send(*(parcel(n) for n in range(100)))
        workers.append(stack.enter_context(working(depot)))
        until(lambda: len(workers) == 2 and len(depot.numbers()) == 100)
        depot.send(*(parcel(n) for n in range(100, 200)))
        until(lambda: len(depot.numbers()) == 200)
    sound(depot, list(range(200)), 0)
    reconcile(depot.settings, depot.contract)


def test_a_drain_gives_up_on_servers_that_stay_away(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydantic import SecretStr

    from tidegate.stream import worker

    monkeypatch.setattr(worker, "_AWAY", 0.1)
    away = "kafka://nobody:nothing@127.0.0.1:9"
    depot.settings = depot.settings.model_copy(update={"kafka_url": SecretStr(away)})
    monkeypatch.setattr(store, "PATIENCE", 0.5)
    with pytest.raises(TransientError, match="does not answer"):
        depot.drain()
