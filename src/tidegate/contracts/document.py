"""A contract file as YAML whose every value knows its line, held against the Open Data Contract Standard.

What the values mean to the platform is told in `read`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import yaml

from tidegate.errors import ContractError

Place = tuple[str | int, ...]

_STANDARD = "open-data-contract-standard"
# libyaml's loader is three times as fast; a PyYAML built without it has only the other.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Document:
    """One parsed contract file: its content, and the line (from 1) of every key and item in it."""

    path: Path
    content: dict[str, Any]
    lines: Mapping[Place, int]

    def line(self, where: Sequence[str | int]) -> int:
        """Return the line of the nearest thing that `where` names."""
        steps = tuple(where)
        while steps and steps not in self.lines:
            steps = steps[:-1]
        return self.lines.get(steps, 1)

    def refuse(self, where: Sequence[str | int], sentence: str) -> ContractError:
        """Return the error that says `sentence` of what stands at `where`."""
        return ContractError(f"{self.path}:{self.line(where)}: {sentence}")


def read_text(path: Path) -> str:
    """Return the text of a contract file.

    Raises:
        ContractError: it is missing, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ContractError(f"{path}: no such contract file") from None
    except UnicodeDecodeError as error:
        raise ContractError(f"{path}: not UTF-8 (byte {error.start}); save the contract as UTF-8") from None


def parse(path: Path, text: str) -> Document:
    """Parse the text of a contract file.

    Raises:
        ContractError: it is not YAML, is no mapping, or names a key twice (YAML drops the first in silence).
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        content = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise ContractError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    finally:
        loader.dispose()
    if node is None or not isinstance(content, dict):
        raise ContractError(f"{path}:1: expected a mapping as in the Open Data Contract Standard")
    lines: dict[Place, int] = {}
    _walk(path, node, (), lines)
    return Document(path, content, lines)


def _walk(path: Path, node: yaml.Node, place: Place, lines: dict[Place, int]) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*place, key.value)
            line = key.start_mark.line + 1
            if here in lines:
                raise ContractError(f"{path}:{line}: {key.value!r} stands here twice, first in line {lines[here]}")
            lines[here] = line
            _walk(path, value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(path, value, (*place, index), lines)


def check_standard(document: Document, text: str, seen: Path | None = None) -> None:
    """Hold a document against the standard's JSON schema.

    A JSON schema validator costs far more to import and run than reading the contract does, and DAG files
    read every contract whenever they are parsed. So a text that has passed once leaves an empty file, named
    by its hash, in the folder `seen`, and is not judged again.

    Raises:
        ContractError: it breaks the standard; names the deepest breach.
    """
    mark = seen / hashlib.sha256(f"{metadata.version(_STANDARD)}\n{text}".encode()).hexdigest() if seen else None
    if mark is not None and mark.exists():
        return
    # YAML reads 2013-01-01 as a date; the standard's schema speaks of strings.
    content = json.loads(json.dumps(document.content, default=str))
    errors = sorted(_validator().iter_errors(content), key=lambda e: (-len(e.absolute_path), str(e.message)))
    if errors:
        error = errors[0]
        place = ".".join(map(str, error.absolute_path)) or "the document"
        message = error.message[:300]
        if place.split(".")[-2:-1] == ["properties"] and "logicalType" not in error.instance:
            # The standard's schema takes a column without a type for a map, and misses what maps need.
            message = "'logicalType' is missing"
        standard = f"Open Data Contract Standard {document.content.get('apiVersion', 'v3')}"
        raise document.refuse(list(error.absolute_path), f"{place}: {message} ({standard})")
    if mark is not None:
        with suppress(OSError):  # where the home cannot be written, every reading judges anew
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


@cache
def _validator() -> Any:
    from jsonschema.validators import validator_for  # type: ignore[import-untyped]

    schema = json.loads(resources.files("open_data_contract_standard").joinpath("schema.json").read_text("utf-8"))
    return validator_for(schema)(schema)
