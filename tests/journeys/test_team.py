"""A team takes the warehouse from its strategy to a release, through Airflow, with a person who answers and one who kills.

The stack is its own, and so is the repository: what a team commits, tags and merges stays in there. The team is small, and in
`make soak` as large as it is.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from tests.journeys.small import make_small
from tests.whole import CHECKOUT, Whole, eventually

from tidegate.contracts import load_all
from tidegate.delivery import control, ledger
from tidegate.delivery.ledger import Delivery
from tidegate.errors import TidegateError, UsageError
from tidegate.gates import audit_chain
from tidegate.run import demo
from tidegate.run.airflow import session
from tidegate.stores.postgres import connect

#: A delivery measures for minutes, on a busy machine for many.
pytestmark = [pytest.mark.whole, pytest.mark.timeout(2700)]
TEAM, DAG = "databaseEng", "team_database"
PROGRAM = CHECKOUT / ".venv/bin/team"
#: Somebody who has written nothing of what is approved.
PERSON = "Grace"


class House(Whole):
    """The stack, and what is typed at it by a person who approves."""

    is_large: bool = False

    def team(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *words], capture_output=True, text=True, check=False, env=self.environment, cwd=self.project
        )

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.project, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def delivery(self, run_id: str) -> Delivery | None:
        with connect(self.settings) as connection:
            return ledger.working_on(connection, run_id)

    def state_of(self, run_id: str) -> str | None:
        with session(self.settings) as airflow:
            return airflow.state_of(DAG, run_id)

    def answer(self, delivery: Delivery) -> str:
        """Approve what is asked, through Airflow, and return what it was."""
        kind = (delivery.reason or "").partition(":")[0]
        control.answer(self.settings, delivery, kind, "approve", by=PERSON, why="read it")  # type: ignore[arg-type]
        return kind

    def picture(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.team("status", "--json").stdout)
        return told


@pytest.fixture(scope="module", params=["small", pytest.param("large", marks=pytest.mark.soak)])
def house(request: pytest.FixtureRequest, reachable_folder: Path) -> Iterator[House]:
    """Two months, published, under a repository of one commit, which has a team of this size."""
    project = reachable_folder / f"{request.param}_project"
    listed = ["git", "-C", str(CHECKOUT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (CHECKOUT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, project / name)
    if request.param == "small":
        make_small(project)
    (project / ".env").write_text("TIDEGATE_TEAM_LOAD_SECONDS=2\n")
    (project / ".venv").symlink_to(CHECKOUT / ".venv")
    found = House(reachable_folder / request.param, {}, project)
    found.is_large = request.param == "large"
    found.git("init", "--quiet", "--initial-branch=main")
    (project / ".git/info/exclude").write_text("/.venv\n")
    found.git("config", "user.name", "Ada")
    found.git("config", "user.email", "ada@example.org")
    found.git("add", "--all")
    found.git("commit", "--quiet", "--no-verify", "--message=feat(x): all of it")
    try:
        up = found.call("up", "--with", "redis")
        assert up.returncode == 0, up.stdout + up.stderr
        demo.deliver(found.settings, demo.MONTHS[:2])
        done = found.call("run", "--no-demo")
        assert done.returncode == 0, done.stdout + done.stderr
        yield found
    finally:
        found.call("rehearsal", "down")
        found.down()
        found.slack.close()


class Killer:
    """Kills one thing after another, each in its wave and in the midst of its work; only PostgreSQL is started again.

    Of the small team each kind of thing once; of the large one each in every wave that works on evidence or on the release.
    """

    #: What probes run; and what a release does, which has no probes: its backup.
    PROGRAMS = (
        "pgbench", "pg_prove", "psql", "pg_dump", "sqlfluff", "redis-cli", "ruff", "mypy", "gitleaks", "act", "actionlint",
        "pgbackrest", "pg_basebackup", "pg_verifybackup",
    )  # fmt: skip

    def __init__(self, house: House, *, large: bool) -> None:
        self.house = house
        self.killed: list[str] = []
        kinds: dict[str, Callable[[], bool]] = {
            "a worker": self._worker, "what a probe runs": self._probe, "the scheduler": self._scheduler,
            "PostgreSQL": self._postgres, "a task": self._task,
        }  # fmt: skip
        once = [
            ("what a probe runs", "2"), ("a task", "2"), ("the scheduler", "3"), ("PostgreSQL", "3"), ("a worker", "4"),
        ]  # fmt: skip
        each = [(name, wave) for wave in ("2", "3", "4") for name in kinds if name != "a task"]
        self.due = [(name, wave, kinds[name]) for name, wave in (each if large else once)]
        self._last = time.monotonic()

    def __call__(self, delivery: Delivery) -> None:
        # One at a time: what was killed is to be at work again.
        if not self.due or delivery.state != "running" or time.monotonic() - self._last < 5:
            return
        name, wave, kill = self.due[0]
        # What is done again in the loop belongs to the wave that it mends.
        if delivery.wave.partition(".")[0] == wave and kill():
            self.killed.append(f"{name} in wave {wave}")
            del self.due[0]
            self._last = time.monotonic()

    def _probe(self) -> bool:
        return _kill([one for task in self._tasks() for one in task.children() if one.name() in self.PROGRAMS])

    def _task(self) -> bool:
        return _kill(self._tasks())

    def _worker(self) -> bool:
        return _kill([worker for worker in self._workers() if worker.children()])

    def _scheduler(self) -> bool:
        return bool(self._tasks()) and _kill(self._schedulers())

    def _postgres(self) -> bool:
        killed = bool(self._tasks()) and _kill([psutil.Process(self.house.postgres_pid)])
        if killed:
            self.house.up()
        return killed

    def _schedulers(self) -> list[psutil.Process]:
        """The scheduler, or nothing while its keeper starts it anew."""
        keeper = self.house.status().services["airflow-scheduler"].pid
        assert keeper is not None
        return psutil.Process(keeper).children()

    def _workers(self) -> list[psutil.Process]:
        return [worker for scheduler in self._schedulers() for worker in scheduler.children()]

    def _tasks(self) -> list[psutil.Process]:
        """The processes that work on tasks: each is the child of a worker."""
        return [task for worker in self._workers() for task in worker.children()]


def _kill(victims: list[psutil.Process]) -> bool:
    for one in victims[:1]:
        one.send_signal(signal.SIGKILL)
    return bool(victims)


def through(house: House, run_id: str, killer: Killer) -> list[str]:
    """Watch a run of Airflow to its end, answer what it asks, and return what that was."""
    answered: list[str] = []
    deadline = time.monotonic() + 2000
    while time.monotonic() < deadline:
        try:
            if house.state_of(run_id) in ("success", "failed"):
                return answered
            delivery = house.delivery(run_id)
            if delivery is not None:
                killer(delivery)
                if delivery.state in ("waiting", "blocked"):
                    answered.append(house.answer(delivery))
        except (TidegateError, psutil.Error):
            # What was killed is being started again, or has come to its end by itself.
            pass
        time.sleep(0.5)
    raise AssertionError(f"waited in vain: {house.picture()}")


def begun_beside(house: House) -> dict[str, str]:
    """Start another delivery in Airflow; return how its first step has ended, and its last: those between are only skipped."""
    with session(house.settings) as airflow:
        run_id = airflow.start(DAG, conf={"strategy": "strategies/database.md"})
        tasks = f"dags/{DAG}/dagRuns/{quote(run_id, safe='')}/taskInstances"

        def ended() -> dict[str, str] | None:
            told = [house.api("GET", f"{tasks}/{name}") for name in ("begin", "close")]
            return {one["task_id"]: one["state"] for one in told} if all(one["end_date"] for one in told) else None

        states = eventually(ended)
        airflow.end(DAG, run_id)
    return states


@pytest.fixture(scope="module")
def told(house: House) -> dict[str, Any]:
    """What `team status` shows at the end of a delivery in which something was killed in every wave; and what was asked."""
    rows = house.checksums()
    run_id = control.start(house.settings, TEAM, None)
    eventually(lambda: house.delivery(run_id))
    second = house.team("run", "--team", TEAM)
    with pytest.raises(UsageError, match="team database works on"):
        control.start(house.settings, TEAM, None)
    another = begun_beside(house)
    killer, answered, resumed = Killer(house, large=house.is_large), list[str](), 0
    while True:
        answered += through(house, run_id, killer)
        (delivery,) = [one for one in [house.delivery(run_id)] if one is not None]
        if delivery.state == "success" or resumed == len(killer.killed):
            break
        # What Airflow does not take up again by itself, a person does.
        resumed += 1
        run_id = control.resume(house.settings, delivery)
    return house.picture() | {
        "asked": answered, "resumed": resumed, "killed": killer.killed, "spared": killer.due, "airflow": house.state_of(run_id),
        "refused": second.stderr + second.stdout, "another": another, "rows": rows,
    }  # fmt: skip


def test_killed_in_every_wave_a_delivery_comes_to_its_release_with_nothing_but_approvals(
    house: House, told: dict[str, Any]
) -> None:
    assert told["spared"] == [], told["killed"]
    refused = [one for one in told["verdicts"] if one["verdict"] == "FAIL"]
    assert (told["state"], told["airflow"], refused) == ("success", "success", []), told["reason"]
    assert list(dict.fromkeys(told["asked"])) == ["cost", "deployment", "merge"]
    assert {one["column"] for one in told["cards"]} == {"Done"}
    assert len({one["gate"] for one in told["verdicts"]}) == 15
    for kind in ("*.pptx", "*.pdf", "*.html"):
        assert list((house.project / ".team").rglob(kind)), kind
    assert house.team("evidence", "verify").returncode == 0


def test_a_second_delivery_of_the_team_is_refused_with_a_sentence(told: dict[str, Any]) -> None:
    assert re.search(r"team database works on manual__\S+ \(\w+, wave [\d.]+\)", " ".join(told["refused"].split()))
    assert told["another"] == {"begin": "failed", "close": "failed"}


def test_nothing_was_done_twice_to_the_warehouse(house: House, told: dict[str, Any]) -> None:
    (release,) = house.rows("SELECT version, state, backup_id FROM ops.release")
    assert (release["version"], release["state"]) == (told["version"], "released")
    assert house.git("tag", "--list", "v*") == f"v{release['version']}"
    twice = "SELECT name, count(*) FROM ops.schema_change WHERE direction = 'up' GROUP BY name HAVING count(*) > 1"
    assert house.rows(twice) == []
    assert house.checksums() == told["rows"]
    found = audit_chain.verify(house.settings, load_all(house.settings))
    assert (found.whole, list(found.findings)) == (True, [])


def test_the_checkout_of_the_user_is_as_it_was(house: House, told: dict[str, Any]) -> None:
    assert told["state"] == "success"
    assert (house.git("branch", "--show-current"), house.git("status", "--short")) == ("main", "")
    assert house.git("log", "-1", "--format=%s", "main") == "feat(x): all of it"
    assert house.git("log", "--format=%(trailers:key=Wave,valueonly)", "ai-team").split()
