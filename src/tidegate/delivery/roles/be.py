"""What the Python engineer writes: what mypy and ruff say, and what an API promises, once there is one."""

from __future__ import annotations

import tomllib
from typing import Any

from tidegate.delivery.cited import Asked, figures, file
from tidegate.delivery.markdown import code, head, table
from tidegate.delivery.work import Work


def type_checks(work: Work) -> str:
    """Return what mypy found under which of its options."""
    options = {name: value for name, value in _tools(work)["mypy"].items() if not isinstance(value, list | dict)}
    return "\n".join([
        *head(work, "Types, as mypy sees them"),
        *figures(work, [Asked("errors", "lint", "errors")]),
        f"Its options stand in {file(work, 'pyproject.toml')}:",
        "",
        *table(["option", "value"], [[f"`{name}`", value] for name, value in options.items()]),
    ])  # fmt: skip


def lint_results(work: Work) -> str:
    """Return what ruff found by which rules, and where it is told to look away, with the reason that stands there."""
    rules = _tools(work)["ruff"]["lint"]
    text = (work.settings.project / "pyproject.toml").read_text(encoding="utf-8")
    ignored = [line.strip() for line in text.partition("ignore = [")[2].partition("]")[0].splitlines() if line.strip()]
    return "\n".join([
        *head(work, "Style, as ruff sees it"),
        *figures(work, [Asked("findings", "lint", "findings"), Asked("files not formatted", "lint", "unformatted")]),
        f"{len(rules['select'])} families of rules are on ({', '.join(rules['select'])}). Left out:",
        "",
        *code("\n".join(ignored), "toml"),
    ])  # fmt: skip


def openapi(work: Work) -> str:
    """Return which demands of the strategy wait for an API, while none is served."""
    waiting = [
        (one.entry.line, one.entry.text) for one in (*work.strategy.requirements, *work.strategy.success.launch) if "API" in one.entry.text
    ]  # fmt: skip
    served = (work.settings.project / "src" / "tidegate" / "serve").is_dir()
    where = work.strategy.path.name
    return "\n".join([
        *head(work, "The API's description"),
        "`src/tidegate/serve` is there, and no probe reads what it describes: not measurable yet." if served
        else "Nothing is served: there is no `src/tidegate/serve`, so there is nothing to describe, and no figure of it.",
        "",
        f"These lines of {where} wait for it, and keep their gates from passing unless a person waives them by name:",
        "",
        *table(["line", "demand"], waiting),
    ])  # fmt: skip


def _tools(work: Work) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((work.settings.project / "pyproject.toml").read_text(encoding="utf-8"))[
        "tool"
    ]
    return found
