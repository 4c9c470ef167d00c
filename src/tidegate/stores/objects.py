"""Landed files, wherever they lie: a folder or a bucket, by its URL; and what a refusal of the store means.

An S3 store is found, and its credentials, as every AWS client does: by the AWS_… variables of the environment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.errors import TerminalError, UnavailableError, first_line

if TYPE_CHECKING:
    from upath import UPath

_CHUNK = 1 << 20


def place(url: str) -> UPath:
    """Return the path that a URL means."""
    from upath import UPath

    return UPath(url)


def local(path: UPath) -> Path | None:
    """Return the file on this machine that `path` means, None in a store."""
    return Path(path.path) if path.protocol in ("", "file") else None


@contextmanager
def opened(url: str) -> Iterator[Any]:
    """Yield a landed file to read, at any position: a memory map on this machine, which spares a copy.

    Raises:
        TerminalError: it is not there, or the store refuses it.
        UnavailableError: the store does not answer.
    """
    path = place(url)
    file = local(path)
    with answering(url):
        if file is None:
            with path.open("rb") as stream:
                yield stream
        else:
            import pyarrow as pa

            with pa.memory_map(str(file)) as mapped:
                yield mapped


def put(file: Path, url: str) -> None:
    """Bring a file to where it stays, and appears whole or not at all; on this machine it is moved, for reading only.

    A file that stands there, of a run cut short, is the same file.

    Raises:
        TerminalError: it may not be put there.
        UnavailableError: the store does not answer.
    """
    path = place(url)
    target = local(path)
    with answering(url):
        if target is None:
            path.fs.put_file(str(file), path.path)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".partial")
            shutil.move(file, partial)
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.chmod(0o444)
            partial.replace(target)


def get(url: str, file: Path) -> None:
    """Copy a landed file to `file`; raises as `opened` does."""
    with opened(url) as theirs, file.open("wb") as ours:
        shutil.copyfileobj(theirs, ours, _CHUNK)


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Say what it means when the store of `url` refuses what the block does, or does not answer."""
    try:
        yield
    except Exception as error:
        if (meant := _meant(url, error)) is None:
            raise
        raise meant from error


def _meant(url: str, error: Exception) -> TerminalError | UnavailableError | None:
    import botocore.exceptions as aws

    told = f"{url} cannot be reached"
    advice = "TIDEGATE_LANDING_URL names the place, and the AWS_… variables of .env.example who may read and write it"
    if isinstance(error, (aws.ConnectionError, aws.HTTPClientError, ConnectionError, TimeoutError)):
        return UnavailableError(f"{told}: its store does not answer ({type(error).__name__}). {advice}")
    if isinstance(error, (FileNotFoundError, PermissionError, aws.BotoCoreError, aws.ClientError)):
        return TerminalError(f"{told}: {first_line(error)}. {advice}")
    return None
