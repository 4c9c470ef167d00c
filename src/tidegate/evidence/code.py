"""What tools say of the Python code as it stands in the checkout: style, types, and whether its settings are documented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tidegate.evidence.probe import CannotRunError, Finding, Ground, run
from tidegate.settings import documented, variables


def lint(ground: Ground) -> Iterator[Finding]:
    """Run ruff's rules and formatter, and mypy as the checkout's configuration asks for it."""
    project = ground.settings.project
    checked = run(["ruff", "check", "--output-format=json", "--no-cache", "."], folder=project)
    formatted = run(["ruff", "format", "--check", "--output-format=json", "--no-cache", "."], folder=project)
    # 2: it could not read its configuration, or not start; what it says then is no list of findings.
    if checked.exit_status > 1 or formatted.exit_status > 1:
        raise CannotRunError(f"ruff could not do its work: {(checked.said + formatted.said).strip()[-400:]}")
    told, unformatted = ([_told(one, project) for one in _list(ran.said)] for ran in (checked, formatted))
    yield Finding(
        "tests/static/ruff.log", "\n".join([*told, *unformatted]) or "nothing is found",
        {"findings": len(told), "unformatted": len(unformatted)}, f"{checked.command}; {formatted.command}",
        checked.exit_status or formatted.exit_status,
    )  # fmt: skip
    typed = run(["mypy", "--no-color-output"], folder=project)
    summary = re.search(r"Found (\d+) errors? in|Success: no issues found in (\d+)", typed.said)
    # 2: it did not look at everything.
    if summary is None or typed.exit_status > 1:
        raise CannotRunError(f"mypy could not do its work: {typed.said.strip()[-400:]}")
    yield Finding(
        "tests/static/mypy.log", typed.said, {"errors": int(summary[1] or 0)}, typed.command, typed.exit_status
    )


def settings(ground: Ground) -> Iterator[Finding]:
    """Hold `.env.example` to the settings class: every setting stands in it once, and no other."""
    example = ground.settings.project / ".env.example"
    shown = documented(example.read_text(encoding="utf-8") if example.is_file() else "")
    known = variables()
    missing = [name for name in known if name not in shown]
    others = sorted({name for name in shown if name not in known or shown.count(name) > 1})
    figures = {"settings": len(known), "undocumented": len(missing), "unknown_or_twice": len(others)}
    lines = [
        f"{len(shown)} of {len(known)} settings stand in .env.example",
        *(f"missing: {name}" for name in missing),
        *(f"no setting, or there twice: {name}" for name in others),
    ]
    yield Finding(
        "tests/static/settings.log", "\n".join(lines), figures, "tidegate.settings.documented", int(bool(missing or others))
    )  # fmt: skip


def _list(said: str) -> list[dict[str, Any]]:
    """Return the list in what ruff said; before it may stand a warning."""
    found: list[dict[str, Any]] = json.loads(said[said.index("[\n") if "[\n" in said else said.index("[]") :])
    return found


def _told(finding: dict[str, Any], project: Path) -> str:
    name = Path(finding["filename"]).relative_to(project.resolve())
    return f"{name}:{finding['location']['row']}: {finding['code']} {finding['message']}"
