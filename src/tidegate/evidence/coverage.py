"""How much of the code the last `make test` has run through, where that code is still the one that is there.

Nothing is run here: the whole suite takes longer than a probe may.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidegate.evidence.probe import CannotRunError, Finding, Ground, run

_DATA = ".coverage"
#: By the name that `pyproject.toml` and the Makefile know: coverage writes its value into the data as their context.
COMMIT = "COVERED_COMMIT"
#: What a change of makes a measurement one of other code.
_CODE = ("src", "transforms", "tests")
#: What rows pass through between a delivery and its readers.
_CRITICAL = (
    "src/tidegate/ingest/",
    "src/tidegate/gates/",
    "src/tidegate/publish/",
    "src/tidegate/wave.py",
    "transforms/",
)
_NEXT = "`make test` measures it"


def of_tests(ground: Ground) -> Iterator[Finding]:
    """Read what the last run of all tests has covered, of the lines and branches that there still are."""
    project = ground.settings.project
    data = project / _DATA
    if not data.is_file():
        raise CannotRunError(f"no run of the tests has left its coverage here: {_NEXT}")
    commit = _commit(data)
    changed = run(["git", "-c", "safe.directory=*", "diff", "--name-only", commit, "--", *_CODE], folder=project)
    if changed.exit_status:
        raise CannotRunError(f"the coverage is of the commit {commit}, which is not known here: {_NEXT} anew")
    if names := changed.said.split():
        raise CannotRunError(
            f"the coverage is of the commit {commit[:12]}, and {len(names)} files have changed since ({names[0]}, …): {_NEXT} anew"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "coverage.json"
        ran = run(["coverage", "json", f"--data-file={data}", "--fail-under=0", "-q", "-o", file], folder=project)
        if ran.exit_status:
            raise CannotRunError(f"the coverage cannot be read: {ran.said.strip()[-400:]}; {_NEXT} anew")
        report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    by_file = {name: told["summary"] for name, told in report["files"].items()}
    critical = {name: told for name, told in by_file.items() if name.startswith(_CRITICAL)}
    at = datetime.fromtimestamp(data.stat().st_mtime, UTC)
    figures = {
        "percent": _percent([report["totals"]]), "critical_percent": _percent(critical.values()), "files": len(by_file),
        "lines": report["totals"]["num_statements"], "branches": report["totals"].get("num_branches", 0),
        "commit": commit, "measured_at": at.isoformat(timespec="seconds"),
        "age_hours": round((datetime.now(UTC) - at).total_seconds() / 3600, 1),
    }  # fmt: skip
    if not critical:
        del figures["critical_percent"]
    lines = [
        f"measured at {at:%Y-%m-%d %H:%M} UTC, at the commit {commit}; no line of {', '.join(_CODE)} has changed since"
    ]
    lines += [
        f"{_percent([told]):6.2f} % {name}"
        for name, told in sorted(by_file.items(), key=lambda one: _percent([one[1]]))
    ]
    command = f"coverage json --data-file={_DATA}"
    yield Finding("tests/unit/coverage.log", "\n".join(lines), figures, command)


def _commit(data: Path) -> str:
    """Return the commit that a data file was measured at.

    Raises:
        CannotRunError: it names none, several, or one to which something had been changed.
    """
    from coverage import CoverageData
    from coverage.exceptions import DataError

    try:
        read = CoverageData(str(data))
        read.read()
        named = read.measured_contexts() - {""}
    except DataError as error:
        raise CannotRunError(f"the coverage cannot be read ({error}): {_NEXT} anew") from error
    if len(named) != 1:
        raise CannotRunError(f"the coverage is of {len(named) or 'no named'} commits: {_NEXT}, at one")
    (commit,) = named
    if not commit.isalnum():
        raise CannotRunError(
            f"the coverage was measured with changes that were not committed ({commit}): commit them, then {_NEXT}"
        )
    return commit


def _percent(summaries: Iterable[Mapping[str, Any]]) -> float:
    """Return the covered share of lines and branches, as coverage's own report counts it."""
    there = covered = 0
    for told in summaries:
        there += told["num_statements"] + told.get("num_branches", 0)
        covered += told["covered_lines"] + told.get("covered_branches", 0)
    # Not rounded up: 79.996 is not 80.
    return int(10_000 * covered / there) / 100 if there else 100.0
