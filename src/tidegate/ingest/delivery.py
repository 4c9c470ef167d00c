"""A delivery: the files that a source hands over for one partition, made local, plain and hashed."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tidegate.errors import SourceError

_CHUNK = 1 << 20
_ARROW_CODECS = {".gz": "gzip", ".zst": "zstd"}


@dataclass(frozen=True)
class DeliveredFile:
    """One file of a delivery.

    `path` is a plain (uncompressed) local file under a name of ours; `name` is what its sender called it;
    `sha256` is that of the file as sent; `newlines` counts line feeds in the plain file (an unended last line
    counts too), an upper bound for its records that costs nothing to know.
    """

    path: Path
    name: str
    sha256: str
    newlines: int
    size: int


@dataclass(frozen=True)
class Delivery:
    """All files of one partition of one dataset; its hash is that of its content, whatever the names."""

    files: tuple[DeliveredFile, ...]

    @property
    def sha256(self) -> str:
        """Hash of the delivered content (see `joined`)."""
        return joined(file.sha256 for file in self.files)

    @property
    def name(self) -> str:
        """The names as the sender gave them, for people to read."""
        return ", ".join(file.name for file in self.files)


def sha256_of(file: Path) -> str:
    """Hash a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def joined(hashes: Iterable[str]) -> str:
    """Hash a delivery of files with these hashes, in whatever order they come; of one file it is that file's own."""
    ordered = sorted(hashes)
    return ordered[0] if len(ordered) == 1 else hashlib.sha256("\n".join(ordered).encode()).hexdigest()


def receive(path: Path, name: str, spool: Path) -> DeliveredFile:
    """Make one file local, plain and hashed, under `spool`.

    gzip, zip and zstd are told by the name's ending. The plain copy gets a name of ours, so that no
    character of the sender's name reaches an engine that would read it as a pattern or as SQL.

    Raises:
        SourceError: the file is missing or empty, is cut off or damaged, or is a zip of several members.
    """
    if not path.is_file():
        raise SourceError(f"{name}: no such file; check the path, or the contract's servers entry")
    if path.stat().st_size == 0:
        raise SourceError(f"{name}: the file is empty (0 bytes); ask its sender to deliver it again")
    spool.mkdir(parents=True, exist_ok=True)
    target = spool / f"{len(list(spool.iterdir()))}{_plain_suffix(name)}"
    suffix = Path(name).suffix.lower()
    if suffix in _ARROW_CODECS or suffix == ".zip":
        sha256 = sha256_of(path)
        newlines = _unpack(path, name, target, suffix)
    else:
        # Hashed and counted in one reading.
        digest, newlines, last = hashlib.sha256(), 0, b""
        with path.open("rb") as sent:
            while chunk := sent.read(_CHUNK):
                digest.update(chunk)
                newlines += chunk.count(b"\n")
                last = chunk[-1:]
        newlines += last not in (b"\n", b"")
        sha256 = digest.hexdigest()
        target.symlink_to(path.resolve())
    return DeliveredFile(target, name, sha256, newlines, target.stat().st_size)


def _plain_suffix(name: str) -> str:
    parts = [part.lower() for part in Path(name).suffixes]
    if parts and parts[-1] in (*_ARROW_CODECS, ".zip"):
        parts.pop()
    return parts[-1] if parts and parts[-1].isascii() and parts[-1][1:].isalnum() else ".data"


def _unpack(path: Path, name: str, target: Path, suffix: str) -> int:
    import pyarrow as pa

    newlines, last = 0, b""
    try:
        with target.open("wb") as plain:
            packed: IO[bytes]
            if suffix == ".zip":
                with zipfile.ZipFile(path) as archive:
                    members = [m for m in archive.infolist() if not m.is_dir()]
                    if len(members) != 1:
                        raise SourceError(
                            f"{name}: a zip of {len(members)} members"
                            f"{': ' * bool(members)}{', '.join(m.filename for m in members[:5])}; "
                            "expected exactly one: deliver each file in a zip of its own"
                        )
                    with archive.open(members[0]) as packed:
                        newlines, last = _copy(packed, plain)
            else:
                with pa.input_stream(str(path), compression=_ARROW_CODECS[suffix]) as packed:
                    newlines, last = _copy(packed, plain)
    except (OSError, zipfile.BadZipFile, EOFError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise SourceError(
            f"{name}: the {suffix[1:]} file is cut off or damaged ({error}); ask its sender to deliver it again"
        ) from error
    if target.stat().st_size == 0:
        raise SourceError(f"{name}: the {suffix[1:]} file holds nothing; ask its sender to deliver it again")
    return newlines + (last not in (b"\n", b""))


def _copy(packed: IO[bytes], plain: IO[bytes]) -> tuple[int, bytes]:
    newlines, last = 0, b""
    while chunk := packed.read(_CHUNK):
        plain.write(chunk)
        newlines += chunk.count(b"\n")
        last = chunk[-1:]
    return newlines, last
