"""A wire between us and a server, which can be cut while much is going through it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Wire:
    """Connections to `port` of loopback are led to `target`; cut, once, after `budget` bytes of one of them."""

    target: int
    port: int = 0
    budget: int | None = None
    cuts: int = 0
    ends: list[socket.socket] = field(default_factory=list)

    def lead(self, ours: socket.socket) -> None:
        """Lead one connection through, both ways."""
        theirs = socket.create_connection(("127.0.0.1", self.target))
        self.ends += [ours, theirs]
        threading.Thread(target=self.pump, args=(ours, theirs, True), daemon=True).start()
        threading.Thread(target=self.pump, args=(theirs, ours, False), daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        """Carry bytes one way until either side ends, or the budget is used up."""
        carried = 0
        with suppress(OSError):
            while data := source.recv(1 << 16):
                carried += len(data)
                if counted and self.budget is not None and carried > self.budget:
                    self.budget, self.cuts = None, self.cuts + 1
                    for end in (source, sink):
                        end.shutdown(socket.SHUT_RDWR)
                    return
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def wire(target: int) -> Iterator[Wire]:
    """Lay a wire to a port of loopback for the length of the block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = Wire(target, server.getsockname()[1])

        def accept() -> None:
            with suppress(OSError):
                while True:
                    found.lead(server.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield found
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for end in found.ends:
            end.close()
