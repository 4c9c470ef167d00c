"""The embedded Spark Connect server: Sail, one process without a JVM."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path

from tidegate.stack.port import LOOPBACK


def command(port: int) -> list[str]:
    """Return the words that start the server on a loopback port."""
    return [
        str(Path(sys.executable).with_name("sail")),
        "spark",
        "server",
        "--ip",
        LOOPBACK,
        "--port",
        str(port),
    ]


def environment() -> dict[str, str]:
    """Return the server's environment: what a process needs and how S3 is reached; no other of the platform's secrets."""
    kept = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")
    return {name: value for name, value in os.environ.items() if name in kept or name.startswith("AWS_")}


def running_version() -> str:
    """Return Sail's version."""
    return version("pysail")
