"""Which checks of rows the project has, dbt's by model and Great Expectations' by dataset; and those that it has no more.

It is held against the last release, or the commit before where there was none. What a check asks is not compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tidegate.evidence.probe import Ran, run

_MODELS, _EXPECTATIONS, _CONTRACTS = "models", "expectations", "schemas"


def lost_tests(project: Path) -> list[str] | None:
    """Return the dbt tests that models which are still there have lost; None where git knows no commit."""
    return _lost(project, _tests)


def lost_rules(project: Path) -> list[str] | None:
    """Return the expectations that datasets and models which are still there have lost; None where git knows no commit."""
    return _lost(project, _rules)


def _lost(project: Path, told: Any) -> list[str] | None:
    before = _before(project)
    if before is None:
        return None
    now, subjects = Counter(told(_here(project))), _subjects(project)
    gone = Counter(told(before)) - now
    return [f"{subject}: {check}" for (subject, check), _ in sorted(gone.items()) if subject in subjects]


def _tests(files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for document in _documents(files, _MODELS):
        for model in document.get("models") or ():
            for at, item in ((model["name"], model), *((one["name"], one) for one in model.get("columns") or ())):
                for test in (*(item.get("data_tests") or ()), *(item.get("tests") or ())):
                    kind, words = next(iter(test.items())) if isinstance(test, dict) else (test, None)
                    name = f" {words['name']}" if words and "name" in words else ""
                    yield model["name"], f"{kind}{name} of {at}"
        for test in document.get("unit_tests") or ():
            yield test["model"], f"unit test {test['name']}"


def _rules(files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in files.items():
        if PurePosixPath(name).parent.name == _EXPECTATIONS:
            for rule in _document(text).get("expectations") or ():
                yield PurePosixPath(name).stem, str(rule["name"])


def _subjects(project: Path) -> set[str]:
    """Return every model and dataset: of what is gone as a whole, no check is missed."""
    datasets = {file.name.partition(".")[0] for file in (project / _CONTRACTS).glob("*.odcs.yaml")}
    return datasets | {file.stem for file in (project / _MODELS).rglob("*.sql")}


def _documents(files: Mapping[str, str], folder: str) -> Iterator[dict[str, Any]]:
    for name, text in files.items():
        if name.startswith(f"{folder}/"):
            yield _document(text)


def _document(text: str) -> dict[str, Any]:
    found = yaml.safe_load(text)
    return found if isinstance(found, dict) else {}


def _here(project: Path) -> dict[str, str]:
    return {
        file.relative_to(project).as_posix(): file.read_text(encoding="utf-8")
        for folder in (_MODELS, _EXPECTATIONS)
        for file in sorted((project / folder).rglob("*.y*ml"))
    }


def _before(project: Path) -> dict[str, str] | None:
    tagged = _git(project, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    # The first commit of all has none before it.
    asked = (tagged, _git(project, "rev-parse", "--verify", "--quiet", "HEAD~1"), _git(project, "rev-parse", "HEAD"))
    commit = next((one.said.strip() for one in asked if one.exit_status == 0), None)
    if commit is None:
        return None
    listed = _git(project, "ls-tree", "-r", "--name-only", commit, "--", f"{_MODELS}/", f"{_EXPECTATIONS}/")
    names = [name for name in listed.said.splitlines() if name.endswith((".yml", ".yaml"))]
    return {name: _git(project, "show", f"{commit}:{name}").said for name in names}


def _git(project: Path, *words: str) -> Ran:
    return run(["git", "-c", "safe.directory=*", *words], folder=project)
