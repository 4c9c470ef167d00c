"""Whether workers are well, over HTTP on loopback: 200 while each of them works, 503 while one waits for something."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tidegate.errors import UnavailableError, first_line
from tidegate.stream.worker import Worker


@contextmanager
def serving(workers: Sequence[Worker], port: int) -> Iterator[str]:
    """Answer GET /health on `port` of 127.0.0.1 (0 picks one) while the block runs; yield the address.

    Raises:
        UnavailableError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/health":
                self.send_error(404, "there is /health, and nothing else")
                return
            told = {worker.dataset: asdict(worker.account) for worker in workers}
            body = json.dumps(told, default=str).encode()
            self.send_response(503 if any(worker.account.trouble for worker in workers) else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: somebody asks every few seconds."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise UnavailableError(
            f"port {port} cannot be had ({first_line(error)}); --health 0 picks a free one"
        ) from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/health"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
