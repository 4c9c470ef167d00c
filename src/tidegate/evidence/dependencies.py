"""Known vulnerabilities of the packages that the lock names, as the registry's own advisories tell them.

Whether our own code is vulnerable nobody's list says.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tidegate.evidence.probe import CannotRunError, Finding, Ground, Ran, run

_LOCK = "requirements.txt"
#: A release known to be vulnerable since 2014: whoever tells nothing of it would tell nothing of any other.
KNOWN = "jinja2==2.4.1"
#: Who tells of vulnerabilities, and how one gets there, each house decides for itself.
_PASSED = ("PIP_AUDIT_VULNERABILITY_SERVICE", "PIP_AUDIT_OSV_URL", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE")


def vulnerabilities(ground: Ground) -> Iterator[Finding]:
    """Ask the registry about every package of the lock, after it has shown that it knows what is vulnerable."""
    lock = ground.settings.project / _LOCK
    if not lock.is_file():
        raise CannotRunError(
            f"there is no {_LOCK}, and without a lock nobody knows what is installed: `make lock` writes it"
        )
    with tempfile.TemporaryDirectory() as folder:
        known = Path(folder) / "known.txt"
        known.write_text(f"{KNOWN}\n", encoding="utf-8")
        (told, *_), _ = _audit(known)
        if not told.get("vulns"):
            raise CannotRunError(
                f"nobody in reach tells of vulnerabilities: asked about {KNOWN}, which has some, the answer was "
                f"{told.get('skip_reason', 'that it has none')!r}. PIP_AUDIT_VULNERABILITY_SERVICE and PIP_AUDIT_OSV_URL name another service"
            )
        found, ran = _audit(lock)
    unknown = [one["skip_reason"] for one in found if "skip_reason" in one]
    if unknown:
        raise CannotRunError(f"{len(unknown)} of {len(found)} packages could not be looked up, the first: {unknown[0]}")
    lines = [
        f"{one['name']} {one['version']}: {bug['id']} ({', '.join(bug['aliases'])}), mended in {', '.join(bug['fix_versions']) or 'none yet'}"
        for one in found
        for bug in one["vulns"]
    ]
    figures = {
        "packages": len(found), "vulnerable": sum(bool(one["vulns"]) for one in found), "vulnerabilities": len(lines),
    }  # fmt: skip
    text = "\n".join([f"{len(found)} packages of {_LOCK} were looked up", *lines])
    command = ran.command.replace(str(lock), _LOCK)
    yield Finding("tests/security/pip_audit.log", text, figures, command, int(bool(lines)))


def _audit(file: Path) -> tuple[list[dict[str, Any]], Ran]:
    """Return what is told of each package of a file, and what was run."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        ran = run(
            ["pip-audit", f"--requirement={file}", "--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off",
             "--desc=off", f"--output={report}"],
            passed,
        )  # fmt: skip
        # It ends with status 1 when it finds something, and when it cannot look.
        if not report.exists() or not (text := report.read_text(encoding="utf-8")):
            raise CannotRunError(f"pip-audit could not look: {ran.said.strip()[-400:]}")
    return json.loads(text)["dependencies"], Ran(
        ran.command.replace(str(report), "REPORT"), ran.said, ran.exit_status, ran.seconds
    )
