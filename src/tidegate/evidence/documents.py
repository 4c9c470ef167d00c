"""Whether what the documents say of the database is what its catalog says at this moment.

Who writes them is `reference` (from the catalog) and `contracts.derived` (from the contracts).
"""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.contracts import derived
from tidegate.evidence import reference
from tidegate.evidence.probe import Finding, Ground
from tidegate.stores.postgres import connect


def current(ground: Ground) -> Iterator[Finding]:
    """Derive every page about the database anew, and name those of the checkout that say something else."""
    settings = ground.settings
    with connect(settings, autocommit=True) as connection:
        pages = [*reference.derive(settings, connection), *derived.derive(settings)]
        differing = [*reference.stale(settings, connection), *derived.stale(settings)]
    lines = [*map(str, differing), *(f"looked at {page}" for page in sorted(pages))]
    figures = {"pages": len(pages), "differing": len(differing)}
    command = "tidegate.evidence.reference.stale; tidegate.contracts.derived.stale"
    yield Finding("architecture/documents.log", "\n".join(lines), figures, command, int(bool(differing)))
