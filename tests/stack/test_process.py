"""Only what was started is ever stopped, and all of it."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tidegate.stack.process import Process, inherited, launch

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
PARENT = "import subprocess, time; subprocess.Popen(['sleep', '60']); print('born', flush=True); time.sleep(60)"


def start(code: str, folder: Path) -> Process:
    log = folder / "log"
    process = launch([sys.executable, "-c", code], log=log, environment={})
    deadline = time.monotonic() + 20
    while not log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_a_recycled_pid_is_not_the_process_that_was_started() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        remembered = replace(Process.of(stranger.pid), created=psutil.Process(stranger.pid).create_time() - 3600)
        assert not remembered.is_alive()
        assert remembered.session() == []
        remembered.stop(patience=0)
        assert stranger.poll() is None
        stranger.kill()


def test_one_that_ignores_the_request_is_killed_when_patience_ends(tmp_path: Path) -> None:
    process = start(STUBBORN, tmp_path)
    process.stop(patience=0.2)
    assert not process.is_alive()


def test_children_of_a_killed_leader_are_found_and_ended(tmp_path: Path) -> None:
    process = start(PARENT, tmp_path)
    (child,) = psutil.Process(process.pid).children()
    psutil.Process(process.pid).send_signal(signal.SIGKILL)
    psutil.wait_procs([psutil.Process(process.pid)], timeout=5)
    assert child.pid in [member.pid for member in process.session()]
    process.stop(patience=0)
    assert process.session() == []


def test_a_log_is_for_its_owner_alone_and_is_appended_to(tmp_path: Path) -> None:
    for word in ("before", "after"):
        process = launch([sys.executable, "-c", f"print('{word}')"], log=tmp_path / "log", environment={})
        while process.is_alive():
            time.sleep(0.01)
    assert (tmp_path / "log").read_text() == "before\nafter\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_what_is_started_may_keep_its_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("TIDEGATE_HOME", "/somewhere")
    assert "PYTHONDONTWRITEBYTECODE" not in inherited()
    assert inherited()["TIDEGATE_HOME"] == "/somewhere"
