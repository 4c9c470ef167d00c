"""Where a measurement was taken, how busy the place was, and what a piece of work took of memory and processors."""

from __future__ import annotations

import os
import platform
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil


def describe() -> dict[str, Any]:
    """Describe the machine, and its load before the measurement."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load_average_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Yield a list whose one figure is, at the end, the peak in MiB of this process and all it started."""
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not done.wait(0.05):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            peak[0] = max(peak[0], total / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


@dataclass
class Cost:
    """Seconds by the clock, and of processors: the latter hardly depend on what else runs on the machine."""

    seconds: float = 0.0
    processor_seconds: float = 0.0


@contextmanager
def cost(*servers: int) -> Iterator[Cost]:
    """Yield what the block takes; known at its end.

    Processor seconds are those of this process, of the programs that it has run, and of the sessions that have ended
    meanwhile of PostgreSQL servers, given by their process numbers.
    """
    known, before, began = Cost(), _processor_seconds(servers), time.perf_counter()
    try:
        yield known
    finally:
        known.seconds = time.perf_counter() - began
        known.processor_seconds = _processor_seconds(servers) - before


def _processor_seconds(servers: tuple[int, ...]) -> float:
    if servers:
        # It takes them a moment to take note of the end of a session.
        time.sleep(1)
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    theirs = [psutil.Process(server).cpu_times() for server in servers]
    return sum(u.ru_utime + u.ru_stime for u in usages) + sum(t.children_user + t.children_system for t in theirs)
