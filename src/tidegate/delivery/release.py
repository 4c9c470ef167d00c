"""Take what was approved into the real warehouse, one step after the other, and all of it back when one fails.

Each step is written down in ops.step when it has ended, and does nothing twice: a release that was cut short at any place
goes on there. Whether it may begin, the caller has judged.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from tidegate import dbt
from tidegate.backup import retention, shelf
from tidegate.backup import take as backups
from tidegate.delivery import health, ledger, version, worktree
from tidegate.delivery.ledger import Delivery, Release
from tidegate.delivery.team import Team
from tidegate.errors import HeldError, StackError, TransientError, UsageError, first_line
from tidegate.gates import ledger as gates
from tidegate.migrate import door, steps
from tidegate.publish import marts, schemas
from tidegate.settings import Settings
from tidegate.stack import dump, warehouse
from tidegate.stack.home import Say
from tidegate.stores.postgres import Connection, connect, exclusive, warehouse_url

log = structlog.get_logger(__name__)

#: The step that says that another one has failed: from then on there is only the way back.
_FAILED = "failed"
#: Steps after which readers may see other marts than before.
_SEEN = ("marts", "health")


def release(settings: Settings, team: Team, delivery: Delivery, say: Say) -> Release:
    """Release a delivery: backup, migrations, marts, health, tag; where one fails, everything is taken back.

    A transient error takes nothing back: the same call goes on from there. So does a call after a kill.

    Raises:
        HeldError: a step has failed, now or in an earlier call; the warehouse is as it was before.
        UsageError: the release of another delivery is under way.
        BusyError: another process releases at this moment.
        TransientError: something does not answer; nothing is taken back yet.
    """
    with connect(settings, autocommit=True) as connection, exclusive(connection, "the release"):
        found = _mine(connection, delivery)
        if found is None:
            say("begin")
            _begin(settings, connection, delivery)
            found = _require(connection, delivery)
            log.info("release begun", version=found.version, team=team.name, to=found.to_revision)
        if found.state == "begun":
            _carry_on(settings, connection, found, say)
            found = _require(connection, delivery)
        if found.state == "rolled back":
            raise HeldError(
                f"release {found.version} was rolled back: {found.reason}. The warehouse is at migration "
                f"{found.from_revision} as before it, and what newer ones held is set aside. Mend the cause, then begin a new delivery"
            )
        say("tag")
        _tag(settings, found)
        return found


def take_back(settings: Settings, team: Team, delivery: Delivery, say: Say, *, why: str) -> None:
    """Give up a release that is under way, and take back what it did.

    Raises:
        HeldError: it was taken back, as it was asked for.
        UsageError: it is not under way.
    """
    with connect(settings, autocommit=True) as connection, exclusive(connection, "the release"):
        found = _require(connection, delivery)
        if found.state != "begun":
            raise UsageError(f"release {found.version} is not under way: it is {found.state}")
        _note_failure(connection, found, _SEEN[-1], why)
    release(settings, team, delivery, say)


def _mine(connection: Connection, delivery: Delivery) -> Release | None:
    return next(iter(ledger.releases(connection, delivery.delivery_id)), None)


def _require(connection: Connection, delivery: Delivery) -> Release:
    found = _mine(connection, delivery)
    if found is None:
        raise UsageError(f"the delivery {delivery.delivery_id} has begun no release")
    return found


def _begin(settings: Settings, connection: Connection, delivery: Delivery) -> None:
    other = next((one for one in ledger.releases(connection) if one.state == "begun"), None)
    if other is not None:
        raise UsageError(
            f"release {other.version} of {other.delivery_id} is under way since {other.begun_at:%Y-%m-%d %H:%M}, and two would not "
            "know what to go back to: `team resume` goes on with it"
        )
    row = connection.execute("SELECT version_num FROM ops.migration").fetchone()
    ledger.begin_release(
        connection,
        {
            "version": version.upcoming(settings, connection).number, "delivery_id": delivery.delivery_id,
            "code_version": delivery.code_version, "from_revision": row["version_num"] if row else "base",
            "to_revision": steps.read(settings.project)[-1].revision, "backup_id": None,
            "build_id": schemas.comment_on(connection, marts.CURRENT),
        },
    )  # fmt: skip


def _carry_on(settings: Settings, connection: Connection, found: Release, say: Say) -> None:
    done = {row["step"]: row["note"] for row in gates.steps_of(connection, _subject(found))}
    if _FAILED not in done:
        for name, step in _STEPS.items():
            if name in done:
                continue
            say(name)
            try:
                with gates.timed(settings, _subject(found), name) as timing:
                    timing.note = step(settings, connection, found)
            except TransientError:
                raise
            except Exception as error:
                _note_failure(connection, found, name, str(error) or first_line(error))
                break
        else:
            ledger.end_release(connection, found.version, "released")
            log.info("released", version=found.version)
            return
    _roll_back(settings, connection, found, say)


def _backup(settings: Settings, connection: Connection, found: Release) -> str:
    """Take a backup, or a dump where the files are somebody else's; one that this release has taken already will do."""
    if warehouse.is_mine(settings):
        taken = [one for one in shelf.backups(settings) if one.started_at >= found.begun_at]
        one = taken[-1] if taken else backups.take(settings)
        name = (one if one.verified_at else backups.verify(settings, one)).backup_id
        retention.prune(settings)
    else:
        file = settings.home / "backups" / f"before-v{found.version}.dump"
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            partial = file.with_suffix(".partial")
            dump.whole(settings, partial)
            partial.replace(file)
        name = file.name
    ledger.note_backup(connection, found.version, name)
    return name


def _migrate(settings: Settings, _: Connection, found: Release) -> str:
    done = door.upgrade(
        warehouse_url(settings),
        settings.project,
        found.to_revision,
        safeguard=lambda step: _dump(settings, step.revision),
    )
    return ", ".join(step.revision for step in done) or "nothing was pending"


def _dump(settings: Settings, revision: str) -> None:
    dump.before(settings, revision)


def _models(settings: Settings, connection: Connection, _: Release) -> str:
    """Build, judge and publish the marts; return their build."""
    if not gates.batches(connection, state="published"):
        return "no batch is published, so there is nothing to build"
    build_id = marts.prepare(settings)
    if not marts.is_published(settings, build_id):
        dbt.build(settings)
        marts.judge(settings, build_id)
        marts.publish(settings, build_id)
    return build_id


def _health(settings: Settings, _: Connection, found: Release) -> str:
    looked = health.check(settings, found)
    if wrong := [one.told for one in looked if not one.ok]:
        raise HeldError(f"the health check found {len(wrong)} of {len(looked)} wrong: {'; '.join(wrong)}")
    return f"{len(looked)} looked at, all well"


_STEPS: dict[str, Callable[[Settings, Connection, Release], str]] = {
    "backup": _backup,
    "migrations": _migrate,
    "marts": _models,
    "health": _health,
}


def _note_failure(connection: Connection, found: Release, step: str, reason: str) -> None:
    told = f"{step}: {' '.join(reason.split())}"
    gates.record_step(connection, _subject(found), _FAILED, datetime.now(UTC), 0.0, note=told)
    log.error("release fails", version=found.version, reason=told)


def _roll_back(settings: Settings, connection: Connection, found: Release, say: Say) -> None:
    """Show readers the marts of before, take the migrations back, and write down why."""
    done = {row["step"]: row["note"] for row in gates.steps_of(connection, _subject(found))}
    reason = str(done[_FAILED])
    say("roll back")
    if reason.partition(":")[0] in _SEEN:
        shown, before = (schemas.comment_on(connection, name) for name in (marts.CURRENT, marts.PREVIOUS))
        if shown != found.build_id and found.build_id is not None and before == found.build_id:
            marts.undo(settings, by=f"release {found.version}", why=reason)
        elif shown != found.build_id:
            why = "there were none before" if found.build_id is None else "others were published since"
            reason += f" (the marts {shown} stay: {why})"
    door.downgrade(warehouse_url(settings), settings.project, found.from_revision)
    ledger.end_release(connection, found.version, "rolled back", reason)
    log.info("release rolled back", version=found.version, revision=found.from_revision)


def _subject(found: Release) -> str:
    return f"release {found.version}"


def _tag(settings: Settings, found: Release) -> None:
    """Tag the commit that was delivered; nothing is pushed."""
    name, project = f"v{found.version}", worktree.Tree(settings.project)
    there = project.tried("rev-parse", "--verify", "--quiet", f"refs/tags/{name}^{{commit}}").stdout.strip()
    if there == found.code_version:
        return
    if there:
        raise StackError(
            f"the tag {name} is on {there[:12]}, and {found.code_version[:12]} was released: see who made it, then "
            f"`git tag --delete {name}` and run this again"
        )
    project.let_go(f"refs/tags/{name}")
    message = f"Release {found.version} of the warehouse's schema: migration {found.to_revision}."
    project.git(*worktree.identity("RM"), "tag", "--annotate", f"--message={message}", name, found.code_version)
