"""A home of its own for each test, where everything but PostgreSQL is told to be elsewhere, for speed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.whole import WAREHOUSE_ALONE, Stack


@pytest.fixture
def stacks(reachable_folder: Path) -> Iterator[list[Stack]]:
    """Two homes side by side with PostgreSQL only."""
    elsewhere = dict(WAREHOUSE_ALONE)
    folder = reachable_folder / uuid.uuid4().hex[:8]
    folder.mkdir(mode=0o711)
    both = [Stack(folder / name, elsewhere) for name in ("one", "other")]
    yield both
    for stack in both:
        stack.down()


@pytest.fixture
def stack(stacks: list[Stack]) -> Stack:
    return stacks[0]
