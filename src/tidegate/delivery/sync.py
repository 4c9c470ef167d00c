"""A role's files become one commit on the branch `ai-team`, made beside the checkout and pushed only where that is allowed.

Nothing with a secret in it is committed: it does not even reach the repository's store of objects.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

import structlog

from tidegate.delivery import checkout, commit_log, manifest, worktree
from tidegate.delivery.approval import BRANCH
from tidegate.delivery.checkout import Commit
from tidegate.delivery.work import Work, folder
from tidegate.delivery.worktree import Tree
from tidegate.errors import LeakError, UnavailableError, UsageError, first_line
from tidegate.evidence import static
from tidegate.settings import Settings

log = structlog.get_logger(__name__)

#: Of the team document.
Type = Literal["feat", "fix", "test", "docs", "ci", "refactor", "perf", "security", "chore", "evidence"]
#: The trailer of a commit whose files a model has written.
PROPOSED = "Proposed-By"
#: Folders of `.team/` whose files are proof, and no description of anything.
_PROOF = ("evidence", "qa")
_NAMED = 3


def commit(
    work: Work,
    artifacts: Iterable[str],
    evidence: Sequence[str] | None = None,
    *,
    kind: Type | None = None,
    issue: int | None = None,
) -> Commit | None:
    """Commit a role's artifacts and evidence, both given from `.team/` on, with its manifest; None where nothing is new.

    Without `evidence` it is all that the ledger says the role has taken. The branch begins at what is checked out. Roles
    take turns. Cut short at any place, it is run again; what was committed and could not be pushed, the next call pushes.

    Raises:
        LeakError: gitleaks has found a secret in it; the message names rule and file, and nothing was committed.
        CannotRunError: gitleaks is not installed, or could not look; nothing was committed.
        UsageError: a path leads out of `.team/` or to no file, or the branch is checked out somewhere.
        StackError: git or one of the repository's hooks refuses; its words are in the message.
        UnavailableError: the remote does not take it.
    """
    settings, paths = work.settings, list(artifacts)
    proofs = _taken(work) if evidence is None else list(evidence)
    own = manifest.place(work.folder, work.role.code)
    files = [*paths, *proofs, *([str(own.relative_to(work.folder))] if own.exists() else [])]
    names = [_below(settings, name) for name in dict.fromkeys(files)]
    contents = {name: (settings.project / name).read_bytes() for name in names}
    return _commit(work, contents, _message(work, paths, proofs, kind, issue))


def propose(work: Work, files: Mapping[str, str], summary: str, confidence: float) -> Commit | None:
    """Commit files that a model has written, by their paths from the project on; None where the branch has them so already.

    They are on the branch alone: what is checked out, and is measured, is not touched. What may be written where, the caller
    has judged.

    Raises:
        UsageError: a path leads through a link, or out of the worktree.
        LeakError, StackError, UnavailableError: as `commit` does.
    """
    kind: Type = "fix" if work.failing else "feat"
    message = [
        f"{kind}({work.role.code.lower()}): {' '.join(summary.split())[:60] or in_words(list(files))}",
        "",
        f"{work.role.name} proposes; nobody has run it, and no gate has measured it.",
        "",
        *(f"- {name}" for name in files),
        "",
        f"Evidence: .team/evidence/manifests/{work.role.code}_manifest.md",
        f"Agent: {work.role.name}",
        f"Wave: {work.wave}",
        f"{PROPOSED}: the model of the connection {work.settings.team_model_connection}, confidence {confidence:.2f}",
    ]
    return _commit(work, {name: text.encode() for name, text in files.items()}, "\n".join(message))


def _commit(work: Work, contents: Mapping[str, bytes], message: str) -> Commit | None:
    settings, made, names = work.settings, None, list(contents)
    with worktree.beside(settings, BRANCH, "HEAD", branch=True) as tree:
        _keep_up(tree, work.delivery.code_version)
        for name, content in contents.items():
            _write(tree, name, content)
        if _are_new(settings, tree, names):
            tree.git("add", "--force", "--", *names)
            who = worktree.identity(work.role.code)
            tree.git(*who, "commit", "--quiet", "--cleanup=whitespace", "--file=-", said=message)
            made = checkout.commits(tree.path, most=1)[0]
            log.info("role committed", role=work.role.code, wave=work.wave, commit=made.sha[:12], files=len(names))
        commit_log.write(tree.path, settings.project)
        _push(work, tree)
    return made


def _write(tree: Tree, name: str, content: bytes) -> None:
    """Write a file of the worktree, and nothing that a link in it leads to."""
    path = tree.path / name
    inside = [part for part in (path, *path.parents) if part.is_relative_to(tree.path) and part != tree.path]
    if ".." in path.parts or not inside or any(part.is_symlink() for part in inside):
        raise UsageError(f"{name} leads through a link, or out of the worktree of {BRANCH}: nothing was written")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _taken(work: Work) -> list[str]:
    # Asked anew: the work may have looked before its probes ran.
    return [f"evidence/{one.path}" for one in replace(work).exhibits if one.role == work.role.code and one.sha256]


def in_words(paths: Sequence[str]) -> str:
    """Return what files are called, as one says it in a subject."""
    words = [PurePosixPath(path).stem.replace("_", " ").replace("-", " ").lower() for path in paths]
    return ", ".join(words[:_NAMED]) + (f" and {len(words) - _NAMED} more" if len(words) > _NAMED else "")


def _below(settings: Settings, name: str) -> str:
    """Return the path from the project on of a file that is below `.team/`, and nowhere else."""
    path = folder(settings) / PurePosixPath(name)
    if ".." in path.parts or not path.resolve().is_relative_to(folder(settings).resolve()):
        raise UsageError(f"found {name}, which leads out of .team/: a role commits what lies there, and nothing else")
    if not path.is_file():
        raise UsageError(f"there is no file .team/{name} to commit: the role has to make it first")
    return path.relative_to(settings.project).as_posix()


def _keep_up(tree: Tree, code_version: str) -> None:
    """Take what is delivered into the branch where that is a step forward: after it was merged, or before its first commit."""
    if tree.tried("merge-base", "--is-ancestor", "HEAD", code_version).returncode == 0:
        tree.git("merge", "--quiet", "--ff-only", code_version)


def _are_new(settings: Settings, tree: Tree, names: list[str]) -> bool:
    """Return whether the files differ from what is committed, the log then among them; raises LeakError as `commit` does.

    They are staged in an index and a store of objects that are thrown away: a secret leaves no trace in the repository.
    """
    objects = tree.git("rev-parse", "--path-format=absolute", "--git-path", "objects")
    with tempfile.TemporaryDirectory() as apart:
        environment = {
            "GIT_INDEX_FILE": str(Path(apart) / "index"),
            "GIT_OBJECT_DIRECTORY": apart,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
        }
        tree.git("read-tree", "HEAD", environment=environment)
        tree.git("add", "--force", "--", *names, environment=environment)
        if tree.tried("diff", "--cached", "--quiet", environment=environment).returncode == 0:
            return False
        commit_log.write(tree.path, tree.path)
        names.append(commit_log.PLACE)
        tree.git("add", "--force", "--", commit_log.PLACE, environment=environment)
        # What is no secret, the checkout says, and not a branch that programs write to.
        allowed = settings.project / ".gitleaks.toml"
        options = ["--staged", *([f"--config={allowed}"] if allowed.exists() else [])]
        _, found = static.leaks(tree.path, *options, environment=environment)
    if found:
        told = "; ".join(f"{leak['RuleID']} in {leak['File']}:{leak['StartLine']}" for leak in found)
        raise LeakError(
            f"gitleaks has found {len(found)} secrets in what was to be committed on {BRANCH}: {told}. Nothing was committed. "
            "Change the secret at once where it is valid, take it out of the file, then let the role work again"
        )
    return True


def _message(work: Work, paths: list[str], evidence: list[str], kind: Type | None, issue: int | None) -> str:
    role = work.role
    named = paths or evidence
    proof = all(PurePosixPath(path).parts[0] in _PROOF for path in named)
    subject = f"{kind or ('evidence' if proof else 'docs')}({role.code.lower()}): {in_words(named) or 'manifest'}"
    shown = [f".team/evidence/{path.removeprefix('evidence/')}" for path in evidence]
    shown = shown or [f".team/evidence/manifests/{role.code}_manifest.md"]
    return "\n".join(
        [
            subject + (f" [#{issue}]" if issue else ""),
            "",
            f"{role.name}: {role.does}.",
            *([""] if paths else []),
            *(f"- .team/{path}" for path in paths),
            "",
            f"Evidence: {', '.join(shown)}",
            f"Agent: {role.name}",
            f"Wave: {work.wave}",
        ]
    )


def _push(work: Work, tree: Tree) -> None:
    settings, allowed = work.settings, work.strategy.autosync.push
    if not settings.team_push:
        return
    if not allowed.text.lower().startswith("yes"):
        log.info("nothing is pushed", reason=f"{work.delivery.strategy}:{allowed.line}: {allowed.text}")
        return
    remote = checkout.remote(settings.project)
    if remote is None:
        return
    # By its full name on both sides: no configuration of the user's can make another branch of it.
    pushed = tree.tried("push", "--quiet", remote, f"refs/heads/{BRANCH}:refs/heads/{BRANCH}")
    if pushed.returncode:
        raise UnavailableError(
            f"{BRANCH} is committed, and {remote} does not take it: {first_line(pushed.stderr)}. Nothing is pushed by force: "
            f"see what `git fetch {remote} {BRANCH}` brings; the next role's commit tries again"
        )
