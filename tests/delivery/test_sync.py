"""What roles commit beside the checkout: in turns, without a secret, without a trace in what is the user's."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import string
import subprocess
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import CHECKOUT
from tests.delivery.repository import Repository

from tidegate.delivery import manifest, sync, worktree
from tidegate.delivery.checkout import Commit
from tidegate.errors import LeakError, StackError, UnavailableError, UsageError
from tidegate.evidence.probe import CannotRunError


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """A repository of which nothing changes that is the user's, whatever the test does."""
    found = Repository.make(tmp_path)
    found.artifact("postgresql/SCHEMA_DDL.md", "# DDL\n")
    found.artifact("evidence/pg/schema_apply.log", "applied\n")
    found.artifact("evidence/manifests/PG_manifest.md", "# Evidence Manifest\n")
    before = found.of_the_user()
    yield found
    assert found.of_the_user() == before


def commit(repository: Repository, **settings: bool) -> Commit | None:
    work = repository.work("PG", "2")
    return sync.commit(
        replace(work, settings=work.settings.model_copy(update=settings)),
        ["postgresql/SCHEMA_DDL.md"],
        ["evidence/pg/schema_apply.log"],
    )


def test_a_role_is_one_commit_that_says_who_when_and_by_which_evidence(repository: Repository) -> None:
    made = commit(repository)
    assert made is not None
    assert made.sha == repository.git("rev-parse", "ai-team")
    assert (made.author, made.email, made.subject) == ("tidegate PG", "pg@tidegate.invalid", "docs(pg): schema ddl")
    message = repository.git("log", "-1", "--format=%B", "ai-team").strip().splitlines()
    assert message[-3:] == ["Evidence: .team/evidence/pg/schema_apply.log", "Agent: PostgreSQL Engineer", "Wave: 2"]
    assert repository.git("show", "--name-only", "--format=", "ai-team").splitlines() == [
        ".team/COMMIT_LOG.md",
        ".team/evidence/manifests/PG_manifest.md",
        ".team/evidence/pg/schema_apply.log",
        ".team/postgresql/SCHEMA_DDL.md",
    ]
    assert repository.git("show", "ai-team:.team/postgresql/SCHEMA_DDL.md") == "# DDL"
    assert repository.git("branch", "--list", "--format=%(refname:short)").splitlines() == ["ai-team", "main"]


def test_what_is_committed_already_is_not_committed_again(repository: Repository) -> None:
    first = commit(repository)
    assert commit(repository) is None
    repository.artifact("postgresql/SCHEMA_DDL.md", "# DDL, anew\n")
    second = commit(repository)
    assert first is not None
    assert second is not None
    assert repository.commits() == ["feat(x): begin", first.subject, second.subject]


def test_the_log_has_the_columns_of_the_team_document_and_comes_from_git(repository: Repository) -> None:
    made = commit(repository)
    signed = repository.artifact("qa/QA_SIGNOFF.md", "status: PASS\n")
    sync.commit(repository.work("QA", "3"), [signed], [], issue=12)
    lines = (repository.root / ".team/COMMIT_LOG.md").read_text().splitlines()
    assert made is not None
    short, newest = repository.git("log", "--reverse", "--format=%h", "main..ai-team").splitlines()
    assert made.sha.startswith(short)
    assert lines[2:] == [
        "| # | Hash | Agent | Type | Description | Issue | Wave | Evidence |",
        "|---|---|---|---|---|---|---|---|",
        f"| 1 | {short} | PG | docs | schema ddl |  | 2 | schema_apply.log |",
        f"| 2 | {newest} | QA | evidence | qa signoff | #12 | 3 | manifest |",
    ]


def test_a_secret_stops_hard_and_leaves_no_trace_in_the_repository(repository: Repository) -> None:
    secret = "ghp_" + "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=36))
    path = repository.write(".team/postgresql/SCHEMA_DDL.md", f"# DDL\n\ntoken: {secret}\n")
    with pytest.raises(LeakError, match=r"github-pat in \.team/postgresql/SCHEMA_DDL\.md:3") as stopped:
        commit(repository)
    assert secret not in str(stopped.value)
    assert repository.commits() == ["feat(x): begin"]
    blob = repository.git("hash-object", str(path))
    asked = subprocess.run(["git", "cat-file", "-e", blob], cwd=repository.root, check=False, capture_output=True)
    assert asked.returncode
    path.write_text("# DDL\n")
    assert commit(repository) is not None
    assert not any(secret in file.read_text() for file in repository.home.rglob("*.md"))


def test_the_hash_of_a_file_is_no_secret_whatever_the_file_is_called(repository: Repository) -> None:
    digest = hashlib.sha256(b"a guide").hexdigest()
    told = json.dumps({"marketing/DATA_ACCESS_GUIDE.md": digest}, indent=1)
    name = repository.artifact("reports/ledger_001.json", told)
    with pytest.raises(LeakError, match="generic-api-key"):
        sync.commit(repository.work("PM", "5"), [name], [])
    shutil.copy(CHECKOUT / ".gitleaks.toml", repository.root)
    assert sync.commit(repository.work("PM", "5"), [name], []) is not None
    repository.artifact("reports/ledger_001.json", told.replace(digest, digest[:40] + "x"))
    with pytest.raises(LeakError, match="generic-api-key"):
        sync.commit(repository.work("PM", "5"), [name], [])
    (repository.root / ".gitleaks.toml").unlink()


def test_roles_that_finish_together_take_turns(repository: Repository) -> None:
    codes = ["DBA", "MIG", "CACHE", "LEGAL", "MKT"]

    def work(code: str) -> Commit | None:
        name = repository.artifact(f"{code.lower()}/PLAN.md", f"# Plan of {code}\n")
        return sync.commit(repository.work(code, "2"), [name], [])

    with ThreadPoolExecutor(len(codes)) as pool:
        made = list(pool.map(work, codes))
    assert None not in made
    assert sorted(repository.commits()[1:]) == sorted(f"docs({code.lower()}): plan" for code in codes)
    log = (repository.root / ".team/COMMIT_LOG.md").read_text()
    assert all(f"| {code} | docs | plan |" in log for code in codes)


def test_a_kill_after_any_call_of_git_leaves_nothing_that_the_next_run_cannot_mend(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in range(1, 60):
        repository.artifact("postgresql/SCHEMA_DDL.md", f"# DDL, written before death {call}\n")
        if not _killed(repository, tmp_path / "bin", call, monkeypatch):
            break
    assert call > 10
    told = repository.git("show", "ai-team:.team/postgresql/SCHEMA_DDL.md")
    assert told == f"# DDL, written before death {call}"
    assert repository.git("fsck", "--strict", "--no-dangling") == ""
    assert repository.commits().count("docs(pg): schema ddl") == len(repository.commits()) - 1


def _killed(repository: Repository, folder: Path, call: int, patch: pytest.MonkeyPatch) -> bool:
    """Commit in a child whose `call`-th call of git kills it with SIGKILL at its end; return whether it came to that."""
    folder.mkdir(exist_ok=True)
    (folder / "count").write_text("")
    real = shutil.which("git")
    (folder / "git").write_text(
        f"#!/bin/sh\necho >> {folder}/count\n"
        f'[ $(wc -l < {folder}/count) -eq {call} ] || exec {real} "$@"\n{real} "$@"\nkill -9 $PPID\n'
    )
    (folder / "git").chmod(0o755)
    with patch.context() as inside:
        inside.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                commit(repository)
                status = 0
            except (CannotRunError, UnavailableError) as stopped:
                # It was gitleaks that asked git, and died: what it has not seen is not committed.
                os.kill(os.getpid(), signal.SIGKILL if "gitleaks" in str(stopped) else signal.SIGTERM)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


def test_git_killed_in_the_middle_of_it_leaves_locks_and_the_next_role_gets_in(repository: Repository) -> None:
    repository.hook("pre-commit", "kill -9 $PPID")
    with pytest.raises(StackError, match="no reason given"):
        commit(repository)
    for lock in ("worktrees/ai-team/index.lock", "worktrees/ai-team/HEAD.lock", "refs/heads/ai-team.lock"):
        (repository.root / ".git" / lock).touch()
    repository.hook("pre-commit", "exit 0")
    assert commit(repository) is not None
    assert repository.commits() == ["feat(x): begin", "docs(pg): schema ddl"]


def test_a_worktree_that_was_half_made_or_taken_away_is_made_anew(repository: Repository) -> None:
    commit(repository)
    tree = repository.home / "worktrees/ai-team"
    shutil.rmtree(tree)
    repository.artifact("postgresql/SCHEMA_DDL.md", "# DDL 2\n")
    assert commit(repository) is not None
    (tree / ".git").unlink()
    repository.artifact("postgresql/SCHEMA_DDL.md", "# DDL 3\n")
    assert commit(repository) is not None
    own = repository.root / ".git/worktrees/ai-team"
    (own / "locked").write_text("initializing")
    (own / "gitdir").unlink()
    repository.artifact("postgresql/SCHEMA_DDL.md", "# DDL 4\n")
    assert commit(repository) is not None
    assert len(repository.commits()) == 5
    listed = repository.git("worktree", "list", "--porcelain")
    assert listed.count("worktree ") == 2


def test_hooks_of_the_repository_run_and_their_word_counts(repository: Repository) -> None:
    repository.write(".venv/bin/judge", "#!/bin/sh\necho 'the judge says no' >&2\nexit 1\n").chmod(0o755)
    repository.hook("commit-msg", ".venv/bin/judge")
    with pytest.raises(StackError, match="the judge says no"):
        commit(repository)
    assert repository.commits() == ["feat(x): begin"]
    (repository.root / ".venv/bin/judge").write_text("#!/bin/sh\nexit 0\n")
    assert commit(repository) is not None
    (repository.root / ".venv/bin/judge").unlink()
    shutil.rmtree(repository.root / ".venv")


def test_nothing_but_files_of_the_team_is_committed(repository: Repository) -> None:
    work = repository.work("PG", "2")
    for path in ("../README.md", "postgresql/../../notes.txt", "/etc/passwd"):
        with pytest.raises(UsageError, match=r"leads out of \.team/"):
            sync.commit(work, [path], [])
    (repository.root / ".team/link.md").symlink_to(repository.root / "notes.txt")
    with pytest.raises(UsageError, match=r"leads out of \.team/"):
        sync.commit(work, ["link.md"], [])
    (repository.root / ".team/link.md").unlink()
    with pytest.raises(UsageError, match="the role has to make it first"):
        sync.commit(work, [], ["evidence/pg/gone.log"])


def test_the_users_own_checkout_of_the_branch_is_not_written_to(repository: Repository, tmp_path: Path) -> None:
    repository.git("worktree", "add", "--quiet", "-b", "ai-team", str(tmp_path / "mine"))
    with pytest.raises(UsageError, match="is checked out in"):
        commit(repository)


def test_after_a_merge_the_branch_goes_on_from_what_is_delivered(repository: Repository, tmp_path: Path) -> None:
    commit(repository)
    repository.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "ahead"), "main")
    repository.git("merge", "--quiet", "--no-ff", "--message=feat(x): merge", "ai-team", at=tmp_path / "ahead")
    ahead = repository.git("rev-parse", "HEAD", at=tmp_path / "ahead")
    repository.artifact("postgresql/SCHEMA_DDL.md", "# DDL of the next delivery\n")
    with worktree.beside(repository.settings, "ai-team", "HEAD", branch=True) as tree:
        sync._keep_up(tree, ahead)
    assert commit(repository) is not None
    assert repository.git("rev-parse", "ai-team~1") == ahead


def test_only_the_branch_is_pushed_and_only_where_it_is_allowed(repository: Repository, tmp_path: Path) -> None:
    remote = tmp_path / "remote.git"
    repository.git("init", "--quiet", "--bare", str(remote))
    config = repository.root / ".git/config"
    before = config.read_bytes()
    repository.git("remote", "add", "origin", str(remote))

    def refs() -> list[str]:
        return repository.git("for-each-ref", "--format=%(refname) %(objectname)", at=remote).splitlines()

    first = commit(repository)
    assert first is not None
    assert refs() == []
    assert commit(repository, team_push=True) is None
    assert refs() == [f"refs/heads/ai-team {first.sha}"]
    # Somebody else has pushed meanwhile: nothing of theirs is overwritten.
    other = tmp_path / "other"
    repository.git("clone", "--quiet", "--branch=ai-team", str(remote), str(other))
    theirs = ("-c", "user.name=Eve", "-c", "user.email=eve@example.org", "commit", "--quiet", "--allow-empty")
    repository.git(*theirs, "--message=feat(x): theirs", at=other)
    repository.git("push", "--quiet", at=other)
    pushed = refs()
    repository.artifact("postgresql/SCHEMA_DDL.md", "# DDL 2\n")
    with pytest.raises(UnavailableError, match="does not take it"):
        commit(repository, team_push=True)
    assert refs() == pushed
    assert len(repository.commits()) == 3
    config.write_bytes(before)
    shutil.rmtree(repository.root / ".git/refs/remotes")


def test_a_strategy_that_pushes_nothing_is_heeded(repository: Repository, tmp_path: Path) -> None:
    strategy = repository.root / "strategies/database.md"
    text = strategy.read_text()
    strategy.write_text(text.replace("**Auto-push enabled?**: Yes", "**Auto-push enabled?**: No"))
    remote, config = tmp_path / "remote.git", repository.root / ".git/config"
    before = config.read_bytes()
    repository.git("init", "--quiet", "--bare", str(remote))
    repository.git("remote", "add", "origin", str(remote))
    assert commit(repository, team_push=True) is not None
    assert repository.git("for-each-ref", at=remote) == ""
    strategy.write_text(text)
    config.write_bytes(before)


def test_a_role_with_no_manifest_of_its_own_commits_its_files_alone(repository: Repository) -> None:
    manifest.place(repository.root / ".team", "PG").unlink()
    assert commit(repository) is not None
    assert "PG_manifest.md" not in repository.git("show", "--name-only", "--format=", "ai-team")
