"""One http(s) address and the body that is kept of it: downloaded once, resumed when cut off, asked for again if changed."""

from __future__ import annotations

import fcntl
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import BusyError, SourceError, TransientError, UnavailableError
from tidegate.ingest.delivery import sha256_of
from tidegate.settings import source_variable

if TYPE_CHECKING:
    import httpx

_ATTEMPTS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 20.0
_REDIRECTS = 5
_RETRYABLE = {408, 425, 429, 500, 502, 503, 504}


class _AgainError(TransientError):
    """One attempt failed, another one may not; `pause` is how long the server asks to wait, in seconds."""

    def __init__(self, sentence: str, pause: float = 0) -> None:
        super().__init__(sentence)
        self.pause = pause


@dataclass(frozen=True)
class Told:
    """What the server said of the body that is kept; `sha256` is empty while the body is not whole."""

    etag: str = ""
    last_modified: str = ""
    gzipped: bool = False
    sha256: str = ""

    @classmethod
    def by(cls, response: httpx.Response) -> Told:
        """Return what the headers of an answer tell of its body."""
        headers = response.headers
        gzipped = headers.get("Content-Encoding", "") in ("gzip", "x-gzip")
        return cls(headers.get("ETag", ""), headers.get("Last-Modified", ""), gzipped)

    def question(self, size: int) -> dict[str, str]:
        """Headers that ask whether the whole body is still so, or for what comes after its first `size` bytes."""
        if self.sha256:
            conditions = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
            return {name: value for name, value in conditions.items() if value}
        # A weak ETag does not prove that the rest belongs to the part that is here.
        proof = self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified
        return {"Range": f"bytes={size}-", "If-Range": proof} if size and proof else {}


@dataclass(frozen=True)
class Download:
    """One address, and the folder that keeps its body and what was told of it.

    `shown` is the address as people may see it, `server` its name in the contract, `limit` the most bytes it may have.
    """

    folder: Path
    url: str
    shown: str
    server: str
    limit: int

    @property
    def body(self) -> Path:
        """The body, or as much of it as has come."""
        return self.folder / "body"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from downloading it; raises BusyError where one is at it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(f"{self.shown} is being downloaded by another process; try again later") from None
            yield

    def run(self) -> Told:
        """Bring the body up to date and return what was told of it.

        Raises:
            SourceError: the server has no such file, refuses it, or it is larger than allowed.
            UnavailableError: the server does not answer, or not well, after several attempts.
        """
        import httpx

        # It would log every address with its password and query.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        with httpx.Client(timeout=httpx.Timeout(60, connect=10), headers={"Accept-Encoding": "identity"}) as client:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return self._attempt(client)
                except _AgainError as error:
                    failed = error
                if attempt < _ATTEMPTS:
                    time.sleep(min(max(failed.pause, _FIRST_PAUSE * 2**attempt), _LONGEST_PAUSE))
        raise UnavailableError(
            f"{self.shown}: {failed}; tried {_ATTEMPTS} times: run this again later, what has been downloaded is kept"
        ) from failed

    def _attempt(self, client: httpx.Client) -> Told:
        import httpx

        told, size = self._kept()
        try:
            with self._answer(client, told.question(size)) as response:
                return self._take(response, told, size)
        except httpx.InvalidURL as error:
            raise SourceError(f"{self.shown}: no address that can be asked ({error}); correct it") from None
        except httpx.HTTPError as error:
            # What httpx says may repeat a part of the address.
            raise _AgainError(f"the connection failed ({type(error).__name__})") from error

    @property
    def _note(self) -> Path:
        return self.folder / "told.json"

    def _kept(self) -> tuple[Told, int]:
        """Return what was told of the body, and its size; a body that is not what was noted is no body."""
        try:
            told = Told(**json.loads(self._note.read_text()))
            if told.sha256 and told.sha256 != sha256_of(self.body):
                return Told(), 0
            return told, self.body.stat().st_size
        except (FileNotFoundError, ValueError, TypeError):
            return Told(), 0

    @contextmanager
    def _answer(self, client: httpx.Client, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Follow redirects, but never from https to anything else, nor away from http."""
        request = client.build_request("GET", self.url, headers=headers)
        for _ in range(_REDIRECTS + 1):
            response = client.send(request, stream=True)
            try:
                if response.next_request is None:
                    yield response
                    return
            finally:
                response.close()
            # httpx takes the credentials off where another host is meant.
            before, request = request, response.next_request
            if request.url.scheme not in ("https", before.url.scheme):
                raise SourceError(
                    f"{self.shown}: redirects to an address of another kind ({request.url.scheme}), which is not followed; "
                    "put the final address into the contract if you trust it"
                )
        raise SourceError(
            f"{self.shown}: redirects more than {_REDIRECTS} times; put the final address into the contract"
        )

    def _take(self, response: httpx.Response, told: Told, size: int) -> Told:
        match response.status_code:
            case 304 if told.sha256:
                return told
            case 206 if size and re.match(rf"bytes {size}-", response.headers.get("Content-Range", "")):
                self._write(response, "ab", size)
            case 200:
                # A new file, not the old one written over: who has a link to that still reads it.
                self.body.unlink(missing_ok=True)
                told = Told.by(response)
                self._remember(told)
                self._write(response, "wb", 0)
            case 206 | 304 | 416:
                self._note.unlink(missing_ok=True)
                raise _AgainError(f"the server does not send what was asked for (status {response.status_code})")
            case status:
                self._refuse(response, status)
        told = replace(told, sha256=sha256_of(self.body))
        self._remember(told)
        return told

    def _write(self, response: httpx.Response, mode: str, size: int) -> None:
        import httpx

        announced = size + int(response.headers.get("Content-Length", 0))
        self._require_room(announced)
        try:
            with self.body.open(mode) as file:
                # As it comes: what waits for a chunk to be full is lost when the connection is cut.
                for chunk in response.iter_raw():
                    size += len(chunk)
                    self._require_room(size)
                    file.write(chunk)
        except httpx.TransportError as error:
            of = f" of {announced:,}" if announced else ""
            raise _AgainError(f"the connection was cut after {size:,}{of} bytes") from error

    def _require_room(self, size: int) -> None:
        if size > self.limit:
            raise SourceError(
                f"{self.shown}: holds {size:,} bytes or more, expected at most {self.limit:,}; deliver it in parts, or "
                "raise the server's maxBytes in the contract"
            )

    def _refuse(self, response: httpx.Response, status: int) -> None:
        if status in (404, 410):
            raise SourceError(
                f"{self.shown}: the server has no such file (status {status}); ask its owner to deliver it"
            )
        if status in _RETRYABLE:
            asked = response.headers.get("Retry-After", "")
            raise _AgainError(f"the server answers with status {status}", float(asked) if asked.isdigit() else 0)
        hint = f"; put an address with credentials into {source_variable(self.server)}" * (status in (401, 403))
        raise SourceError(f"{self.shown}: the server refuses with status {status}, expected 200{hint}")

    def _remember(self, told: Told) -> None:
        partial = self._note.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(told)))
        partial.replace(self._note)
