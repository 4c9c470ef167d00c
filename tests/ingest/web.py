"""A web server on loopback that does as it is told, and remembers what it was asked."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """What the server serves at every path, and how it behaves; `asked` holds the headers of each request."""

    address: str = ""
    content: bytes = b""
    etag: str = '"1"'
    gzipped: bool = False
    #: Close the connection after so many bytes of the body, once each.
    cuts: list[int] = field(default_factory=list)
    #: Answer so first, once each: a status and a header.
    first: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    #: Who may enter, as an Authorization header.
    key: str | None = None
    chunked: bool = False
    asked: list[tuple[str, Message]] = field(default_factory=list)
    #: Statuses of the answers, in order.
    answers: list[int] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def do_GET(self) -> None:
        web, headers = self.web, dict[str, str]()
        web.asked.append((self.path, self.headers))
        if web.first:
            self.answer(*web.first.pop(0))
        elif web.key and self.headers["Authorization"] != web.key:
            self.answer(401, {})
        elif self.headers["If-None-Match"] == web.etag:
            self.answer(304, {})
        else:
            body, status = gzip.compress(web.content, mtime=0) if web.gzipped else web.content, 200
            start = self.headers["Range"]
            if start and self.headers["If-Range"] == web.etag:
                offset = int(start.removeprefix("bytes=").rstrip("-"))
                status, headers["Content-Range"] = 206, f"bytes {offset}-{len(body) - 1}/{len(body)}"
                body = body[offset:]
            headers |= {"Content-Encoding": "gzip"} if web.gzipped else {}
            self.answer(status, {"ETag": web.etag, "Last-Modified": "Fri, 01 Mar 2024 00:00:00 GMT", **headers}, body)

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.web.answers.append(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304 and not self.web.chunked:
            self.send_header("Content-Length", str(len(body)))
        elif self.web.chunked:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.web.cuts and status in (200, 206):
            self.wfile.write(body[: self.web.cuts.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving(web: Web) -> Iterator[Web]:
    """Serve `web` on a free port for the length of the block."""
    handler: Callable[..., BaseHTTPRequestHandler] = type("Handler", (_Handler,), {"web": web})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:  # type: ignore[arg-type]
        web.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield web
        server.shutdown()
        thread.join()
