"""What the warehouse is made of, for people to read: its diagram and its dictionary, from the catalog of this moment."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.evidence import reference
from tidegate.evidence.probe import Finding, Ground
from tidegate.observe import dictionary
from tidegate.stores.postgres import connect

_SOURCE = "SELECT … FROM pg_class, pg_attribute, pg_constraint, pg_index; schemas/*.odcs.yaml; models/marts/*.yml"


def erd(ground: Ground) -> Iterator[Finding]:
    """Draw how tables relate, from the catalog and the contracts."""
    with connect(ground.settings, autocommit=True) as connection:
        found = reference.tables(ground.settings, connection)
    pointers = [pointer for table in found for pointer in table.references]
    figures = {
        "tables": len(found), "with_key": sum(bool(table.key) for table in found),
        "foreign_keys": sum(pointer.kept for pointer in pointers),
        "kept_by_programs": sum(not pointer.kept for pointer in pointers),
    }  # fmt: skip
    yield Finding("architecture/erd_diagram.md", reference.erd(found), figures, _SOURCE)


def data_dictionary(ground: Ground) -> Iterator[Finding]:
    """Tell every table, column, type and constraint."""
    with connect(ground.settings, autocommit=True) as connection:
        found = reference.tables(ground.settings, connection)
    columns = [column for table in found for column in table.columns]
    figures = {
        "tables": len(found), "columns": len(columns), "without_description": sum(not column.told for column in columns),
        "tables_without_description": sum(not table.told for table in found),
        "constraints": sum(len(table.rules) for table in found),
    }  # fmt: skip
    text = "\n\n".join(["# Data dictionary", *filter(None, dictionary.page(found))]) + "\n"
    yield Finding("architecture/data_dictionary.md", text, figures, _SOURCE)
