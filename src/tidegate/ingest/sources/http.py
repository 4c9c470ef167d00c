"""Files at an http(s) address: downloaded once, resumed when cut off, and asked for again only if they have changed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from tidegate.contracts import Contract, Source
from tidegate.errors import BusyError, ContractError, SourceError, TransientError, UnavailableError
from tidegate.ingest.delivery import Delivery, receive
from tidegate.settings import Settings

if TYPE_CHECKING:
    import httpx

_ATTEMPTS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 20.0
_REDIRECTS = 5
_CHUNK = 1 << 20
#: A contract may say otherwise with the custom property `maxBytes`.
_MAX_BYTES = 20 << 30
_RETRYABLE = {408, 425, 429, 500, 502, 503, 504}


class _AgainError(TransientError):
    """One attempt failed, another one may not; `pause` is how long the server asks to wait, in seconds."""

    def __init__(self, sentence: str, pause: float = 0) -> None:
        super().__init__(sentence)
        self.pause = pause


@dataclass(frozen=True)
class _Remembered:
    """What the server said of a file, so that it can be asked whether that is still so."""

    etag: str = ""
    last_modified: str = ""
    sha256: str = ""

    def conditions(self) -> dict[str, str]:
        told = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in told.items() if value}

    @property
    def validator(self) -> str:
        """What proves that the rest belongs to the part that is here; a weak ETag does not."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


def fetch(settings: Settings, contract: Contract, source: Source, partition: str, spool: Path) -> Delivery:
    """Deliver the file at the source's address, with `{partition}` filled in.

    Raises:
        ContractError: the address is not http(s).
        SourceError: the server has no such file, refuses it, or it is larger than allowed.
        UnavailableError: the server does not answer, or not well, after several attempts.
        BusyError: another process is downloading the same file.
    """
    private = settings.source_url(source.name)
    url = (private.get_secret_value() if private else source.location).replace("{partition}", quote(partition, safe=""))
    if urlsplit(url).scheme not in ("http", "https"):
        raise ContractError(f"{contract.reference}: server {source.name!r}: expected an http(s) location")
    download = _Download(
        settings.home / "downloads" / contract.dataset, url, int(source.options.get("maxBytes", _MAX_BYTES))
    )
    with download.lock():
        name, encoded = download.run()
        spool.mkdir(parents=True, exist_ok=True)
        # A link of its own: the kept file may be replaced by a newer one while this one is read.
        ours = spool.with_name("downloaded")
        os.link(download.kept, ours)
    suffix = ".gz" if encoded and not name.endswith(".gz") else ""
    return Delivery((receive(ours, name + suffix, spool),))


class _Download:
    """One address and the files that are kept of it."""

    def __init__(self, folder: Path, url: str, limit: int) -> None:
        key = hashlib.sha256(url.encode()).hexdigest()[:16]
        self.url, self.limit = url, limit
        self.folder = folder / key
        self.kept, self.part = self.folder / "kept", self.folder / "part"
        # The query may hold a key.
        self.shown = re.sub(r"//[^/@]*@", "//", url.split("?", 1)[0])
        self.name = PurePosixPath(urlsplit(url).path).name or "delivery"

    @contextmanager
    def lock(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(
                    f"{self.shown} is being downloaded by another process; try again when it has ended"
                ) from None
            yield

    def run(self) -> tuple[str, bool]:
        """Bring `kept` up to date; return the file's name and whether it came gzipped on the way."""
        import httpx
        from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

        backoff = wait_exponential_jitter(initial=_FIRST_PAUSE, max=_LONGEST_PAUSE, jitter=_FIRST_PAUSE)

        def pause(state: object) -> float:
            error = state.outcome.exception()  # type: ignore[attr-defined]
            asked = min(error.pause, _LONGEST_PAUSE) if isinstance(error, _AgainError) else 0.0
            return max(asked, backoff(state))  # type: ignore[arg-type]

        timeout = httpx.Timeout(60, connect=10)
        retrying = Retrying(stop=stop_after_attempt(_ATTEMPTS), wait=pause, retry=retry_if_exception_type(_AgainError))
        with httpx.Client(timeout=timeout, headers={"Accept-Encoding": "identity"}) as client:
            try:
                return retrying(self._attempt, client)
            except RetryError as failed:
                error = failed.last_attempt.exception()
                raise UnavailableError(
                    f"{self.shown}: {error}, {_ATTEMPTS} times; run this again later: what has been downloaded is kept"
                ) from error

    def _attempt(self, client: httpx.Client) -> tuple[str, bool]:
        import httpx

        known = _read(self.kept) if self.kept.exists() else _Remembered()
        begun = _read(self.part) if self.part.exists() else _Remembered()
        size = self.part.stat().st_size if self.part.exists() and begun.validator else 0
        headers = known.conditions()
        if size:
            headers = {"Range": f"bytes={size}-", "If-Range": begun.validator}
        try:
            with self._open(client, headers) as response:
                return self._take(response, known, size)
        except httpx.HTTPError as error:
            raise _AgainError(f"the connection failed ({type(error).__name__}: {error})") from error

    @contextmanager
    def _open(self, client: httpx.Client, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Follow redirects, but never from https to anything else, nor away from http."""
        url = self.url
        for _ in range(_REDIRECTS):
            with client.stream("GET", url, headers=headers) as response:
                if response.next_request is None:
                    yield response
                    return
                target = response.next_request.url
            if target.scheme not in ("https", urlsplit(url).scheme):
                raise SourceError(
                    f"{self.shown}: redirects to a {target.scheme} address, which is not followed; put the final address "
                    "into the contract if you trust it"
                )
            url = str(target)
        raise SourceError(
            f"{self.shown}: redirects more than {_REDIRECTS} times; put the final address into the contract"
        )

    def _take(self, response: httpx.Response, known: _Remembered, size: int) -> tuple[str, bool]:
        encoded = response.headers.get("Content-Encoding", "") in ("gzip", "x-gzip")
        match response.status_code:
            case 304 if self.kept.exists() and _sha256(self.kept) == known.sha256:
                return self.name, (self.folder / "kept.encoded").exists()
            case 304:
                self.kept.unlink(missing_ok=True)
                raise _AgainError("the kept file is damaged")
            case 206 if re.match(rf"bytes {size}-", response.headers.get("Content-Range", "")):
                self._write(response, "ab", size)
            case 200:
                self._write(response, "wb", 0)
            case 206 | 416:
                self.part.unlink(missing_ok=True)
                raise _AgainError("the server does not send the part that was asked for")
            case status:
                self._refuse(response, status)
        self._keep(response, encoded)
        return self.name, encoded

    def _write(self, response: httpx.Response, mode: str, size: int) -> None:
        announced = size + int(response.headers.get("Content-Length", 0))
        _remember(self.part, _Remembered(response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")))
        with self.part.open(mode) as file:
            for chunk in response.iter_raw(_CHUNK):
                size += len(chunk)
                if max(size, announced) > self.limit:
                    file.close()
                    self.part.unlink()
                    raise SourceError(
                        f"{self.shown}: holds {max(size, announced):,} bytes, expected at most {self.limit:,}; deliver it in "
                        "parts, or raise the server's maxBytes in the contract"
                    )
                file.write(chunk)
        if announced and size != announced:
            raise _AgainError(f"the connection was cut after {size:,} of {announced:,} bytes")

    def _refuse(self, response: httpx.Response, status: int) -> None:
        if status in (404, 410):
            raise SourceError(
                f"{self.shown}: the server has no such file (status {status}); ask its owner to deliver it"
            )
        if status in _RETRYABLE:
            asked = response.headers.get("Retry-After", "")
            raise _AgainError(f"the server answers with status {status}", float(asked) if asked.isdigit() else 0)
        hint = "; put an address with credentials into TIDEGATE_SOURCE_<SERVER>_URL" if status in (401, 403) else ""
        raise SourceError(f"{self.shown}: the server refuses with status {status}, expected 200{hint}")

    def _keep(self, response: httpx.Response, encoded: bool) -> None:
        told = _Remembered(
            response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""), _sha256(self.part)
        )
        # Forgotten first: a crash in between costs a download, not a wrong answer.
        _path(self.kept).unlink(missing_ok=True)
        (self.folder / "kept.encoded").unlink(missing_ok=True)
        self.part.replace(self.kept)
        if encoded:
            (self.folder / "kept.encoded").touch()
        _remember(self.kept, told)
        _path(self.part).unlink(missing_ok=True)


def _path(file: Path) -> Path:
    return file.with_name(file.name + ".json")


def _read(file: Path) -> _Remembered:
    try:
        return _Remembered(**json.loads(_path(file).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return _Remembered()


def _remember(file: Path, told: _Remembered) -> None:
    partial = _path(file).with_suffix(".partial")
    partial.write_text(json.dumps(asdict(told)))
    partial.replace(_path(file))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
