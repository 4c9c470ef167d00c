"""What a role does: runs its probes, makes its artifacts, writes its manifest; each step of it is in the ledger.

What an artifact says stands in `roles`, a module a role; who works when is the DAG's business.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

import structlog

from tidegate.delivery import ledger, manifest, thoughts
from tidegate.delivery.ledger import Approval, Delivery, Done, Exhibit
from tidegate.delivery.team import Role, Team
from tidegate.delivery.thoughts import Thought
from tidegate.errors import StackError
from tidegate.evidence.probe import Ground, Probe, archive, measure
from tidegate.evidence.probes import ALL
from tidegate.gates.verdict import Verdict
from tidegate.settings import Settings
from tidegate.stores.postgres import connect
from tidegate.strategy.model import Strategy

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Work:
    """What a role has before it: the delivery, the strategy, what was found wrong, and what has been measured."""

    settings: Settings
    team: Team
    strategy: Strategy
    delivery: Delivery
    role: Role
    wave: str
    attempt: int = 1
    failing: tuple[Verdict, ...] = ()

    @property
    def folder(self) -> Path:
        """The team's files."""
        return folder(self.settings)

    @property
    def where(self) -> tuple[str, str, int]:
        """Wave, role and attempt: what the ledger knows this work by."""
        return self.wave, self.role.code, self.attempt

    @cached_property
    def exhibits(self) -> list[Exhibit]:
        """The evidence of this delivery as it is now; asked for once, when all of the role's probes have run."""
        with connect(self.settings) as connection:
            return ledger.exhibits(connection, self.delivery.delivery_id)

    @cached_property
    def done(self) -> list[Done]:
        """All that roles have done for this delivery."""
        with connect(self.settings) as connection:
            return ledger.work(connection, self.delivery.delivery_id)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What gates have said of this delivery."""
        with connect(self.settings) as connection:
            return ledger.verdicts(connection, self.delivery.delivery_id)

    @cached_property
    def approvals(self) -> list[Approval]:
        """What people have decided about this delivery."""
        with connect(self.settings) as connection:
            return ledger.approvals(connection, self.delivery.delivery_id)

    @cached_property
    def thought(self) -> Thought | None:
        """What a model has thought for this work, where one was asked."""
        if self.settings.team_model_connection is None:
            return None
        with connect(self.settings) as connection:
            return thoughts.newest(connection, self.delivery.delivery_id, self.where)

    def taken_by(self, probe: str) -> list[Exhibit]:
        """Return what a probe has taken for this delivery, files only."""
        return [one for one in self.exhibits if one.probe == probe and one.sha256]


def folder(settings: Settings) -> Path:
    """Return the folder of the team's files."""
    return settings.project / ".team"


def do(work: Work) -> dict[str, str]:
    """Do all that a role has to do in a wave; return its artifacts with their hashes."""
    take(work)
    return make(work)


def take(work: Work, probes: Sequence[str] | None = None) -> None:
    """Run the role's probes for this delivery, or those of one hand; each that cannot run leaves its reason.

    What was taken since this work began, and lies there unchanged, is not taken twice. The manifest follows with the last.
    """
    if _done_before(work) is not None:
        return
    with _begun(work) as began:
        for name in work.team.evidence(work.role.code, work.wave) if probes is None else probes:
            if not _taken_before(work, name, began):
                _measure(work, name)
        manifest.write(_afresh(work), {})


def make(work: Work) -> dict[str, str]:
    """Make the role's artifacts of a wave, and write them into its manifest; return them with their hashes."""
    if (before := _done_before(work)) is not None:
        log.info("work was done before", role=work.role.code, wave=work.wave, attempt=work.attempt)
        return before
    with _begun(work):
        work = _afresh(work)
        artifacts = {path: write(work, path) for path in work.team.artifacts(work.role.code, work.wave)}
        manifest.write(work, artifacts)
    with connect(work.settings) as connection:
        ledger.work_ends(connection, work.delivery.delivery_id, work.where, "done", artifacts=artifacts)
    log.info("work done", role=work.role.code, wave=work.wave, attempt=work.attempt, artifacts=len(artifacts))
    return artifacts


def skip(work: Work, reason: str) -> None:
    """Write down that a role has nothing to do, and why."""
    with connect(work.settings) as connection:
        ledger.work_ends(connection, work.delivery.delivery_id, work.where, "skipped", reason=reason)


def fail(work: Work, reason: str) -> None:
    """Write down that a role's work has failed, and why; it is done again from its beginning."""
    with connect(work.settings) as connection:
        ledger.work_ends(connection, work.delivery.delivery_id, work.where, "failed", reason=reason)


def out_of_work(role: Role, strategy: Strategy) -> str | None:
    """Say why a role has nothing to do under this strategy: its stack has none of what the role tends."""
    if not role.needs:
        return None
    if any(role.needs.lower() in named.value.text.lower() for named in strategy.technical.stack):
        return None
    database = next((named for named in strategy.technical.stack if named.name == "Database"), None)
    place = f"{strategy.path}:{database.value.line}" if database else str(strategy.path)
    said = f" (Database: {database.value.text})" if database else ""
    return f"the strategy's stack has no {role.needs}: {place}{said}"


def write(work: Work, path: str) -> str:
    """Make one artifact and return its hash; the one before goes to the archive."""
    text = maker(work.role, path)(work)
    thought = work.thought
    if thought is not None and path in thought.prose:
        text = thoughts.marked(text, thought.prose[path], work.settings.team_model_connection, thought.confidence)
    text = text.rstrip() + "\n"
    return keep(work.folder, path, text.encode())


def maker(role: Role, path: str) -> Callable[[Work], str]:
    """Return the function that makes an artifact; raises StackError when there is none."""
    name = Path(path).stem.lower()
    try:
        module = importlib.import_module(f"tidegate.delivery.roles.{role.code.lower()}")
        made: Callable[[Work], str] = getattr(module, name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise StackError(
            f"nobody knows how to make {path}: expected a function {name} in tidegate.delivery.roles.{role.code.lower()}"
        ) from error
    return made


def keep(team: Path, path: str, content: bytes) -> str:
    """Write a file of the team and return its hash; nothing that stood there before is lost."""
    target, digest = team / path, hashlib.sha256(content).hexdigest()
    if hash_of(target) == digest:
        return digest
    archive(team, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(content)
    partial.replace(target)
    return digest


def hash_of(path: Path) -> str | None:
    """Return the hash of a file as it lies there, None where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None


def _done_before(work: Work) -> dict[str, str] | None:
    # A file that a later wave has made anew is as it should be, too.
    newest = {path: sha for done in work.done for path, sha in done.artifacts.items()}
    for done in work.done:
        mine = (done.wave, done.role, done.attempt) == work.where and done.state == "done"
        if mine and all(hash_of(work.folder / path) == newest[path] for path in done.artifacts):
            return done.artifacts
    return None


def _taken_before(work: Work, probe: str, began: datetime) -> bool:
    mine = [
        one for one in work.taken_by(probe) if (one.wave, one.role, one.attempt) == work.where and one.taken_at >= began
    ]
    return bool(mine) and all(hash_of(work.folder / "evidence" / one.path) == one.sha256 for one in mine)


def _afresh(work: Work) -> Work:
    """Return the same work, which has not looked into the ledger yet."""
    return replace(work)


@contextmanager
def _begun(work: Work) -> Iterator[datetime]:
    """Write down that the work begins, or goes on; yield when it began."""
    with connect(work.settings) as connection:
        began = ledger.work_begins(connection, work.delivery.delivery_id, work.where)
    try:
        yield began
    except BaseException as error:
        fail(work, str(error))
        raise


def _measure(work: Work, name: str) -> None:
    probe = next((one for one in ALL if one.name == name), None)
    if probe is None:
        raise StackError(f"{work.team.path.name} names the probe {name!r}, which there is not: `tidegate probe list`")
    with _alone(work.settings, probe):
        outcome = measure(Ground(work.settings, work.settings.team_load_seconds), probe)
    with connect(work.settings) as connection:
        root = work.folder / "evidence"
        ledger.record_exhibits(connection, work.delivery, work.where, name, outcome.evidence, root)
        if outcome.reason is not None:
            ledger.record_no_exhibit(connection, work.delivery, work.where, name, outcome.reason)


@contextmanager
def _alone(settings: Settings, probe: Probe) -> Iterator[None]:
    """Let one probe at a time use the rehearsal; others wait, and a dead one holds nothing."""
    if probe.place != "rehearsal":
        yield
        return
    with (settings.home / "rehearsal.probing").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
