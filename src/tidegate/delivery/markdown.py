"""Markdown as artifacts need it: a heading that tells where a document comes from, tables, code; nothing of what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate.delivery.ledger import Exhibit
    from tidegate.delivery.work import Work


def head(work: Work, title: str) -> list[str]:
    """Return the first lines of an artifact: what it is, who made it, for which delivery of which commit."""
    return [
        f"# {title}",
        "",
        f"{work.role.name} · wave {work.wave} · delivery `{work.delivery.delivery_id}` · commit `{work.delivery.code_version[:12]}` · "
        f"strategy `{work.delivery.strategy}`",
        "",
    ]


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return a table; a cell with a bar or a line break in it stays one cell."""
    shown = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    if not shown:
        return ["(none)", ""]
    return [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *shown, ""]


def code(text: str, language: str = "") -> list[str]:
    """Return a block of code."""
    return [f"```{language}", text.strip("\n"), "```", ""]


def link(exhibit: Exhibit, depth: int = 1) -> str:
    """Return a link to a file of evidence from a document that lies `depth` folders below `.team/`."""
    return f"[{exhibit.path}]({'../' * depth}evidence/{exhibit.path})"


def _cell(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split()).replace("|", "\\|")
