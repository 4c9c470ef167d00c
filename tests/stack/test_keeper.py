"""A server that ends by itself is started again, unless it cannot be started at all; one that is told to end, ends."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import psutil
from tests.whole import eventually

from tidegate.stack.process import Process, launch

#: Writes down that it lives, leaves a child behind, and does what it is told by `{act}`.
SERVER = """
import os, signal, subprocess, sys, time
from tidegate.stack import keeper
keeper.SETTLED, keeper._PAUSES = {settled}, (0.05, 0.1)
def serve():
    left = subprocess.Popen(["sleep", "60"])
    with open(sys.argv[1], "a") as told:
        print(os.getpid(), left.pid, file=told)
    {act}
keeper.keep(serve, print)
"""


def kept(folder: Path, act: str, *, settled: float = 0) -> Process:
    words = [sys.executable, "-c", SERVER.format(settled=settled, act=act), folder / "lives"]
    return launch(words, log=folder / "log", environment={})


def lives(folder: Path, count: int) -> list[tuple[int, int]]:
    """Wait until it has lived so often; return its pids, and those of what it has left behind."""

    def look() -> list[tuple[int, int]] | None:
        lines = (folder / "lives").read_text().splitlines() if (folder / "lives").exists() else []
        found = [(int(one), int(other)) for one, other in map(str.split, lines)]
        return found if len(found) >= count else None

    return eventually(look)


def test_one_that_ends_by_itself_is_started_again_and_leaves_nothing_behind(tmp_path: Path) -> None:
    keeper = kept(tmp_path, "time.sleep(0.1)")
    (_, left), *_ = lives(tmp_path, 3)
    assert keeper.is_alive()
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE
    keeper.stop(patience=5)
    assert keeper.session() == []
    assert "is started again" in (tmp_path / "log").read_text()


def test_one_that_is_killed_is_started_again(tmp_path: Path) -> None:
    keeper = kept(tmp_path, "time.sleep(60)")
    ((first, _),) = lives(tmp_path, 1)
    psutil.Process(first).kill()
    assert len({first, *(pid for pid, _ in lives(tmp_path, 2))}) == 2
    assert keeper.is_alive()
    keeper.stop(patience=5)


def test_one_that_never_lasts_is_given_up_so_that_up_can_say_why(tmp_path: Path) -> None:
    keeper = kept(tmp_path, "sys.exit('no such setting')", settled=60)
    eventually(lambda: not keeper.is_alive())
    assert len(lives(tmp_path, 1)) == 3
    assert (tmp_path / "log").read_text().count("no such setting") == 3
    keeper.stop(patience=0)


def test_what_it_is_told_it_hands_on_and_ends_with(tmp_path: Path) -> None:
    hears = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('ends well', flush=True)))"
    keeper = kept(tmp_path, f"{hears}; print('hears', flush=True); time.sleep(60)")
    eventually(lambda: "hears" in (tmp_path / "log").read_text())
    keeper.ask_to_end(signal.SIGTERM)
    eventually(lambda: not keeper.is_alive())
    assert "ends well" in (tmp_path / "log").read_text()
    assert len(lives(tmp_path, 1)) == 1
    keeper.stop(patience=0)
    assert keeper.session() == []
