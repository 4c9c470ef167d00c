"""A repository of a user, with work of theirs under way, and what must still be so when a team has worked beside it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.conftest import CHECKOUT

from tidegate import strategy as strategies
from tidegate.delivery.ledger import Delivery
from tidegate.delivery.team import Team, read
from tidegate.delivery.work import Work
from tidegate.settings import Settings, load_settings

STRATEGY = "strategies/database.md"


@dataclass
class Repository:
    """A checkout on `main` with something staged, something changed and something unknown to git in it."""

    root: Path
    home: Path

    @classmethod
    def make(cls, folder: Path) -> Repository:
        found = cls(folder / "project", folder / "home")
        for name in (STRATEGY, "teams/database.yaml"):
            (found.root / name).parent.mkdir(parents=True)
            shutil.copy(CHECKOUT / name, found.root / name)
        found.write("README.md", "Mine.\n")
        found.write(".gitignore", ".venv/\n/.team/\n")
        found.git("init", "--quiet", "--initial-branch=main")
        found.git("config", "user.name", "Ada")
        found.git("config", "user.email", "ada@example.org")
        found.git("add", "--all")
        found.git("commit", "--quiet", "--message=feat(x): begin")
        found.write("README.md", "Mine, staged.\n")
        found.git("add", "README.md")
        found.write("README.md", "Mine, staged, and then changed.\n")
        found.write("notes.txt", "Not for git.\n")
        return found

    @property
    def settings(self) -> Settings:
        return load_settings(project=self.root, home=self.home)

    @property
    def team(self) -> Team:
        return read(self.root / "teams/database.yaml")

    @property
    def delivery(self) -> Delivery:
        return Delivery(
            "run 1", "database", STRATEGY, "0" * 64, self.git("rev-parse", "HEAD"), "running", "2", None, "Ada", "run 1",
            datetime.now(UTC), None,
        )  # fmt: skip

    def work(self, code: str, wave: str) -> Work:
        strategy = strategies.read(self.root / STRATEGY)
        return Work(self.settings, self.team, strategy, self.delivery, self.team.roles[code], wave)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def artifact(self, name: str, text: str) -> str:
        """Write a file of the team's; return its name as the team knows it."""
        self.write(f".team/{name}", text)
        return name

    def git(self, *words: str, at: Path | None = None) -> str:
        ran = subprocess.run(["git", *words], cwd=at or self.root, check=True, capture_output=True, text=True)
        return ran.stdout.rstrip("\n")

    def commits(self, branch: str = "ai-team") -> list[str]:
        """The subjects of a branch's commits, the first one first."""
        return self.git("log", "--reverse", "--format=%s", branch).splitlines()

    def hook(self, name: str, script: str) -> None:
        path = self.root / ".git/hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def of_the_user(self) -> dict[str, str]:
        """The hash of every file that is the user's: the work tree, HEAD, index, configuration, what HEAD was, and main."""
        # What Python compiles on import is nobody's.
        own = {".git", ".team", "__pycache__"}
        inside = [path for path in self.root.rglob("*") if path.is_file() and not own & set(path.parts)]
        kept = [".git/HEAD", ".git/index", ".git/config", ".git/logs/HEAD", ".git/refs/heads/main"]
        files = [*inside, *(self.root / name for name in kept)]
        return {str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
