"""Names and texts as DuckDB's SQL takes them; who opens an engine, and how large, is no matter of this module."""

from __future__ import annotations


def literal(value: str) -> str:
    """Quote a string for DuckDB."""
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Quote a name for DuckDB."""
    return '"' + name.replace('"', '""') + '"'
