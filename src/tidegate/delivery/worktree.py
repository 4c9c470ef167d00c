"""Work on a branch beside the user's checkout: in a git worktree under `.tidegate/`, one process at a time.

The checkout's HEAD, index, files and configuration are never written. What is committed there is not known here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import StackError, UsageError, first_line
from tidegate.settings import Settings

#: A lock of git's that is older belongs to a process that was killed: changing a reference takes milliseconds.
_STALE_SECONDS = 3.0
#: Nothing that goes on in the background would hold our lock; nobody's key signs what a program says; no colours.
_OPTIONS = {
    "gc.auto": "0", "maintenance.auto": "false", "core.fsmonitor": "false", "commit.gpgSign": "false", "tag.gpgSign": "false",
    "core.autocrlf": "false", "advice.detachedHead": "false",
}  # fmt: skip


@dataclass(frozen=True)
class Tree:
    """A worktree that is ours until the block ends, clean and at the tip of its branch, or of nothing but a commit."""

    path: Path
    lock: int | None = None

    def git(self, *words: str, said: str | None = None, environment: Mapping[str, str] | None = None) -> str:
        """Return what git prints in the worktree; hooks run, as they do for everybody.

        Raises:
            StackError: git, or a hook, refuses; its words are in the message.
        """
        done = self.tried(*words, said=said, environment=environment)
        if done.returncode:
            told = " ".join((done.stderr or done.stdout).split())[-600:]
            raise StackError(
                f"`git {words[0]}` was refused beside the checkout ({self.path}): {told or 'no reason given'}"
            )
        return done.stdout.rstrip("\n")

    def tried(
        self, *words: str, said: str | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run git in the worktree and return how it ended."""
        return _run(self.path, words, self.lock, said, environment)

    @property
    def common(self) -> Path:
        """Where git keeps what all worktrees of the repository share."""
        return Path(self.git("rev-parse", "--path-format=absolute", "--git-common-dir"))

    def let_go(self, reference: str) -> None:
        """Remove the lock that a killed process of git has left on a reference."""
        _break_stale(iter([self.common / f"{reference}.lock"]))


@contextmanager
def beside(settings: Settings, name: str, start: str, *, branch: bool) -> Iterator[Tree]:
    """Have the worktree `name` for as long as the block runs, on the branch of that name or, without one, at `start`.

    The branch begins at `start` where there is none. Others wait; what a killed process has left is put in order first.

    Raises:
        UsageError: the branch is checked out somewhere else.
        StackError: git is not there, the project is no repository, or git refuses.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    path = settings.home / "worktrees" / name
    # Git's own processes inherit the file, and with it the lock: one that outlives us is waited for, too.
    with (settings.home / f"worktree-{name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        tree, project = Tree(path, file.fileno()), Tree(settings.project, file.fileno())
        common = project.common
        target = f"refs/heads/{name}" if branch else start
        if branch:
            _require_free(project, name, path)
            project.let_go(target)
        if not _is_whole(tree, common, name if branch else None):
            _forget(path, common)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not branch:
                words = ["--detach", str(path), start]
            elif project.tried("rev-parse", "--verify", "--quiet", target).returncode == 0:
                words = [str(path), name]
            else:
                words = ["--no-track", "-b", name, str(path), start]
            project.git("worktree", "add", "--quiet", *words)
        _break_stale(_own(path, common).glob("*.lock"))
        if not branch:
            tree.git("checkout", "--quiet", "--force", "--detach", target)
        tree.git("reset", "--quiet", "--hard", target)
        tree.git("clean", "--quiet", "-ffdx", "--exclude=/.venv")
        _lend_tools(settings.project, path)
        yield tree


def checked_out(project: Path, branch: str) -> Path | None:
    """Return the folder in which a branch is checked out, the user's or another worktree; None where it is in none."""
    listed = _run(project, ("worktree", "list", "--porcelain"), None)
    if listed.returncode:
        raise StackError(f"{project} is no git repository: {first_line(listed.stderr)}")
    folder = ""
    for line in listed.stdout.splitlines():
        if line.startswith("worktree "):
            folder = line.removeprefix("worktree ")
        elif line == f"branch refs/heads/{branch}":
            return Path(folder)
    return None


def identity(name: str) -> tuple[str, ...]:
    """Return the words by which git takes an author's name from us, and from no configuration."""
    return "-c", f"user.name=tidegate {name}", "-c", f"user.email={name.lower()}@tidegate.invalid"


def _verb(words: tuple[str, ...]) -> str:
    """Return the command among git's words, which begin with options where it is told who commits."""
    return words[4] if words[0] == "-c" else words[0]


def _run(
    folder: Path,
    words: tuple[str, ...],
    lock: int | None,
    said: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    # Variables such as GIT_DIR, set by whoever called us from a hook, would lead to another repository.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    options = [word for option in _OPTIONS.items() for word in ("-c", "=".join(option))]
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *options, *words],
            env={**clean, "LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", **(environment or {})},
            input=said or "", capture_output=True, text=True, errors="replace", check=False,
            pass_fds=[lock] if lock is not None else [],
        )  # fmt: skip
    except FileNotFoundError as error:
        raise StackError("git is not installed on this machine: a delivery is made of commits") from error


def _require_free(project: Tree, name: str, path: Path) -> None:
    found = checked_out(project.path, name)
    if found is not None and found.resolve() != path.resolve():
        raise UsageError(
            f"the branch {name} is checked out in {found}, and the team commits on it: "
            f"`git -C {found} switch main` (or any other branch) lets it go on"
        )


def _is_whole(tree: Tree, common: Path, branch: str | None) -> bool:
    """Return whether the worktree is one, of this repository, and on its branch."""
    own = _own(tree.path, common)
    if not (tree.path / ".git").is_file() or not (own / "HEAD").is_file() or (own / "locked").exists():
        return False
    found = tree.tried("rev-parse", "--path-format=absolute", "--git-common-dir", "--symbolic-full-name", "HEAD")
    if found.returncode:
        return False
    place, head = found.stdout.splitlines()[:2]
    return Path(place) == common and (branch is None or head == f"refs/heads/{branch}")


def _own(path: Path, common: Path) -> Path:
    """Return where git keeps what it knows of the worktree; a place that is not there where it knows nothing."""
    for known in (common / "worktrees").glob("*/gitdir"):
        if known.read_text().strip() == str(path / ".git"):
            return known.parent
    return common / "worktrees" / path.name / "unknown"


def _forget(path: Path, common: Path) -> None:
    """Remove what is left of a worktree that was being made, or moved: it held copies, and what is committed stays."""
    own = _own(path, common)
    if own.is_dir():
        shutil.rmtree(own)
    # Killed before it was noted whose it is.
    half = common / "worktrees" / path.name
    if half.is_dir() and not (half / "gitdir").exists():
        shutil.rmtree(half)
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _break_stale(locks: Iterator[Path]) -> None:
    """Remove locks of git's that nobody holds any more: those that are there for longer than any change takes."""
    for lock in locks:
        while lock.exists() and time.time() - lock.stat().st_mtime < _STALE_SECONDS:
            time.sleep(0.05)
        lock.unlink(missing_ok=True)


def _lend_tools(project: Path, path: Path) -> None:
    """Let hooks find the programs that the checkout keeps in .venv, by the names they know them by."""
    there = path / ".venv"
    if (project / ".venv").is_dir() and not there.is_symlink():
        there.symlink_to(project / ".venv")
