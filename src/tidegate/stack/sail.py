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
    """Return the server's environment: what a process needs, and none of the platform's secrets."""
    kept = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "AWS_PROFILE", "AWS_ENDPOINT_URL")
    return {name: os.environ[name] for name in kept if name in os.environ}


def running_version() -> str:
    """Return Sail's version."""
    return version("pysail")
