"""The branch of the team goes into main: exactly what was approved, never in the user's checkout, never to a remote.

Where main is checked out somewhere, a person does it: the commands, bound to the approved commit, are written for them.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import structlog

from tidegate.delivery import worktree
from tidegate.delivery.approval import BRANCH
from tidegate.delivery.ledger import Delivery
from tidegate.delivery.markdown import code
from tidegate.delivery.sync import PROPOSED
from tidegate.delivery.work import folder, keep
from tidegate.delivery.worktree import Tree
from tidegate.errors import BusyError, HeldError, StackError, UsageError
from tidegate.settings import Settings

log = structlog.get_logger(__name__)

MAIN = "main"
PLACE = "releases/MERGE.md"


@dataclass(frozen=True)
class Merge:
    """What became of it: the commit that main is at, or None and the file with the commands for a person."""

    commit: str | None
    told: str


def merge(settings: Settings, delivery: Delivery, approved: str) -> Merge:
    """Merge the approved commit of the branch into main; whether it was approved, the caller has judged.

    Main moves from the commit that was merged with, or not at all. Where it holds the approved commit, nothing is done.

    Raises:
        UsageError: the branch is not at the approved commit any more, or there is no main.
        HeldError: the two do not go together, or a model's proposal is among it; which files, and what to do, the message says.
        BusyError: main has moved meanwhile.
    """
    project = Tree(settings.project)
    if _at(project, BRANCH) != approved:
        raise UsageError(
            f"{BRANCH} is at {_at(project, BRANCH) or 'no commit'}, and {approved} was approved: what came after it nobody has seen. "
            "Ask for the approval anew"
        )
    main = _at(project, MAIN)
    if main is None:
        raise UsageError(f"there is no branch {MAIN} to merge into")
    if project.tried("merge-base", "--is-ancestor", approved, main).returncode == 0:
        return Merge(main, f"{MAIN} holds {approved[:12]} already")
    if unread := _unmeasured(project, delivery, approved):
        raise HeldError(
            f"a model has proposed {', '.join(unread)} on {BRANCH}, which no gate of this delivery has measured: read it, then take "
            f"it into {MAIN} (`git cherry-pick`) and deliver that, or take it back on {BRANCH} (`git revert`); nothing was merged"
        )
    place = worktree.checked_out(settings.project, MAIN)
    if place is not None:
        _write(
            settings,
            delivery,
            approved,
            place,
            f"`{MAIN}` is checked out in `{place}`, and nobody works there but you.",
        )
        return Merge(None, f"{MAIN} is checked out in {place}: .team/{PLACE} has the commands")
    with worktree.beside(settings, "merge", main, branch=False) as tree:
        done = tree.tried(*worktree.identity("RM"), "merge", "--no-ff", "--quiet", "-m", _message(delivery), approved)
        if done.returncode:
            unmerged = tree.git("diff", "--name-only", "--diff-filter=U").splitlines()
            _write(
                settings,
                delivery,
                approved,
                None,
                f"It does not go together by itself: {', '.join(unmerged) or 'see below'}.",
            )
            if not unmerged:
                raise StackError(f"the merge was refused: {' '.join((done.stderr or done.stdout).split())[-600:]}")
            raise HeldError(
                f"{BRANCH} and {MAIN} have both changed {', '.join(unmerged)}; nothing was merged, .team/{PLACE} has the commands"
            )
        made = tree.git("rev-parse", "HEAD")
        project.let_go(f"refs/heads/{MAIN}")
        why = f"merge {BRANCH} of {delivery.delivery_id}"
        if project.tried("update-ref", "-m", why, f"refs/heads/{MAIN}", made, main).returncode:
            raise BusyError(
                f"{MAIN} has moved from {main[:12]} while it was merged with; nothing was changed, try again"
            )
    log.info("merged", branch=MAIN, commit=made[:12], approved=approved[:12])
    return Merge(made, f"{MAIN} is at {made[:12]}; nothing was pushed")


def _unmeasured(project: Tree, delivery: Delivery, approved: str) -> list[str]:
    """Return the files that a model has proposed on the branch and that are not so in the commit that was delivered."""
    told = f"--format=%x1e%(trailers:key={PROPOSED},valueonly,separator=%x20)%x1f"
    log = project.git("log", "--no-merges", "--name-only", told, f"{delivery.code_version}..{approved}")
    commits = [commit.split("\x1f") for commit in log.split("\x1e") if commit.strip()]
    names = {name for trailer, told_of in commits if trailer.strip() for name in told_of.split("\n") if name.strip()}
    files = sorted(name for name in names if not name.startswith(".team/"))
    if not files:
        return []
    return project.git("diff", "--name-only", delivery.code_version, approved, "--", *files).splitlines()


def _at(project: Tree, branch: str) -> str | None:
    found = project.tried("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
    return found.stdout.strip() or None


def _message(delivery: Delivery) -> str:
    return f"chore(release): merge {BRANCH} of {delivery.delivery_id}"


def _write(settings: Settings, delivery: Delivery, approved: str, place: Path | None, why: str) -> None:
    """Write what a person types; a merge overwrites ignored files and is refused over changed ones, so `.team/` is copied aside."""
    aside = f".team.before-{approved[:12]}"
    commands = [
        f"cd {shlex.quote(str(place or settings.project))}",
        # The team goes on to commit: its last report comes after the merge.
        f"git merge-base --is-ancestor {approved} refs/heads/{BRANCH}",
        f"git switch {MAIN}",
        f"cp -a .team {aside}",
        # Since the first merge main has files of the team, which every delivery writes anew.
        "git ls-files -z .team | xargs -0 -r git checkout --quiet HEAD --",
        f"git merge --no-ff -m {shlex.quote(_message(delivery))} {approved}",
    ]
    lines = [
        f"# Merge `{BRANCH}` into `{MAIN}`",
        "",
        f"Approved: commit `{approved}` of `{BRANCH}`, delivery `{delivery.delivery_id}`. {why} These commands merge that commit and "
        f"nothing that came after it, and push nothing. `.team/` is ignored on `{MAIN}`, and what the merge overwrites there is copied aside first.",
        "",
        *code(" &&\n".join(commands), "sh"),
    ]
    keep(folder(settings), PLACE, "\n".join(lines).encode())
