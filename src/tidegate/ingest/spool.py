"""A folder for the working copies of one delivery: gone when the work ends, swept up later when the process was killed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tidegate.errors import UnavailableError

_LOCK = "lock"


@contextmanager
def spool(home: Path, dataset: str) -> Iterator[Path]:
    """Give a fresh folder under `home` for the length of the block; first remove those that the dead left behind.

    A folder belongs to the process that holds its lock file: the kernel lets go of it when the process ends,
    however it ends.

    Raises:
        UnavailableError: a disk filled up, or a quota, while the block or this wrote to it.
    """
    try:
        with _folder(home, dataset) as folder:
            yield folder
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UnavailableError(
                f"no space left for {dataset}: free some and run this again; nothing was published"
            ) from error
        raise


@contextmanager
def _folder(home: Path, dataset: str) -> Iterator[Path]:
    root = home / "spool"
    root.mkdir(parents=True, exist_ok=True)
    # Deliveries lie here in plain, whatever is sealed of them afterwards.
    root.chmod(0o700)
    with (home / "spool.lock").open("w") as gate:
        # No folder is swept between being made and being locked.
        fcntl.flock(gate, fcntl.LOCK_EX)
        _sweep(root)
        folder = root / f"{dataset}-{uuid.uuid4().hex[:12]}"
        folder.mkdir()
        lock = (folder / _LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _sweep(root: Path) -> None:
    for folder in root.iterdir():
        # One that vanishes meanwhile has ended its work; one without a lock file died before it had any.
        with suppress(FileNotFoundError):
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                pass
            finally:
                os.close(handle)
