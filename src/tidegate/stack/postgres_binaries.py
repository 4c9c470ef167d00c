"""Where PostgreSQL's programs are on this machine, and as which user they may run."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import StackError

OLDEST = 15
"""The oldest major version that the platform is tested with."""


@dataclass(frozen=True)
class Binaries:
    """A folder that holds `initdb` and `postgres`, and their version."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """Major version, 15 or newer."""
        return int(self.version.split(".")[0])

    def has_library(self, name: str) -> bool:
        """Return whether the server could load the module `name`: not every build brings the contributed ones."""
        places = (self.folder.parent / "lib", self.folder.parent / "lib" / "postgresql")
        return any((place / f"{name}{ending}").is_file() for place in places for ending in (".so", ".dylib"))


def find(named: Path | None = None, *, major: int | None = None) -> Binaries:
    """Return the newest PostgreSQL on this machine, or the one in the folder `named`.

    `major` asks for the version that an existing data directory was made by. Raises StackError with the
    command to type when there is none.
    """
    candidates = all_of(named)
    fitting = [b for b in candidates if b.major >= OLDEST and major in (None, b.major)]
    if fitting:
        return fitting[0]
    seen = ", ".join(f"{b.version} in {b.folder}" for b in candidates) or "none"
    wanted = f"PostgreSQL {major} (which made the data directory)" if major else f"PostgreSQL {OLDEST} or newer"
    where = f"in {named}, which TIDEGATE_POSTGRES_BIN names" if named else "on this machine"
    remedy = "Name the folder of its `initdb` and `postgres`" if named else f"Type: {_install_command(major)}"
    raise StackError(f"no {wanted} {where} (found: {seen}). {remedy}")


def all_of(named: Path | None = None) -> list[Binaries]:
    """Return every PostgreSQL on this machine, newest first, or only that of the folder `named`."""
    folders = [named] if named else _folders()
    found = {binaries.folder: binaries for folder in folders if (binaries := _look(folder))}
    return sorted(found.values(), key=lambda b: [int(part) for part in b.version.split(".")], reverse=True)


def client(program: str, named: Path | None = None) -> Path:
    """Return a client program: that of the newest PostgreSQL, or the one on the PATH. Raises StackError without any."""
    beside = [str(found.folder / program) for found in all_of(named)]
    for path in [*beside, shutil.which(program)]:
        if path and os.access(path, os.X_OK):
            return Path(path)
    raise StackError(f"no `{program}` on this machine: install PostgreSQL's client programs.")


def account() -> str | None:
    """Return the user that the server must run as: None for oneself; root is refused and takes another."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise StackError(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as. "
        "Type: useradd --system postgres"
    )


def _folders() -> Iterator[Path]:
    asked = shutil.which("pg_config")
    if asked:
        answer = subprocess.run([asked, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian, Ubuntu
    yield from sorted(Path("/usr").glob("pgsql-*/bin"))  # PostgreSQL's own RPMs
    for cellar in ("/opt/homebrew/opt", "/usr/local/opt"):
        yield from sorted(Path(cellar).glob("postgresql@*/bin"))
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def _look(folder: Path) -> Binaries | None:
    server, maker = folder / "postgres", folder / "initdb"
    if not (os.access(server, os.X_OK) and os.access(maker, os.X_OK)):
        return None
    answer = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"\d+(\.\d+)*", answer.stdout)
    return Binaries(folder, version.group()) if version else None


def _install_command(major: int | None) -> str:
    sudo = "" if os.geteuid() == 0 else "sudo "
    package = f"postgresql-{major}" if major else "postgresql"
    if shutil.which("apt-get"):
        return f"{sudo}apt-get update && {sudo}apt-get install --yes {package}"
    if shutil.which("dnf"):
        return f"{sudo}dnf install --assumeyes postgresql-server"
    if shutil.which("brew"):
        return f"brew install postgresql@{major or 17}"
    return "your system's command to install the PostgreSQL server, then set TIDEGATE_POSTGRES_BIN to its folder"
