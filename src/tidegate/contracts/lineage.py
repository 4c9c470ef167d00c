"""Who makes a dataset and who reads it, as the files of the checkout tell; nothing is imported or run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tidegate.contracts.document import parse, read_text
from tidegate.contracts.model import Contract
from tidegate.contracts.read import SUFFIX

#: What the DAGs that make a dataset are called, before its name.
INGEST, TRANSFORM, STREAM = "ingest_", "transform_", "stream_"

_SOURCE = re.compile(r"""source\(\s*['"](\w+)['"]\s*,\s*['"](\w+)['"]\s*\)""")
_REF = re.compile(r"""ref\(\s*['"](\w+)['"]\s*\)""")
_SQL_COMMENT = re.compile(r"--[^\n]*|\{#.*?#\}|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class Use:
    """One place that reads a dataset, or one of its columns."""

    kind: str
    """`dbt model`, `transform`, `suite` or `contract`."""
    name: str
    place: str
    """File relative to the checkout, and line: `models/staging/stg_flights.sql:17`."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.place})"


@dataclass(frozen=True)
class _Text:
    """One file of a reader, by lines, comments blanked out."""

    kind: str
    name: str
    path: str
    lines: tuple[str, ...]

    def first(self, word: re.Pattern[str]) -> Use | None:
        for number, line in enumerate(self.lines, start=1):
            if word.search(line):
                return Use(self.kind, self.name, f"{self.path}:{number}")
        return None


class Lineage:
    """The readers and makers of every dataset of one checkout; files are read once."""

    def __init__(self, project: Path) -> None:
        self.project = project

    def producer(self, contract: Contract) -> str | None:
        """Return what makes the dataset: its transform's file or its ingest DAG; None if nothing does."""
        transform = self.project / "transforms" / f"{contract.dataset}.py"
        if transform.is_file():
            return f"transforms/{contract.dataset}.py"
        if contract.topic is not None:
            return STREAM + contract.dataset
        return INGEST + contract.dataset if contract.schema == "raw" and contract.sources else None

    def inputs(self, dataset: str) -> tuple[str, ...]:
        """Return the datasets that the transform of that name reads; none if there is no such transform."""
        return next((inputs for text, inputs in self._transforms if text.name == dataset), ())

    def readers(self, contract: Contract) -> list[Use]:
        """Return who reads the dataset, each with the first place where it says so."""
        anything = re.compile("")
        found = [text.first(_mention(contract)) or text.first(anything) for text in self._texts(contract)]
        return [use for use in found if use is not None] + self._references(contract.dataset, None)

    def column_readers(self, contract: Contract, column: str) -> list[Use]:
        """Return who reads one column of the dataset, each with the first place where the column is named."""
        word = re.compile(rf"\b{re.escape(column)}\b")
        found = [text.first(word) for text in self._texts(contract)]
        return [use for use in found if use is not None] + self._references(contract.dataset, column)

    def downstream(self, contract: Contract) -> list[str]:
        """Return the dbt models that are built from the dataset, through whatever models stand between."""
        found = [text.name for text, sources, _ in self._models if (contract.schema, contract.table) in sources]
        for name in found:
            found += [t.name for t, _, refs in self._models if name in refs and t.name not in found]
        return sorted(found)

    def refs(self, models: list[str]) -> list[tuple[str, list[str]]]:
        """Return each of the models with those of them that it is built from."""
        return [(t.name, sorted(refs & set(models))) for t, _, refs in self._models if t.name in models]

    def _texts(self, contract: Contract) -> Iterator[_Text]:
        yield from (text for text, sources, _ in self._models if (contract.schema, contract.table) in sources)
        yield from (text for text, inputs in self._transforms if contract.dataset in inputs)
        named = re.compile(rf"\b{contract.schema}\.{contract.table}\b")
        yield from (t for t in self._suites if t.name == contract.dataset or t.first(named))

    def _references(self, dataset: str, column: str | None) -> list[Use]:
        wanted = f"{dataset}." if column is None else f"{dataset}.{column}"
        found = []
        for name, path, references in self._contracts:
            hits = [line for to, line in references if to == wanted or (column is None and to.startswith(wanted))]
            if hits and name != dataset:
                found.append(Use("contract", name, f"{path}:{hits[0]}"))
        return found

    @cached_property
    def _models(self) -> list[tuple[_Text, set[tuple[str, str]], set[str]]]:
        found = []
        for path in sorted((self.project / "models").rglob("*.sql")):
            text = _SQL_COMMENT.sub(_blank, path.read_text(encoding="utf-8"))
            lines = _Text("dbt model", path.stem, self._relative(path), tuple(text.splitlines()))
            found.append((lines, set(_SOURCE.findall(text)), set(_REF.findall(text))))
        return found

    @cached_property
    def _transforms(self) -> list[tuple[_Text, tuple[str, ...]]]:
        found = []
        for path in sorted((self.project / "transforms").glob("*.py")):
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
            if inputs := _inputs(tree):
                found.append((_Text("transform", path.stem, self._relative(path), _strings(tree, text)), inputs))
        return found

    @cached_property
    def _suites(self) -> list[_Text]:
        return [
            _Text("suite", path.stem, self._relative(path), _yaml_lines(path))
            for path in sorted((self.project / "expectations").glob("*.yaml"))
        ]

    @cached_property
    def _contracts(self) -> list[tuple[str, str, list[tuple[str, int]]]]:
        found = []
        for path in sorted((self.project / "schemas").glob(f"*{SUFFIX}")):
            document = parse(path, read_text(path))
            references = [
                (str(link.get("to")), document.line(["schema", s, "properties", p, "relationships", r]))
                for s, table in enumerate(document.content.get("schema") or [])
                for p, column in enumerate(table.get("properties") or [])
                for r, link in enumerate(column.get("relationships") or [])
            ]
            found.append((path.name.removesuffix(SUFFIX), self._relative(path), references))
        return found

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.project).as_posix()


def _mention(contract: Contract) -> re.Pattern[str]:
    quote = "['\"]"
    source = rf"source\(\s*{quote}{contract.schema}{quote}\s*,\s*{quote}{contract.table}{quote}"
    return re.compile(rf"{source}|\b{contract.dataset}\b")


def _blank(comment: re.Match[str]) -> str:
    return "\n" * comment[0].count("\n")


def _yaml_lines(path: Path) -> tuple[str, ...]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple("" if line.lstrip().startswith("#") else line for line in lines)


def _inputs(tree: ast.Module) -> tuple[str, ...]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "INPUTS" for t in node.targets):
            return tuple(str(name) for name in ast.literal_eval(node.value))
    return ()


def _strings(tree: ast.Module, text: str) -> tuple[str, ...]:
    """Return, line by line, only the strings of a module that are no docstrings: there it names columns."""
    lines = [""] * (text.count("\n") + 1)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            lines[node.lineno - 1] += f" {' '.join(node.value.split())}"
    return tuple(lines)
