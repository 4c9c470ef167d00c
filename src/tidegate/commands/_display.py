"""How commands show what they found: tables for eyes, tab-separated lines for pipes, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

import typer


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().isoformat(sep=" ", timespec="seconds")
    # A control character of a delivered value must not reach the terminal as a command.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def print_line(told: str) -> None:
    """Print a sentence, which may hold what somebody else has written, as one line."""
    typer.echo(_text(told))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under their columns: as a table on a terminal, else as lines with tabs; nothing without rows."""
    shown = [[_text(value) for value in row] for row in rows]
    if not shown:
        return
    if not sys.stdout.isatty():
        typer.echo("\n".join("\t".join(row) for row in [list(columns), *shown]))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in shown:
        # Text, not str: a value with brackets is no markup.
        table.add_row(*map(Text, row))
    Console().print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print named values, one a line."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        typer.echo(f"{name.replace('_', ' '):<{width}}  {_text(value)}")


def print_json(found: Any) -> None:
    """Print dataclasses, mappings and lists of them as one JSON document."""
    typer.echo(json.dumps(found, indent=1, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
