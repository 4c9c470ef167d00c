"""A new strategy document to fill in: the form v3.1 with what a team usually asks for, and remarks on how to fill it in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from tidegate.errors import UsageError

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Kind:
    """A kind of team: its name, what its document is called in `strategies/`, and what it proposes."""

    team: str
    file: str
    proposals: dict[str, Any]


def kinds() -> dict[str, Kind]:
    """Return every kind of team, by name."""
    known = yaml.safe_load((_HERE / "blank.yaml").read_text(encoding="utf-8"))
    return {team: Kind(team, proposals["file"], proposals) for team, proposals in known.items()}


def kind(team: str) -> Kind:
    """Return one kind.

    Raises:
        UsageError: there is no such team.
    """
    known = kinds()
    if team not in known:
        raise UsageError(f"found the team {team!r}, expected one of {', '.join(known)}")
    return known[team]


def text(team: str) -> str:
    """Return the document that a team begins with."""
    environment = jinja2.Environment(  # noqa: S701 it is Markdown
        loader=jinja2.FileSystemLoader(_HERE), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template("blank.md.jinja").render(team=team, **kind(team).proposals)


def write(team: str, path: Path) -> None:
    """Write the document to a file that is not there yet.

    Raises:
        UsageError: it is there, or cannot be written.
    """
    told = text(team)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(told)
    except FileExistsError:
        raise UsageError(f"{path} is there already: name another place for the new one") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; name another place") from error
