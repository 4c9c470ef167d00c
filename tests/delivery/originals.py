"""The strategies as they were given to us: beside the repository, and never in it."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT.parent / "shared" / "strategies"
STRATEGIES = ("database-strategy.md", "data-engineering-strategy.md", "python-data-strategy.md")


def original(name: str) -> Path:
    """Return one of them, or skip the test that asks."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"the given document {name} is not in ../shared/strategies of this checkout")
    return path
