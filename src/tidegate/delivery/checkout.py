"""The repository that is delivered, asked through git: which commit, by whom, what has changed; nothing is written here."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import StackError, first_line


@dataclass(frozen=True)
class Commit:
    """One commit, with the e-mail address and the name of who wrote it."""

    sha: str
    author: str
    email: str
    at: str
    subject: str


def git(project: Path, *words: str) -> str:
    """Return what git prints; raises StackError when it refuses, or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(project), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise StackError("git is not installed on this machine: a delivery is made of commits") from error
    if done.returncode:
        raise StackError(f"`git {words[0]}` failed in {project}: {first_line(done.stderr or done.stdout)}")
    return done.stdout.rstrip("\n")


def version(project: Path) -> str:
    """Return the commit that is checked out."""
    return git(project, "rev-parse", "HEAD")


def commits(project: Path, since: str | None = None, *, most: int = 1000) -> list[Commit]:
    """Return the commits since a tag or commit, the newest first; all, as many as `most`, without one."""
    told = git(
        project,
        "log",
        f"--max-count={most}",
        "--format=%H%x1f%an%x1f%ae%x1f%cI%x1f%s",
        f"{since}..HEAD" if since else "HEAD",
    )
    return [Commit(*line.split("\x1f")) for line in told.splitlines()]


def last_tag(project: Path, commit: str = "HEAD") -> str | None:
    """Return the newest version tag that leads to a commit, if there is one.

    The commit's own tag is not meant: what was released a moment ago is new since the release before.
    """
    told = git(
        project, "tag", "--merged", commit, "--no-contains", commit, "--list", "v[0-9]*", "--sort=-version:refname"
    )
    return told.splitlines()[0] if told else None


def remote(project: Path) -> str | None:
    """Return the name of the remote that is pushed to: the default for pushes, `origin`, or the only one."""
    names = git(project, "remote").splitlines()
    try:
        chosen = git(project, "config", "--get", "remote.pushDefault")
    except StackError:
        chosen = "origin"
    return chosen if chosen in names else names[0] if len(names) == 1 else None
