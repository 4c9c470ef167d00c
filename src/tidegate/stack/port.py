"""Free ports on loopback, the same for a service from one start to the next."""

from __future__ import annotations

import socket
import zlib
from pathlib import Path

from tidegate.errors import StackError

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Return whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Return whether a server accepts connections on this loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((LOOPBACK, port)) == 0


def choose(base: int, home: Path, avoid: set[int]) -> int:
    """Return a free port from `base` upward, not one of `avoid`.

    The search starts at an offset made from the folder's path, so that two checkouts that start in the same
    moment do not race for one port. All are below the range that the kernel hands to outgoing connections.
    """
    start = base + zlib.crc32(str(home).encode()) % 900
    for port in range(start, start + 1000):
        if port not in avoid and is_free(port):
            return port
    raise StackError(
        f"no free port on {LOOPBACK} from {start} to {start + 999}: `ss -ltnp` shows who listens there; "
        "stop what is not needed and run `tidegate up` again."
    )
