"""The commands that GitHub gets: written where they cannot be run, run where they can, made once in either case.

A program called `gh` stands in for GitHub's: it writes down what it is asked, and remembers issues and milestones.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.delivery.repository import Repository

from tidegate import strategy
from tidegate.delivery import board, github
from tidegate.delivery.ledger import Done, Release
from tidegate.errors import UnavailableError
from tidegate.settings import Settings

# Without `site` it starts at once, and nobody measures which of its lines are run: it is asked a hundred times.
GH = """#!{python} -S
import json, sys
from pathlib import Path

place, words = Path({place!r}), sys.argv[1:]
with (place / "asked").open("a") as asked:
    asked.write(json.dumps(words) + "\\n")
known = json.loads((place / "known.json").read_text())
option = lambda name: words[words.index(name) + 1]
rows = lambda kind: [f"{{n}}\\t{{state}}\\t{{title}}" for n, (title, state) in enumerate(known[kind], 1)]
match words:
    case ["auth", "status"]:
        sys.exit(0 if (place / "in").exists() else 1)
    case ["issue", "list", *_]:
        print("\\n".join(rows("issues")))
    case ["issue", "create", *_]:
        known["issues"].append([option("--title"), "open"])
    case ["issue", "close", number, *_]:
        known["issues"][int(number) - 1][1] = "closed"
    case ["api", "--paginate", *_]:
        print("\\n".join(rows("milestones")))
    case ["api", "--silent", "--method", "POST", _, "--raw-field", title, *_]:
        known["milestones"].append([title.removeprefix("title="), "open"])
    case ["api", "--silent", "--method", "PATCH", path, *_]:
        known["milestones"][int(path.rpartition("/")[2]) - 1][1] = "closed"
    case ["project", "list", *_]:
        print(known["project"])
    case ["project", "create", *_]:
        known["project"] = "7"
        print("7")
    case ["project", "field-list", *_]:
        print("\\n".join(known["fields"]))
    case ["project", "field-create", "7", *_]:
        known["fields"].append(option("--name"))
    case ["release", "view", tag, *_]:
        sys.exit(0 if tag in known["releases"] else 1)
    case ["release", "create", tag, *_]:
        Path(option("--notes-file")).read_text()
        known["releases"].append(tag)
    case ["label", "create", *_]:
        pass
    case _:
        sys.exit(f"unknown command {{words}}")
(place / "known.json").write_text(json.dumps(known))
"""
NOTHING = {"issues": [], "milestones": [], "fields": ["Title"], "project": "", "releases": []}


class Gh:
    """The program, and what it knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        (folder / "known.json").write_text(json.dumps(NOTHING))
        (folder / "gh").write_text(GH.format(python=sys.executable, place=str(folder)))
        (folder / "gh").chmod(0o755)
        (folder / "in").touch()

    @property
    def known(self) -> dict[str, Any]:
        return json.loads((self.folder / "known.json").read_text())  # type: ignore[no-any-return]

    @property
    def asked(self) -> list[list[str]]:
        path = self.folder / "asked"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def changes(self) -> list[list[str]]:
        """What it was asked that changes something, labels aside: those are set every time."""
        return [
            words
            for words in self.asked
            if {"create", "close", "field-create", "--method"} & set(words[:4]) and words[0] != "label"
        ]


@pytest.fixture
def gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gh:
    found = Gh(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{found.folder}:{os.environ['PATH']}")
    return found


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = Repository.make(tmp_path)
    found.git("remote", "add", "origin", "git@github.com:harbour/tidegate.git")
    found.artifact(github.NOTES, "# Notes\n")
    return found


def plan(repository: Repository, release: Release | None = None, done: bool = False) -> str:
    delivery, now = repository.delivery, datetime.now(UTC)
    read = strategy.read(repository.root / "strategies/database.md")
    work = [Done("0", "TL", 1, "done", {}, None, now, now)] if done else []
    cards = board.cards(repository.team, work, [], delivery)
    return github.plan(repository.settings, repository.team, read, cards, release)


def run(script: str, repository: Repository) -> None:
    subprocess.run(["sh", "-c", script], cwd=repository.root, check=True, capture_output=True, text=True)


def released(repository: Repository) -> Release:
    now, sha = datetime.now(UTC), repository.git("rev-parse", "HEAD")
    return Release("0.20.0", "run 1", "released", sha, "0019", "0020", "b", None, None, now, now)


def allowed(repository: Repository) -> Settings:
    return repository.settings.model_copy(update={"team_push": True})


@pytest.mark.usefixtures("settings")
def test_the_file_has_the_commands_for_labels_milestones_a_project_and_an_issue_for_each_card(
    repository: Repository, gh: Gh
) -> None:
    text = github.issues(repository.work("PM", "1"))
    assert gh.asked == []
    assert "Not run: TIDEGATE_TEAM_PUSH is not true" in text
    (script,) = re.findall(r"^```sh\n(.*?)^```$", text, re.S | re.M)
    run(script, repository)
    made = {words[words.index("--title") + 1]: words for words in gh.asked if words[:2] == ["issue", "create"]}
    pg = made["docs(pg): schema ddl, indexes, stored procedures and 2 more (wave 2)"]
    body = pg[pg.index("--body") + 1]
    assert body.startswith("## Acceptance Criteria\n- [ ] `.team/postgresql/SCHEMA_DDL.md`")
    assert "- [ ] Query Performance Gate (explain unintended_whole_reads = 0" in body
    assert "## Evidence Required\n" in body
    assert "- [ ] pgtap: `.team/evidence/" in body
    assert body.endswith("## Assigned Agent: PostgreSQL Engineer (Wave 2)")
    labels = set(pg[pg.index("--label") + 1].split(","))
    assert labels == {"role:pg", "P0:critical", "wave:2-engineering", "db:postgresql", "status:sprint-ready"}
    assert pg[pg.index("--milestone") + 1] == "M2: What is measured is judged"
    assert pg[pg.index("--project") + 1] == "tidegate: Database engineering"
    # There is no MongoDB in the strategy, so nobody has work with it.
    assert not any("nosql" in title for title in made)
    known = {words[2] for words in gh.asked if words[:2] == ["label", "create"]}
    assert labels <= known
    assert [title for title, _ in gh.known["milestones"]] == [
        "M1: What is claimed is measured",
        "M2: What is measured is judged",
        "M3: What is judged is released",
    ]
    assert gh.known["fields"] == ["Title", "Agent", "Evidence", "Wave", "Stage", "Database"]
    (wave,) = [words for words in gh.asked if words[:2] == ["project", "field-create"] and "Wave" in words]
    assert wave[-1] == "Wave 0,Wave 1,Wave 1.5,Wave 2,Wave 2.5,Wave 3,Wave 3.5,Wave 4,Wave 5"
    # Again, when the first role is done and the version released: nothing is made twice, and what has ended is closed.
    before = gh.changes()
    assert len(before) > 15
    assert {state for _, state in gh.known["issues"]} == {"open"}
    run(plan(repository, released(repository), done=True), repository)
    assert [words[:2] for words in gh.changes()[len(before) :]] == [
        ["issue", "close"],
        *[["api", "--silent"]] * 3,
        ["release", "create"],
    ]
    assert [title for title, state in gh.known["issues"] if state == "closed"] == ["docs(tl): decision log (wave 0)"]
    assert {state for _, state in gh.known["milestones"]} == {"closed"}
    assert gh.known["releases"] == ["v0.20.0"]


def test_a_release_is_published_once_with_its_notes_and_commit(repository: Repository, gh: Gh) -> None:
    release, user = released(repository), repository.of_the_user()
    given = (allowed(repository), repository.team, repository.delivery, release)
    assert github.publish_release(*given) == "release 0.20.0 is on GitHub"
    assert github.publish_release(*given) == "release 0.20.0 is on GitHub"
    (made,) = [words for words in gh.asked if words[:2] == ["release", "create"]]
    assert made[2:] == [
        "v0.20.0", "--title", "v0.20.0", "--notes-file", ".team/releases/RELEASE_NOTES.md", "--target", release.code_version,
    ]  # fmt: skip
    assert repository.of_the_user() == user


def test_github_is_not_asked_where_that_is_not_allowed_or_not_possible(
    repository: Repository, gh: Gh, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = released(repository)

    def told(settings: Settings) -> str:
        return github.publish_release(settings, repository.team, repository.delivery, release)

    assert "TIDEGATE_TEAM_PUSH is not true" in told(repository.settings)
    assert gh.asked == []
    (gh.folder / "in").unlink()
    assert "gh is not logged in" in told(allowed(repository))
    repository.git("remote", "set-url", "origin", "https://git.example.org/tidegate.git")
    assert "no remote of this repository is on github.com" in told(allowed(repository))
    git = shutil.which("git")
    assert git is not None
    (gh.folder / "gh").unlink()
    (gh.folder / "git").symlink_to(git)
    monkeypatch.setenv("PATH", str(gh.folder))
    assert "gh is not installed" in told(allowed(repository))
    assert gh.known["releases"] == []


def test_a_gh_that_does_not_get_through_is_told_in_its_own_words(repository: Repository, gh: Gh) -> None:
    (repository.root / ".team" / github.NOTES).unlink()
    repository.artifact(github.NOTES, "# Notes\n")
    (gh.folder / "gh").write_text("#!/bin/sh\n[ $1 = auth ] || { echo 'HTTP 502' >&2; exit 1; }\n")
    with pytest.raises(UnavailableError, match="HTTP 502"):
        github.publish_release(allowed(repository), repository.team, repository.delivery, released(repository))


def test_titles_and_texts_are_quoted_whatever_they_say(repository: Repository, gh: Gh) -> None:
    path = repository.root / "strategies/database.md"
    text = path.read_text()
    nasty = 'it\'s $(touch pwned) \\ "quoted"; touch pwned'
    path.write_text(
        text.replace("What is claimed is measured", nasty).replace(
            "**Project Name**: tidegate", f"**Project Name**: {nasty}"
        )
    )
    run(plan(repository), repository)
    assert gh.known["milestones"][0][0] == f"M1: {nasty}"
    assert len(gh.known["milestones"]) == 3
    assert not list(repository.root.glob("pwned"))
    assert re.search(r"--title 'it'\"'\"'s \$\(touch pwned\)", plan(repository))
