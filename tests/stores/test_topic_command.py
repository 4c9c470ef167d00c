"""`tidegate topic` makes, lists, shows and measures topics; what others have sent reaches no terminal as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from tests.kafka_servers import PASSWORD
from tests.whole import CHECKOUT, eventually

from tidegate.settings import Settings
from tidegate.stores import kafka as store

PROGRAM = Path(sys.executable).with_name("tidegate")


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_topic_is_made_listed_looked_into_and_measured(kafka: Settings) -> None:
    name = f"t_{uuid.uuid4().hex}"
    assert (
        typed("topic", "create", name, "--partitions", "1", "--retention", "12h").stdout
        == f"made {name} with 1 partition\n"
    )
    with closing(store.producer(kafka)) as producer:
        for number in range(3):
            producer.send(name, b"%d \x1b]0;\xff" % number, key=b"k").get(30)
        producer.send(name, None, key=b"gone").get(30)
    (found,) = [one for one in json.loads(typed("topic", "list", "--json").stdout) if one["name"] == name]
    assert found == {"name": name, "partitions": 1, "messages": 4, "retention_seconds": 43200.0}
    (line,) = [line for line in typed("topic", "list").stdout.splitlines() if name in line]
    assert line.split("\t") == [name, "1", "4", "12:00:00"]
    shown = typed("topic", "tail", name, "-n", "2").stdout.splitlines()
    assert [line.split("  ")[0] for line in shown] == ["0:2", "0:3"]
    assert shown[0].endswith("  k  2 \\x1b]0;\\xff")
    assert shown[1].endswith("  gone  -")
    assert json.loads(typed("topic", "lag", name, "--json").stdout) == [
        {"partition": 0, "first": 0, "end": 4, "position": None, "lag": 4}
    ]
    assert typed("topic", "lag", name).stdout.splitlines()[1].split("\t") == ["0", "0", "4", "", "4"]


def test_a_topic_is_followed_until_one_stops_it(kafka: Settings) -> None:
    name = f"t_{uuid.uuid4().hex}"
    typed("topic", "create", name)
    words = [PROGRAM, "topic", "tail", name, "--follow"]
    with (
        closing(store.producer(kafka)) as producer,
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as follower,
    ):
        assert follower.stdout
        os.set_blocking(follower.stdout.fileno(), False)

        def seen() -> str:
            producer.send(name, b"again").get(30)
            return follower.stdout.readline() if follower.stdout else ""

        assert "again" in eventually(seen)
        follower.terminate()


@pytest.mark.parametrize("words", [("create", "t", "--retention", "soon"), ("create", "t", "--retention", "0h"), ("create", "t", "--partitions", "0"), ("tail", "t", "-n", "-1"), ("lag",), ("drop", "t")])  # fmt: skip
def test_words_that_cannot_be_read_are_status_2(words: tuple[str, ...]) -> None:
    assert typed("topic", *words).returncode == 2


def test_what_cannot_be_done_is_one_sentence_and_status_1(kafka: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (("tail", "never-made"), ("lag", "never-made"), ("create", "a b")):
        done = typed("topic", *words)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
        assert done.stderr.startswith("tidegate: ")
    monkeypatch.setenv("TIDEGATE_KAFKA_URL", "kafka://me:hush@127.0.0.1:1")
    done = typed("topic", "list")
    assert done.returncode == 1
    assert done.stderr.startswith("tidegate: Kafka at kafka://me@127.0.0.1:1 does not answer")
    assert len(done.stderr.splitlines()) == 1
    monkeypatch.delenv("TIDEGATE_KAFKA_URL")
    assert "no Kafka is configured" in typed("topic", "list").stderr
