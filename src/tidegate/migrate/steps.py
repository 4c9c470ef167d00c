"""The migrations as data: each revision with its phase, its title and its SQL, read from `migrations/versions`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, cast, get_args

from tidegate.errors import TerminalError, UsageError

if TYPE_CHECKING:
    from alembic.config import Config

Phase = Literal["pre", "post"]

#: Statements after which something is no longer there. Moving a table or schema aside is none of them.
_LOSING = re.compile(
    r"^[^\n-]*\b(DROP\s+(?:TABLE|SCHEMA|COLUMN|MATERIALIZED\s+VIEW|DATABASE)|TRUNCATE|DELETE\s+FROM)\b[^;\n]*",
    re.I | re.M,
)


@dataclass(frozen=True)
class Step:
    """One migration. `phase` says whether it goes before (`pre`) or after (`post`) the code that needs it.

    `before` is the revision that it stands on; `base` where it is the first.

    `again` is the SQL that brings back what `down` has set aside in the schema `aside_<revision>`.
    """

    revision: str
    before: str
    phase: Phase
    title: str
    path: Path
    up: str
    down: str
    again: str

    @property
    def aside(self) -> str:
        """The schema in which `down` keeps what it takes away."""
        return f"aside_{self.revision}"


def losses(statements: str) -> list[str]:
    """Return the parts of statements that take something away for good, as they are written."""
    return [" ".join(found.group(0).split()) for found in _LOSING.finditer(statements)]


def read(project: Path) -> list[Step]:
    """Return all migrations, first to last.

    Raises:
        TerminalError: one of them is not of the project's form.
    """
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(configuration(project))
    return [_step(script.module) for script in reversed(list(scripts.walk_revisions()))]


def _step(module: ModuleType) -> Step:
    path = Path(module.__file__ or "")
    phase, _, title = (module.__doc__ or "?").strip().splitlines()[0].partition(": ")
    if phase not in get_args(Phase) or not title:
        raise TerminalError(f"{path}: its first line is {phase!r}…, expected `pre: …` or `post: …` and what it does")
    for name in ("UP", "DOWN", "AGAIN"):
        if not isinstance(getattr(module, name, None), str):
            raise TerminalError(
                f"{path}: no {name}, expected the SQL as text: every migration goes up, down and up again"
            )
    return Step(
        module.revision,
        module.down_revision or "base",
        cast(Phase, phase),
        title.rstrip("."),
        path,
        module.UP,
        module.DOWN,
        module.AGAIN,
    )


def find(steps: list[Step], revision: str) -> int:
    """Return how many steps lead to `revision`: `head` is all of them, `base` none.

    Raises:
        UsageError: there is no such revision.
    """
    if revision in ("head", "base"):
        return len(steps) if revision == "head" else 0
    known = [step.revision for step in steps]
    if revision not in known:
        raise UsageError(f"no migration {revision}: found {', '.join(known)}; `head` is the last, `base` none of them")
    return known.index(revision) + 1


def configuration(project: Path) -> Config:
    """Return Alembic's configuration of the project, without a database."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(project / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
