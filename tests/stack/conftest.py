"""A home of its own for each test, where everything but PostgreSQL is told to be elsewhere, for speed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tidegate.settings import Settings, load_settings
from tidegate.stack import lifecycle
from tidegate.stack.status import Status, look

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass
class Stack:
    """One home; `said` holds what the last `up` or `down` has said."""

    home: Path
    elsewhere: dict[str, str]
    said: str = field(default="")

    @property
    def settings(self) -> Settings:
        return load_settings(project=CHECKOUT, home=self.home, **self.elsewhere)

    def up(self) -> Settings:
        lines: list[str] = []
        try:
            return lifecycle.up(self.settings, lines.append)
        finally:
            self.said = "\n".join(lines)

    def down(self) -> None:
        lines: list[str] = []
        lifecycle.down(self.settings, lines.append)
        self.said = "\n".join(lines)

    def status(self) -> Status:
        return look(self.settings)

    @property
    def postgres_pid(self) -> int:
        pid = self.status().services["postgres"].pid
        assert pid is not None
        return pid


@pytest.fixture
def stacks(reachable_folder: Path) -> Iterator[list[Stack]]:
    """Two homes side by side with PostgreSQL only."""
    elsewhere = {"airflow_url": "http://127.0.0.1:9", "spark_master": "local[1]"}
    folder = reachable_folder / uuid.uuid4().hex[:8]
    folder.mkdir(mode=0o711)
    both = [Stack(folder / name, elsewhere) for name in ("one", "other")]
    yield both
    for stack in both:
        stack.down()


@pytest.fixture
def stack(stacks: list[Stack]) -> Stack:
    return stacks[0]
