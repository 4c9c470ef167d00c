"""Manifests of evidence, one a role: what it made, what it measured, how to see the same; and whether that still holds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.delivery.ledger import Exhibit
    from tidegate.delivery.work import Work

_LINE = re.compile(
    r"- \[(?P<mark>[x ])\] `(?P<path>[^`]+)`(?: — (?P<told>.*?))?(?:, SHA-256 `(?P<sha>[0-9a-f]{64})`)?$"
)
_EVIDENCE = ".team/evidence/"
_TAKEN = "### Evidence Collected"
_STATUS = re.compile(r"^### Status: (VERIFIED|UNVERIFIED)$", re.M)


@dataclass(frozen=True)
class Line:
    """One line of a manifest; `sha256` is empty where there is no file, which `told` explains.

    An artifact may lie among the evidence, too: what no probe has taken is `made`.
    """

    path: str
    told: str
    sha256: str | None
    checked: bool
    made: bool


@dataclass(frozen=True)
class Finding:
    """Something in a manifest that is not as it says; `missing` where it says itself that a probe could not run.

    What is missing keeps the gates that need its figures from passing, and is only told of elsewhere.
    """

    manifest: str
    path: str
    told: str
    missing: bool = False


def place(team: Path, role: str) -> Path:
    """Return where a role's manifest lies."""
    return team / "evidence" / "manifests" / f"{role}_manifest.md"


def write(work: Work, artifacts: dict[str, str]) -> None:
    """Write a role's manifest: its artifacts of all waves so far, its evidence, and the commands that take it again."""
    from tidegate.delivery.work import keep

    mine = [one for one in work.exhibits if one.role == work.role.code]
    made = {path: sha for done in work.done if done.role == work.role.code for path, sha in done.artifacts.items()}
    made |= artifacts
    lines = [
        f"# Evidence Manifest -- {work.role.code} ({work.role.name})",
        f"## Task: wave {work.wave} of {work.delivery.delivery_id}, attempt {work.attempt}: {work.role.does}",
        f"## Date: {max((one.taken_at for one in mine), default=work.delivery.started_at).isoformat(timespec='seconds')}",
        "",
        "### Artifacts Produced",
        *(
            f"- [x] `.team/{path}` — made from the repository and the database, SHA-256 `{sha}`"
            for path, sha in made.items()
        ),
        "",
        _TAKEN,
        *(
            f"- [x] `.team/evidence/{one.path}` — probe {one.probe}, SHA-256 `{one.sha256}`"
            if one.sha256
            else f"- [ ] `{one.probe}` — could not run: {' '.join((one.reason or '').split())}"
            for one in mine
        ),
        "",
        "### Verification Steps (Reproducible)",
        "1. `tidegate up` and `tidegate rehearsal up`: the warehouse, and a masked clone of it",
        *(f"{n}. `tidegate probe run {probe}`" for n, probe in enumerate(dict.fromkeys(one.probe for one in mine), 2)),
        f"{len({one.probe for one in mine}) + 2}. `team evidence verify`: every hash above, computed again",
        "",
        f"### Status: {'VERIFIED' if any(one.sha256 for one in mine) or not mine else 'UNVERIFIED'}",
        "",
    ]
    keep(work.folder, str(place(work.folder, work.role.code).relative_to(work.folder)), "\n".join(lines).encode())


def read(path: Path) -> tuple[list[Line], str]:
    """Return the lines of a manifest, and its status; UNVERIFIED where it says none."""
    text = path.read_text(encoding="utf-8")
    made, taken, rest = text.partition(f"\n{_TAKEN}\n")
    lines = [*_lines(made, made=bool(taken)), *_lines(rest, made=False)]
    status = _STATUS.search(text)
    return lines, status[1] if status else "UNVERIFIED"


def _lines(text: str, *, made: bool) -> list[Line]:
    found = [m for m in map(_LINE.match, text.splitlines()) if m]
    return [Line(m["path"], m["told"] or "", m["sha"], m["mark"] == "x", made) for m in found]


def verify(team: Path, role: str, exhibits: Iterable[Exhibit] | None = None) -> list[Finding]:
    """Compute every hash of a role's manifest again; return what is not as it says.

    With `exhibits`, all that the ledger has of this delivery, a file must be the one that was taken last: for it, and not for an
    earlier one. What another role has taken again since is no fault of the manifest.
    """
    from tidegate.delivery.work import hash_of

    path = place(team, role)
    name = path.name
    if not path.exists():
        return [Finding(name, "", "there is no manifest")]
    lines, status = read(path)
    taken = None if exhibits is None else {one.path: one for one in exhibits if one.sha256}
    found = [Finding(name, line.path, line.told or "not checked", missing=True) for line in lines if not line.checked]
    for line in (one for one in lines if one.checked):
        sha, expected = hash_of(team.parent / line.path), line.sha256
        if taken is not None and line.path.startswith(_EVIDENCE):
            exhibit = taken.get(line.path.removeprefix(_EVIDENCE))
            if exhibit is None and not line.made:
                found.append(Finding(name, line.path, "it was not taken for this delivery"))
                continue
            if exhibit is not None:
                if exhibit.role == role and exhibit.sha256 != expected:
                    told = (
                        f"the manifest says SHA-256 {(expected or '')[:12]}…, taken as {(exhibit.sha256 or '')[:12]}…"
                    )
                    found.append(Finding(name, line.path, told))
                expected = exhibit.sha256
        if sha is None:
            found.append(Finding(name, line.path, "the file is gone"))
        elif sha != expected:
            told = f"the file has changed since: SHA-256 {sha[:12]}…, expected {(expected or '')[:12]}…"
            found.append(Finding(name, line.path, told))
    listed = {line.path for line in lines}
    for exhibit in (one for one in (taken or {}).values() if one.role == role):
        if f"{_EVIDENCE}{exhibit.path}" not in listed:
            found.append(
                Finding(name, f"{_EVIDENCE}{exhibit.path}", "it was taken, and the manifest does not tell of it")
            )
    if status != "VERIFIED":
        found.append(Finding(name, "", "its status is UNVERIFIED"))
    return found


def strays(team: Path, exhibits: Iterable[Exhibit]) -> list[Finding]:
    """Return the evidence of a delivery that does not lie there as it was taken: edited, gone, or of another run."""
    from tidegate.delivery.work import hash_of

    found = []
    for one in exhibits:
        if one.sha256 and (sha := hash_of(team / "evidence" / one.path)) != one.sha256:
            told = f"SHA-256 {sha[:12]}…, taken as {one.sha256[:12]}…" if sha else "the file is gone"
            found.append(Finding("the ledger", one.path, told))
    return found
