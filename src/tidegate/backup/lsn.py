"""Places in the WAL: positions, the 16 MiB segments that hold them, and which timeline they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SEGMENT = 16 << 20
_PER_FILE = 0x100000000 // SEGMENT
_NAME = re.compile(r"[0-9A-F]{24}\Z")


def position(lsn: str) -> int:
    """Return how many bytes of WAL lie before `lsn` (as in `16/B374D848`)."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def segment(timeline: int, number: int) -> str:
    """Return the file name of segment `number`, counted from 0."""
    return f"{timeline:08X}{number // _PER_FILE:08X}{number % _PER_FILE:08X}"


def is_segment(name: str) -> bool:
    """Return whether a file of that name is a whole segment."""
    return _NAME.match(name) is not None


def number_of(name: str) -> int:
    """Return which segment, counted from 0, a file holds, whatever its timeline."""
    return int(name[8:16], 16) * _PER_FILE + int(name[16:24], 16)


@dataclass(frozen=True)
class Timeline:
    """A timeline with its past: `ancestors` are (timeline, position at which it was left), first to last."""

    number: int
    ancestors: tuple[tuple[int, int], ...] = ()

    @classmethod
    def read(cls, number: int, history: str) -> Timeline:
        """Read PostgreSQL's history file of a timeline."""
        lines = [line.split() for line in history.splitlines() if line.strip() and not line.startswith("#")]
        return cls(number, tuple((int(words[0]), position(words[1])) for words in lines))

    def segments(self, start: int, end: int) -> Iterator[str]:
        """Yield the names of the segments that hold the positions from `start` up to, not including, that of `end`."""
        for number in range(start // SEGMENT, end // SEGMENT):
            # The segment in which a timeline was left is written anew, as a whole, by its successor.
            owner = next((line for line, left in self.ancestors if number < left // SEGMENT), self.number)
            yield segment(owner, number)
