"""What a probe is: a name, where it measures, and a function whose findings become evidence, each a file with its hash.

What is measured is the business of the modules beside this one; which of them there are, of `probes`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import structlog
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_chain, wait_fixed

from tidegate.errors import TerminalError, TidegateError, TransientError, UnavailableError
from tidegate.gates import ledger
from tidegate.gates.verdict import Evidence
from tidegate.rehearsal import rehearsal
from tidegate.rehearsal.rehearsal import Rehearsal
from tidegate.run.bookings import DATASET, deliver
from tidegate.settings import Settings
from tidegate.stack.home import Say
from tidegate.stack.postgres_binaries import client
from tidegate.stores import postgres
from tidegate.stores.postgres import connect, take_turn
from tidegate.wave import ingest

log = structlog.get_logger(__name__)

_MONTH = "2013-01"
#: How long a probe waits before it runs again, in seconds.
_PAUSES = (2.0, 10.0)

Place = Literal["checkout", "warehouse", "rehearsal"]


class CannotRunError(TerminalError):
    """The probe cannot measure here; its text says what is missing."""


@dataclass(frozen=True)
class Finding:
    """One file of evidence before it is written: where under `.team/evidence/`, what is in it, what it amounts to."""

    file: str
    text: str
    figures: dict[str, Any]
    command: str
    exit_status: int = 0


@dataclass(frozen=True)
class Ran:
    """A program that has ended: all that it said, and as what it was called; no secret is in either."""

    command: str
    said: str
    exit_status: int
    seconds: float


@dataclass
class Ground:
    """What probes stand on; `seconds` is how long one that makes load goes on.

    The rehearsal is made when the first probe asks for it, and belongs to whoever it was made for.
    """

    settings: Settings
    seconds: int = 15
    say: Say = field(default=lambda _: None)
    made: bool = field(default=False, init=False)

    @cached_property
    def rehearsal(self) -> Rehearsal:
        """A clone of the warehouse that may be destroyed."""
        self.made = rehearsal.look(self.settings) is None
        return rehearsal.up(self.settings, self.say)

    def psql(self, dsn: str, *arguments: str) -> Ran:
        """Run psql on a server of ours, stopping at the first error; the password travels in the environment."""
        return run(
            [client("psql", self.settings.postgres_bin), "--no-psqlrc", "--set=ON_ERROR_STOP=1", *arguments],
            postgres.libpq_environment_of(dsn),
        )

    def peopled(self) -> Rehearsal:
        """Return the rehearsal with passengers in it: the warehouse's own, masked, or made-up ones where it has none."""
        found = self.rehearsal
        with connect(found.settings(self.settings)) as connection:
            # Roles measure side by side: the first one brings the passengers, the others wait for them.
            connection.execute("SET LOCAL lock_timeout = '2min'")
            take_turn(connection, "passengers of the rehearsal")
            known = connection.execute("SELECT to_regclass('raw.bookings') AS known").fetchone() or {}
            if not known["known"]:
                home = found.folder / "home"
                apart = {"home": home, "inbox": home / "inbox", "landing_url": None}
                settings = found.settings(self.settings).model_copy(update=apart)
                deliver(settings, [_MONTH])
                ingest(settings, DATASET, _MONTH)
        return found

    @property
    def team(self) -> Path:
        """The folder of the team's files."""
        return self.settings.project / ".team"

    def close(self) -> None:
        """Take the rehearsal away, if it was made here."""
        if self.made:
            rehearsal.down(self.settings, self.say)


@dataclass(frozen=True)
class Probe:
    """One probe; `files` names what it writes, `*` standing for a name that is known only when it runs."""

    name: str
    purpose: str
    place: Place
    files: tuple[str, ...]
    run: Callable[[Ground], Iterator[Finding]]


@dataclass(frozen=True)
class Outcome:
    """What came of a probe: evidence, or the reason why there is none."""

    probe: str
    evidence: tuple[Evidence, ...]
    reason: str | None = None

    @property
    def ended_well(self) -> bool:
        """Whether it ran, and every program that it ran ended with status 0."""
        return self.reason is None and not any(e.exit_status for e in self.evidence)


def measure(ground: Ground, probe: Probe) -> Outcome:
    """Run a probe, write its files and what they amount to into the ledger; older files go to the team's archive.

    One that could not run because something was busy or gone for a moment is run again.
    """
    patiently = Retrying(
        retry=retry_if_exception_type(TransientError), wait=wait_chain(*map(wait_fixed, _PAUSES)),
        stop=stop_after_attempt(len(_PAUSES) + 1), reraise=True,
        before_sleep=lambda tried: log.warning(
            "probe will run again", probe=probe.name, reason=str(tried.outcome and tried.outcome.exception())
        ),
    )  # fmt: skip
    try:
        return patiently(_measure, ground, probe)
    except TransientError as error:
        return Outcome(probe.name, (), str(error))


def _measure(ground: Ground, probe: Probe) -> Outcome:
    evidence: list[Evidence] = []
    try:
        if probe.place == "rehearsal":
            # What it takes to make one is no part of what is measured on it.
            _ = ground.rehearsal
        began = time.monotonic()
        for finding in probe.run(ground):
            evidence.append(_keep(ground.team, probe, finding, time.monotonic() - began))
            began = time.monotonic()
    except TransientError:
        raise
    except TidegateError as error:
        return Outcome(probe.name, tuple(evidence), str(error))
    finally:
        if evidence:
            with connect(ground.settings) as connection:
                ledger.record_evidence(connection, evidence)
    log.info("probe ran", probe=probe.name, files=len(evidence))
    return Outcome(probe.name, tuple(evidence))


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    said: str | None = None,
) -> Ran:
    """Run a program to its end, its errors among what it says; secrets go through `environment` only.

    Raises:
        CannotRunError: this machine does not have it.
        UnavailableError: somebody ended it: what it has said until then says nothing.
    """
    words = [str(word) for word in command]
    # Programs that came with Python's packages lie beside it, on whatever path it was started.
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    if shutil.which(words[0], path=path) is None:
        raise CannotRunError(
            f"{Path(words[0]).name} is not installed on this machine: `bin/bootstrap test` installs it"
        )
    began = time.monotonic()
    done = subprocess.run(
        words, env={"PATH": path, "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C.UTF-8", **(environment or {})}, cwd=folder, input=said, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode < 0:
        told = f"{Path(words[0]).name} was ended by {signal.Signals(-done.returncode).name}"
        raise UnavailableError(
            f"{told} before it was done: run it again, and look for who ends it when it happens again"
        )
    shown = shlex.join([Path(words[0]).name, *words[1:]])
    return Ran(shown, done.stdout, done.returncode, time.monotonic() - began)


def archive(team: Path, path: Path) -> None:
    """Move a file of the team into its archive, where there is one, under its name and the moment of its last change."""
    if path.exists():
        stamp = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        archived = team / "archive" / f"{path.relative_to(team)}.{stamp}"
        archived.parent.mkdir(parents=True, exist_ok=True)
        path.replace(archived)


def _keep(team: Path, probe: Probe, finding: Finding, seconds: float) -> Evidence:
    path = team / "evidence" / finding.file
    archive(team, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = finding.text if path.suffix != ".log" else f"{_head(probe, finding, seconds)}\n{finding.text.rstrip()}\n"
    content = text.encode()
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    kind = f"probe {probe.name}"
    return Evidence(kind, path, digest, finding.figures, finding.command, round(seconds, 3), finding.exit_status)


def _head(probe: Probe, finding: Finding, seconds: float) -> str:
    facts = {
        "probe": f"{probe.name} ({probe.purpose})",
        "command": finding.command,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": f"{seconds:.3f}",
        "exit status": finding.exit_status,
        "figures": json.dumps(finding.figures, default=str),
    }
    return "".join(f"# {name}: {value}\n" for name, value in facts.items())
