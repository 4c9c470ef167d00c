"""The record is played to a real broker, and what lies there is the right answer, however it was disturbed."""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import closing
from datetime import date, datetime
from typing import Any

import duckdb
import pytest
from kafka import TopicPartition
from tests.kafka_servers import kill, reaching
from tests.run.flights import CONTRACT, load_days
from typer.testing import CliRunner

from tidegate import cli
from tidegate.errors import UnavailableError, UsageError
from tidegate.run import events, play
from tidegate.run.messages import POISONS, Disturbance
from tidegate.settings import Settings
from tidegate.stack.kafka_server import KafkaServer
from tidegate.stores import kafka as store

FIRST, LAST = date(2013, 2, 8), date(2013, 2, 9)
POOR = Disturbance(seed=3, disorder=0.2, duplicates=0.05, late=0.05, poison=0.05)


def lying(settings: Settings, topic: str) -> list[Any]:
    """Everything that lies in a topic, partition by partition."""
    with store.reached(settings), closing(store.consumer(settings)) as reader:
        parts = [TopicPartition(topic, number) for number in sorted(reader.partitions_for_topic(topic))]
        ends = reader.end_offsets(parts)
        found: list[Any] = []
        for part in parts:
            reader.assign([part])
            reader.seek(part, 0)
            while reader.position(part) < ends[part]:
                found += store.poll(reader, 5).get(part, [])
        return found


def right_answer(first: date = FIRST, last: date = LAST) -> list[tuple[Any, ...]]:
    with duckdb.connect() as engine:
        load_days(engine, first, last)
        return list(engine.sql(events.query(first, last, "flights", "airports")).fetchall())


def row(value: bytes) -> tuple[Any, ...]:
    told = json.loads(value)
    stamps = {column.name for column in CONTRACT.columns if column.postgres_type == "timestamptz"}
    return tuple(datetime.fromisoformat(v) if name in stamps else v for name, v in told.items())


def by_key(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=lambda row: row[:4])


def test_what_is_played_is_the_right_answer_in_order_and_keyed_by_aircraft(kafka: Settings, topic: Any) -> None:
    name = topic(partitions=3)
    played = play.play(kafka, FIRST, LAST, None, Disturbance(), topic=name)
    found = lying(kafka, name)
    expected = right_answer()
    assert by_key([row(message.value) for message in found]) == by_key(expected)
    assert (played.messages, played.events, played.late, played.duplicates, played.poison) == (
        len(found),
        len(expected),
        0,
        0,
        {},
    )
    place: dict[bytes, int] = {}
    last: dict[bytes, datetime] = {}
    for message in found:
        value = json.loads(message.value)
        assert message.key.decode() == (value["tailnum"] or f"{value['carrier']}{value['flight']}")
        assert message.headers == [("version", CONTRACT.version.encode())]
        # One aircraft's messages lie in one partition, in the order in which it flew.
        assert place.setdefault(message.key, message.partition) == message.partition
        at = datetime.fromisoformat(value["event_at"])
        assert last.get(message.key, at) <= at
        last[message.key] = at
    assert len(set(place.values())) == 3


def test_a_disturbed_record_holds_the_same_answer_and_what_was_announced(kafka: Settings, topic: Any) -> None:
    name = topic()
    played = play.play(kafka, FIRST, LAST, None, POOR, topic=name)
    found = lying(kafka, name)
    assert len(found) == played.messages
    assert set(played.poison) == set(POISONS)
    assert played.late > 100
    # Of all that lies there, everything but the poison is an event, once or twice.
    right = Counter(right_answer())
    limit = CONTRACT.topic.max_message_bytes if CONTRACT.topic else 0
    told = Counter(row(m.value) for m in found if m.key and len(m.value) <= limit and is_whole(m.value))
    assert told.keys() == right.keys()
    assert told.total() == played.events + played.duplicates
    assert len(found) - told.total() == sum(played.poison.values())


def is_whole(value: bytes) -> bool:
    try:
        told = json.loads(value.decode())
    except ValueError:
        return False
    return isinstance(told["flight"], int) and "event_at" in told and told["event_type"] in events.TYPES


def test_a_pace_changes_nothing_but_the_time(kafka: Settings, topic: Any) -> None:
    fast, paced = topic(partitions=1), topic(partitions=1)
    assert play.play(kafka, FIRST, FIRST, None, POOR, topic=fast).made == (
        play.play(kafka, FIRST, FIRST, 500_000, POOR, topic=paced).made
    )
    assert [(m.key, m.value) for m in lying(kafka, fast)] == [(m.key, m.value) for m in lying(kafka, paced)]


def test_a_message_is_waited_for_as_long_as_the_speed_says() -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    wait = play._pace(60, lambda: now[0], sleep)
    for minute in (0, 1, 1, 4):
        wait(minute * 60_000)
    now[0] += 10  # whoever is behind makes no pause
    wait(5 * 60_000)
    assert slept == [1.0, 3.0]


def test_what_is_played_while_the_broker_restarts_lies_there_once(
    own_kafka: KafkaServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = reaching(settings, own_kafka, monkeypatch)
    began, restarted = threading.Event(), threading.Event()
    send = play._pace(None)

    def wait(send_ms: int) -> None:
        send(send_ms)
        began.set()
        if passed.__next__() == 3000:
            assert restarted.wait(60)

    passed = iter(range(1_000_000))
    monkeypatch.setattr(play, "_pace", lambda _: wait)

    def restart() -> None:
        assert began.wait(60)
        kill(own_kafka)
        own_kafka.start()
        restarted.set()

    other = threading.Thread(target=restart)
    other.start()
    played = play.play(here, FIRST, LAST, None, Disturbance())
    other.join()
    assert by_key([row(m.value) for m in lying(here, "flight_event")]) == by_key(right_answer())
    assert played.events == played.messages


def test_a_broker_that_does_not_answer_is_told_as_such(
    own_kafka: KafkaServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = reaching(settings, own_kafka, monkeypatch)
    own_kafka.stop()
    with pytest.raises(UnavailableError, match="does not answer"):
        play.play(here, FIRST, LAST, None, Disturbance())


def test_days_that_are_not_on_record_and_a_missing_kafka_are_told(settings: Settings) -> None:
    with pytest.raises(UsageError, match="2014-01-01, expected some from 2013-01-01 to 2013-12-31"):
        play.play(settings, LAST, date(2014, 1, 1), None, Disturbance())
    with pytest.raises(UsageError, match="no Kafka is configured"):
        play.play(settings, FIRST, LAST, None, Disturbance())
    assert not (settings.home / "replay").exists()


def test_the_command_makes_the_topic_and_says_what_it_sent(kafka: Settings) -> None:
    words = ["replay", "flights", "--speed", "max", "--from", "2013-02-09", "--to", "2013-02-09", "--topic", "t_played"]
    told = CliRunner().invoke(cli.build(), [*words, "--duplicates", "0.1", "--poison", "0.1"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    found = lying(kafka, "t_played")
    assert (
        f"sent {len(found)} messages to t_played: {len(right_answer(LAST, LAST))} events, 0 of them late; "
        in told.output
    )
    assert {message.partition for message in found} == {0, 1, 2, 3}
    assert "null_key" in told.output
    assert not any((kafka.home / "replay").iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--speed", "fast"], "--speed is a number above 0, or `max`: not 'fast'"),
        (["--speed", "nan"], "not 'nan'"),
        (["--speed", "-1"], "not '-1'"),
        (["--to", "2014-01-01"], "the record has 2013-01-01 to 2013-12-31"),
        (["--from", "2013-03-02", "--to", "2013-03-01"], "--from is not after --to: not 2013-03-02 to 2013-03-01"),
        (["--from", "March"], "--from"),
        (["--poison", "2"], "--poison"),
        (["--disorder", "-0.1"], "--disorder"),
    ],
)  # fmt: skip
def test_options_that_say_nothing_are_refused_in_a_sentence(words: list[str], sentence: str) -> None:
    told = CliRunner().invoke(cli.build(), ["replay", "flights", *words])
    assert told.exit_code == 2
    assert sentence in " ".join(told.output.replace("│", " ").split())
