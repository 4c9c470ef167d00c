"""Which transforms there are: a module's file name is its output's name, its INPUTS name what it reads."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tidegate.errors import ContractError, UsageError
from tidegate.settings import Settings

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Transform:
    """One transform: `function` takes a DataFrame for each of `inputs`, by that name, and returns one."""

    name: str
    inputs: tuple[str, ...]
    function: Callable[..., Any]
    doc: str
    """The module's docstring: grain, columns, units, definitions."""


def names(settings: Settings) -> list[str]:
    """Return the names of all transforms, sorted."""
    folder = settings.project / "transforms"
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def load(settings: Settings, name: str) -> Transform:
    """Import `transforms/<name>.py`; cheap, for a transform imports Spark only when it runs.

    Raises:
        UsageError: there is no transform of that name.
        ContractError: the module lacks INPUTS or transform().
    """
    path = settings.project / "transforms" / f"{name}.py"
    if not _NAME.fullmatch(name) or not path.is_file():
        raise UsageError(
            f"no transform {name!r}: transforms/ has {', '.join(names(settings)) or 'none'}; add transforms/NAME.py"
        )
    spec = importlib.util.spec_from_file_location(f"transforms.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    inputs = getattr(module, "INPUTS", None)
    function = getattr(module, "transform", None)
    if not isinstance(inputs, tuple) or not inputs or not callable(function):
        raise ContractError(
            f"transforms/{name}.py is no transform: it needs INPUTS, a tuple of dataset names, and a "
            "function transform() with a DataFrame parameter for each. See transforms/aircraft_leg.py"
        )
    return Transform(name, tuple(inputs), function, (module.__doc__ or "").strip())
