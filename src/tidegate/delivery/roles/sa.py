"""What the software architect writes: which package imports which, as the code does, under the order that is kept."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from pathlib import Path

from tidegate.delivery.cited import file
from tidegate.delivery.markdown import code, head, table
from tidegate.delivery.work import Work

_NAME = "tidegate"


def architecture_diagram(work: Work) -> str:
    """Return the package's floors as import-linter holds them, and the imports that there are between them."""
    source = work.settings.project / "src" / _NAME
    tools = tomllib.loads((work.settings.project / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    contracts = tools["importlinter"]["contracts"]
    floors = [floor.strip("()") for one in contracts if one["type"] == "layers" for floor in one["layers"]]
    edges = _imports(source)
    sizes = {floor: _size(source, floor) for floor in floors}
    drawn = [
        f"  {above} -->|{count}| {below}"
        for (above, below), count in sorted(edges.items())
        if above in sizes and below in sizes
    ]
    upward = [(a, b) for a, b in edges if a in floors and b in floors and floors.index(a) > floors.index(b)]
    return "\n".join([
        *head(work, "How the package is built"),
        f"{sum(modules for modules, _ in sizes.values())} modules on {len(floors)} floors, {sum(edges.values())} imports between them, {len(upward)} of which go up. "
        f"The order stands in {file(work, 'pyproject.toml')} and `lint-imports` keeps it.",
        "",
        *code("\n".join(["graph TD", *drawn]), "mermaid"),
        "## The floors, from the top",
        "",
        *table(
            ["floor", "modules", "lines", "imports from", "is imported by"],
            [
                [f"`{floor}`", *sizes[floor], ", ".join(sorted({b for a, b in edges if a == floor})), ", ".join(sorted({a for a, b in edges if b == floor}))]
                for floor in floors
            ],
        ),
        "## Other rules of import",
        "",
        *table(["rule", "kind"], [[one["name"], one["type"]] for one in contracts if one["type"] != "layers"]),
    ])  # fmt: skip


def _imports(source: Path) -> Counter[tuple[str, str]]:
    """Count, for each pair of packages, the statements by which a module of one imports from the other."""
    found: Counter[tuple[str, str]] = Counter()
    for path in source.rglob("*.py"):
        own = path.relative_to(source).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(_NAME):
                parts = node.module.split(".")[1:]
                for other in {parts[0]} if parts else {alias.name for alias in node.names}:
                    if other != own:
                        found[own, other] += 1
    return found


def _size(source: Path, floor: str) -> tuple[int, int]:
    files = list((source / floor).rglob("*.py")) or [source / f"{floor}.py"]
    known = [path for path in files if path.exists()]
    return len(known), sum(path.read_text(encoding="utf-8").count("\n") for path in known)
