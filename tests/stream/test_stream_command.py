"""`tidegate stream` and what `tidegate quarantine` says of messages."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.contracts.command import run
from tests.stream.parcels import Depot, parcel
from tests.whole import CHECKOUT


def test_a_topic_is_taken_in_until_it_is_idle(depot: Depot) -> None:
    depot.send(*(parcel(n) for n in range(20)), b"?", parcel(3))
    done = run("stream", "run", depot.topic, "--until-idle")
    assert done.exit_code == 0, done.output
    assert "parcel: 22 messages in 1 micro-batches: 20 rows added, 1 known, 1 refused" in done.output
    assert depot.numbers() == list(range(20))


def test_the_status_tells_what_waits_and_what_was_done(depot: Depot) -> None:
    depot.send(parcel(1), parcel(2), b"?", parcel(1))
    depot.drain()
    depot.send(parcel(3), parcel(4))
    (told,) = json.loads(run("stream", "status", "--json").output)
    assert (told["lag"], told["gaps"], told["hold"], told["workers"]) == (2, 0, None, 0)
    assert told["totals"] == {"micro_batches": 1, "messages": 4, "rows": 2, "known": 1, "refused": 1, "late": 0}
    assert 0 <= told["age_seconds"] < 600
    assert told["lately"]["latency_p95_seconds"] >= told["lately"]["latency_p50_seconds"] >= 0
    line = run("stream", "status", "parcel").output.splitlines()[1].split("\t")
    assert line[:4] == ["parcel", "flows", "0", "2"]


def test_a_held_stream_says_so_and_is_released(depot: Depot) -> None:
    depot.agree(share=0)
    depot.send(b"?")
    held = run("stream", "run", "parcel", "--until-idle")
    assert held.exit_code == 1
    assert "tidegate: the stream parcel is held: 1 of the last 1 messages were refused" in held.output
    assert "parcel is held since" in run("stream", "status").output
    assert run("stream", "release", "parcel").exit_code == 2
    told = run("stream", "release", "parcel", "--why", "seen", "--as", "ada")
    assert told.output.startswith("parcel goes on: it was held for 1 of the last 1 messages")
    assert run("stream", "run", "parcel", "--until-idle").exit_code == 0
    assert "not held" in run("stream", "release", "parcel", "--why", "seen").output


def test_a_name_that_is_no_stream_is_answered_with_those_that_are(depot: Depot) -> None:
    said = run("stream", "run", "letters")
    assert (said.exit_code, said.output) == (
        1, "tidegate: no stream 'letters': schemas/ has parcel; a contract whose server is of type kafka is one\n",
    )  # fmt: skip


def test_without_a_kafka_one_is_told_how_to_get_it(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEGATE_KAFKA_URL")
    assert "`tidegate up --with kafka` starts one" in run("stream", "status").output


def test_a_worker_ends_well_on_sigterm_and_answers_for_its_health_until_then(depot: Depot) -> None:
    program = [sys.executable, "-c", "from tidegate.cli import main; main()"]
    worker = subprocess.Popen([*program, "stream", "run", "parcel", "--health", "0"], stderr=subprocess.PIPE, text=True)
    try:
        assert worker.stderr is not None
        address = next(line for line in worker.stderr if line.startswith("health: ")).split()[1]
        depot.send(*(parcel(n) for n in range(10)))
        deadline = time.monotonic() + 60
        while (health := json.load(urllib.request.urlopen(address)))["parcel"]["rows"] < 10:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert health["parcel"]["trouble"] is None
        assert sorted(health["parcel"]["partitions"]) == [0, 1]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address.replace("/health", "/"))
        depot.agree(share=0)
        ill = None
        while ill is None:
            # The first ones may still be taken under the contract as it was.
            depot.send(b"?")
            ill = illness(address)
            assert time.monotonic() < deadline + 60
        assert "is held" in ill["parcel"]["trouble"]
        os.kill(worker.pid, signal.SIGTERM)
        assert worker.wait(60) == 0
    finally:
        worker.kill()
        worker.communicate()


def test_an_application_hears_of_new_rows(depot: Depot) -> None:
    example = CHECKOUT / "docs/examples/listen.py"
    listener = subprocess.Popen([sys.executable, example, "20"], stdout=subprocess.PIPE, text=True)
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "listening\n"
        depot.send(parcel(1), parcel(2))
        depot.drain()
        (batch,) = depot.query("SELECT batch_id FROM ops.stream_batch")
        assert listener.stdout.readline() == f"parcel: 2 rows by micro-batch {batch['batch_id']}\n"
    finally:
        listener.kill()
        listener.communicate()


def illness(address: str) -> dict[str, dict[str, str]] | None:
    """Return what a worker that is not well says."""
    try:
        urllib.request.urlopen(address).close()
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error) if error.code == 503 else None
    return None


def test_refused_messages_are_repaired_and_replayed_once(depot: Depot, tmp_path: Path) -> None:
    depot.send(parcel(1), b'{"parcel_id": 2', b"\xff", json.dumps(parcel(3, weight_kg="x")).encode(), partition=0)
    depot.drain()
    listed = json.loads(run("quarantine", "list", "--json").output)
    assert sum(row["messages"] for row in listed) == 3
    first = depot.refused()[0]
    shown = json.loads(run("quarantine", "show", f"m{first['refused_message_id']}", "--json").output)
    assert (shown["message_value"], shown["rule"], shown["topic_partition"]) == ('{"parcel_id": 2', "structure", 0)
    assert f"{depot.topic}[0]@1" in run("quarantine", "show", first["batch_id"]).output
    file = tmp_path / "repair.jsonl"
    said = run("quarantine", "export", "--to", str(file)).output
    assert f"3 refused messages of parcel written to {file}" in said
    assert "exists already" in run("quarantine", "export", "--to", str(file)).output
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert base64.b64decode(lines[1]["value_base64"]) == b"\xff"
    lines[0]["value"] = parcel(2)
    lines[1]["value"] = json.dumps(parcel(4))
    file.write_text("\n".join(map(json.dumps, lines)))
    done = run("quarantine", "replay", str(file))
    assert done.exit_code == 1
    assert "parcel: 2 messages accepted, 1 refused" in done.output
    assert f"{file}:3: message m{first['refused_message_id'] + 2}, column weight_kg: found 'x', expected" in done.output
    assert depot.numbers() == [1, 2, 4]
    lines[2]["value"] = parcel(1)
    file.write_text("\n".join(map(json.dumps, lines)))
    again = run("quarantine", "replay", str(file))
    assert again.output.endswith("parcel: 0 messages accepted, 1 known already, 0 refused, 2 were replayed before\n")
    assert {message["state"] for message in depot.refused()} == {"replayed"}
    assert run("quarantine", "replay", str(file)).output.endswith("0 refused, 3 were replayed before\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no message"),
        ("{}", ":1: not a refused message"),
        ("nonsense", ":1: not a refused message"),
        ('{"_refused_message_id": 99, "key": "1", "value": "{}"}', ":1: no refused message has the number 99"),
    ],
)
def test_a_file_that_export_did_not_write_is_named_with_its_line(
    depot: Depot, tmp_path: Path, content: str, said: str
) -> None:
    file = tmp_path / "repair.jsonl"
    file.write_text(content)
    done = run("quarantine", "replay", str(file))
    assert done.exit_code == 1
    assert said in done.output


def test_nothing_to_export_is_said(depot: Depot, tmp_path: Path) -> None:
    assert "no open message in quarantine" in run("quarantine", "export", "--to", str(tmp_path / "none.jsonl")).output
    assert "no such file" in run("quarantine", "replay", str(tmp_path / "none.jsonl")).output
