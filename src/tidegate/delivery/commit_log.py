"""`.team/COMMIT_LOG.md`: what roles have committed, in the columns of the team document, told by git and by nobody else."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from tidegate.delivery.approval import BRANCH
from tidegate.delivery.checkout import git
from tidegate.delivery.markdown import table

PLACE = ".team/COMMIT_LOG.md"
COLUMNS = ("#", "Hash", "Agent", "Type", "Description", "Issue", "Wave", "Evidence")
_SUBJECT = re.compile(r"(?P<type>\w+)\((?P<scope>[\w-]+)\)!?: (?P<told>.*?)(?: \[(?P<issue>#\d+)\])?$")


def write(repository: Path, project: Path) -> None:
    """Write the log of a repository's branch into a project; its history is git's, so no older one is kept."""
    path = project / PLACE
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text(repository), encoding="utf-8")
    partial.replace(path)


def text(repository: Path) -> str:
    """Return the log: every commit of the branch that says which role made it, the first one first."""
    fields = ("%h", "%s", *(f"%(trailers:key={key},valueonly,separator=%x20)" for key in ("Agent", "Wave", "Evidence")))
    told = git(repository, "log", "--reverse", "--no-merges", f"--format={'%x1f'.join(fields)}", f"refs/heads/{BRANCH}")
    commits = [line.split("\x1f") for line in told.splitlines()]
    rows = [_row(*commit) for commit in commits if commit[2]]
    numbered = [(number, *row) for number, row in enumerate(rows, 1)]
    return "\n".join([f"# Commits on `{BRANCH}`", "", *table(COLUMNS, numbered)]).rstrip() + "\n"


def _row(short: str, subject: str, agent: str, wave: str, evidence: str) -> tuple[str, ...]:
    read = _SUBJECT.fullmatch(subject)
    names = [PurePosixPath(path.strip()).name for path in evidence.split(",") if path.strip()]
    shown = ", ".join("manifest" if name.endswith("_manifest.md") else name for name in names)
    if read is None:
        return short, agent, "", subject, "", wave, shown
    return short, read["scope"].upper(), read["type"], read["told"], read["issue"] or "", wave, shown
