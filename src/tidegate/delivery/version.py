"""The semantic version of the warehouse's schema that the next release would have, and why.

What readers of the schema lose or find otherwise is breaking and raises the first number: a table, view, function or column
that goes, is renamed, takes another type or may no longer be empty, and a contract whose change breaks somebody. What they
gain raises the second: a table, view, function or column that is new, and a contract that is new or is loosened. Everything
else (indexes, rights, comments, code) raises the third. The first release is 0.N.0, N the number of its last migration.
A number that was rolled back, or that a tag has, is not used again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tidegate.contracts.compare import compare
from tidegate.contracts.read import SUFFIX, files
from tidegate.delivery import checkout, ledger
from tidegate.delivery.ledger import Release
from tidegate.errors import StackError
from tidegate.migrate import steps
from tidegate.migrate.steps import Step
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection

Part = Literal["major", "minor", "patch"]
_ORDER: tuple[Part, ...] = ("major", "minor", "patch")

#: What is written in a function's body happens when it is called, not when the migration runs.
_UNREAD = re.compile(r"\$(\w*)\$.*?\$\1\$|--[^\n]*", re.S)
_KINDS = r"(?:TABLE|VIEW|MATERIALIZED\s+VIEW|FUNCTION|PROCEDURE|TYPE|SCHEMA)"
_DROPPED = re.compile(rf"\bDROP\s+{_KINDS}\s+(?:IF\s+EXISTS\s+)?([\w.\"]+)", re.I)
_MADE = re.compile(rf"\bCREATE\s+(?:OR\s+REPLACE\s+)?{_KINDS}\s+(?:IF\s+NOT\s+EXISTS\s+)?([\w.\"]+)", re.I)
_CHANGED = re.compile(
    r"\b(?:DROP\s+COLUMN|RENAME\s+(?:COLUMN\s+\S+\s+)?TO|SET\s+SCHEMA|ALTER\s+COLUMN\s+\S+\s+(?:(?:SET\s+DATA\s+)?TYPE|SET\s+NOT\s+NULL))"
    r"\s*[^\s;,]*",
    re.I,
)
_ADDED = re.compile(r"\bADD\s+COLUMN\s+(?:IF\s+NOT\s+EXISTS\s+)?\S+", re.I)


@dataclass(frozen=True)
class Version:
    """A version, and what makes it that: one sentence for each change that is felt."""

    number: str
    reasons: tuple[str, ...]

    @property
    def tag(self) -> str:
        """The name of its tag."""
        return f"v{self.number}"


def upcoming(settings: Settings, connection: Connection) -> Version:
    """Return the version that a release of what is checked out would have.

    Raises:
        StackError: the commit of the last release is not in this repository.
    """
    known, rows = steps.read(settings.project), ledger.releases(connection)
    last = next((one for one in rows if one.state == "released"), None)
    taken = {one.version for one in rows} | {
        tag.removeprefix("v") for tag in checkout.git(settings.project, "tag", "--list", "v*").splitlines()
    }
    if last is None:
        revision = known[-1].revision
        number = int(revision) if revision.isdigit() else len(known)
        return Version(_free((0, number, 0), taken), (f"the first release, up to migration {revision}",))
    found = [*_of_migrations(known[steps.find(known, last.to_revision) :]), *_of_contracts(settings, last)]
    part: Part = min((part for part, _ in found), key=_ORDER.index, default="patch")
    reasons = tuple(f"{part}: {told}" for part, told in sorted(found, key=lambda one: _ORDER.index(one[0])))
    return Version(_free(_raised(last.version, part), taken), reasons or ("patch: code alone",))


def grade(step: Step) -> tuple[Part, str]:
    """Return what a migration does to those who use the schema, and by which of its words."""
    text = _UNREAD.sub("", step.up)
    made = {name.strip('"') for name in _MADE.findall(text)}
    gone = [name for name in _DROPPED.findall(text) if name.strip('"') not in made]
    changed = [" ".join(words.split()) for words in _CHANGED.findall(text)]
    told = f"migration {step.revision}, {step.title}"
    if gone or changed:
        return "major", f"{told} ({', '.join([*(f'drops {name}' for name in gone), *changed][:3])})"
    if made or _ADDED.search(text):
        return "minor", told
    return "patch", told


def _of_migrations(todo: list[Step]) -> Iterator[tuple[Part, str]]:
    yield from map(grade, todo)


def _of_contracts(settings: Settings, last: Release) -> Iterator[tuple[Part, str]]:
    project, folder = settings.project, "schemas"
    listed = checkout.git(project, "ls-tree", "--name-only", last.code_version, f"{folder}/").splitlines()
    before = {name for name in listed if name.endswith(SUFFIX)}
    now = {f"{folder}/{path.name}": path for path in files(settings)}
    for name in sorted(before - now.keys()):
        yield "major", f"contract {name} is gone"
    for name, path in now.items():
        if name not in before:
            yield "minor", f"contract {name} is new"
            continue
        old, new = checkout.git(project, "show", f"{last.code_version}:{name}") + "\n", path.read_text(encoding="utf-8")
        if old == new:
            continue
        found = compare(path, old, path, new)
        felt = [one for one in found.changes if one.level != "compatible" or one.rule == "nullable-property-added"]
        part: Part = "major" if found.breaking else "minor" if felt else "patch"
        yield part, f"contract {name}{f': {felt[0].message}' if felt else ' says the same otherwise'}"


def _raised(version: str, part: Part) -> tuple[int, int, int]:
    read = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)
    if read is None:
        raise StackError(f"the last release is called {version!r}, expected a semantic version such as 1.4.0")
    major, minor, patch = (int(number) for number in read.groups())
    if part == "major":
        return major + 1, 0, 0
    return (major, minor + 1, 0) if part == "minor" else (major, minor, patch + 1)


def _free(number: tuple[int, int, int], taken: set[str]) -> str:
    major, minor, patch = number
    while (version := f"{major}.{minor}.{patch}") in taken:
        patch += 1
    return version
