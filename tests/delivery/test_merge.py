"""What goes into main: the approved commit and no other, beside the user's checkout or by the user's own hand."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.delivery.repository import Repository

from tidegate.delivery import approval, checkout, sync
from tidegate.delivery.merge import PLACE, merge
from tidegate.errors import HeldError, UsageError


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with one commit of a role, and a user who is on another branch than main."""
    found = Repository.make(tmp_path)
    found.git("switch", "--quiet", "-c", "mine")
    sync.commit(found.work("PG", "2"), [found.artifact("postgresql/SCHEMA_DDL.md", "# DDL\n")], [])
    return found


def commands(repository: Repository) -> str:
    found = re.search(r"```sh\n(.*?)\n```", (repository.root / ".team" / PLACE).read_text(), re.S)
    assert found is not None
    return found[1]


def test_who_wrote_a_release_has_still_written_it_when_it_is_tagged(repository: Repository) -> None:
    repository.git("tag", "v0.1.0")
    assert checkout.last_tag(repository.root) is None
    assert {"ada", "ada@example.org"} <= approval.authors(repository.settings, repository.team)
    words = ("-c", "user.name=Bo", "-c", "user.email=bo@example.org", "commit", "--quiet", "--message=fix(x): more")
    repository.git(*words)
    repository.git("tag", "v0.2.0")
    assert checkout.last_tag(repository.root) == "v0.1.0"
    people = approval.authors(repository.settings, repository.team)
    assert ("bo" in people, "ada" in people) == (True, False)


def test_main_gets_the_approved_commit_beside_the_checkout_and_once(repository: Repository) -> None:
    before, main, approved = repository.of_the_user(), *(repository.git("rev-parse", b) for b in ("main", "ai-team"))
    done = merge(repository.settings, repository.delivery, approved)
    assert done.commit == repository.git("rev-parse", "main")
    assert repository.git("rev-parse", "main^1", "main^2").splitlines() == [main, approved]
    after = repository.of_the_user()
    assert {name for name in before if after[name] != before[name]} == {".git/refs/heads/main"}
    assert merge(repository.settings, repository.delivery, approved).commit == done.commit
    assert not (repository.root / ".team" / PLACE).exists()


def test_what_was_added_after_the_approval_is_not_merged(repository: Repository) -> None:
    main, approved = (repository.git("rev-parse", branch) for branch in ("main", "ai-team"))
    sync.commit(repository.work("MIG", "2"), [repository.artifact("migrations/PLAN.md", "# Plan\n")], [])
    with pytest.raises(UsageError, match="what came after it nobody has seen"):
        merge(repository.settings, repository.delivery, approved)
    assert repository.git("rev-parse", "main") == main


def test_a_main_that_is_checked_out_is_merged_by_its_user(repository: Repository) -> None:
    repository.git("switch", "--quiet", "main")
    before, approved = repository.of_the_user(), repository.git("rev-parse", "ai-team")
    done = merge(repository.settings, repository.delivery, approved)
    assert done.commit is None
    assert PLACE in done.told
    assert repository.of_the_user() == before
    assert approved in commands(repository)
    repository.git("commit", "--quiet", "--all", "--message=feat(x): mine")
    subprocess.run(["sh", "-c", commands(repository)], check=True, capture_output=True)
    assert repository.git("rev-parse", "main^2") == approved
    kept = repository.root / f".team.before-{approved[:12]}" / "postgresql/SCHEMA_DDL.md"
    assert kept.read_text() == "# DDL\n"


def test_the_commands_for_the_user_merge_nothing_that_the_team_commits_afterwards(repository: Repository) -> None:
    repository.git("switch", "--quiet", "main")
    approved = repository.git("rev-parse", "ai-team")
    merge(repository.settings, repository.delivery, approved)
    sync.commit(repository.work("MIG", "2"), [repository.artifact("migrations/PLAN.md", "# Plan\n")], [])
    repository.git("commit", "--quiet", "--all", "--message=feat(x): mine")
    subprocess.run(["sh", "-c", commands(repository)], check=True, capture_output=True)
    assert repository.git("rev-parse", "main^2") == approved
    assert "migrations/PLAN.md" not in repository.git("ls-tree", "-r", "--name-only", "main")


def test_the_commands_for_the_user_merge_the_second_delivery_over_the_files_of_the_first(
    repository: Repository,
) -> None:
    repository.git("switch", "--quiet", "main")
    repository.git("commit", "--quiet", "--all", "--message=feat(x): mine")
    for text in ("# DDL\n", "# DDL of the second\n"):
        sync.commit(repository.work("PG", "2"), [repository.artifact("postgresql/SCHEMA_DDL.md", text)], [])
        approved = repository.git("rev-parse", "ai-team")
        merge(repository.settings, repository.delivery, approved)
        # The board goes on to change, here as in every delivery.
        (repository.root / ".team/postgresql/SCHEMA_DDL.md").write_text(f"{text}and more\n")
        subprocess.run(["sh", "-c", commands(repository)], check=True, capture_output=True)
        assert repository.git("rev-parse", "main^2") == approved
        assert repository.git("show", "main:.team/postgresql/SCHEMA_DDL.md") == text.strip()
        kept = repository.root / f".team.before-{approved[:12]}" / "postgresql/SCHEMA_DDL.md"
        assert kept.read_text() == f"{text}and more\n"


def test_the_commands_for_the_user_refuse_what_the_branch_has_taken_back(repository: Repository) -> None:
    repository.git("switch", "--quiet", "main")
    merge(repository.settings, repository.delivery, repository.git("rev-parse", "ai-team"))
    repository.git("update-ref", "refs/heads/ai-team", "ai-team~1")
    main = repository.git("rev-parse", "main")
    assert subprocess.run(["sh", "-c", commands(repository)], check=False, capture_output=True).returncode
    assert repository.git("rev-parse", "main") == main


def test_what_does_not_go_together_is_left_to_a_person(repository: Repository, tmp_path: Path) -> None:
    for branch, text in (("main", "theirs\n"), ("ai-team", "the team's\n")):
        tree = tmp_path / f"of-{branch}"
        repository.git("worktree", "add", "--quiet", "--force", "--detach", str(tree), branch)
        (tree / "README.md").write_text(text)
        repository.git("commit", "--quiet", "--all", "--message=fix(x): another word", at=tree)
        repository.git("update-ref", f"refs/heads/{branch}", "HEAD", at=tree)
    before, main = repository.of_the_user(), repository.git("rev-parse", "main")
    for _ in range(2):
        with pytest.raises(HeldError, match=r"have both changed README\.md"):
            merge(repository.settings, repository.delivery, repository.git("rev-parse", "ai-team"))
    assert repository.git("rev-parse", "main") == main
    assert repository.of_the_user() == before
    assert "git merge --no-ff" in commands(repository)
