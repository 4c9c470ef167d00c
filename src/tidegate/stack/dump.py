"""A dump of the warehouse's rows and schema to one file, with PostgreSQL's own program."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tidegate.errors import UnavailableError
from tidegate.settings import Settings
from tidegate.stack import addresses, postgres_binaries, roles
from tidegate.stores.postgres import libpq_environment, libpq_environment_of


def before(settings: Settings, revision: str) -> Path:
    """Dump the warehouse before migration `revision`; return the file, which `pg_restore` reads.

    Raises:
        UnavailableError: the dump failed; its words are in the message.
    """
    folder = settings.home / "backups"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    taken = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = folder / f"before-{revision}-{taken}.dump"
    partial = path.with_suffix(".partial")
    try:
        whole(settings, partial)
    except UnavailableError as error:
        raise UnavailableError(
            f"migration {revision} was not run, for no dump could be taken before it: {error}"
        ) from error
    partial.replace(path)
    return path


def whole(settings: Settings, file: Path, *options: str) -> None:
    """Dump every row to `file`, which `pg_restore` reads; `options` are pg_dump's.

    Raises:
        UnavailableError: the dump failed; its words are in the message, and there is no file.
    """
    # The owner does not see every row: policies hold for it, too.
    theirs = "warehouse_url" in addresses.external(settings)
    login: Mapping[str, str] = {}
    if not theirs:
        login = roles.credentials(settings, "backup")
    elif settings.dump_url is not None:
        login = libpq_environment_of(settings.dump_url.get_secret_value())
    done = run(settings, "pg_dump", "--format=custom", f"--file={file}", *options, login=login)
    if done.returncode != 0:
        file.unlink(missing_ok=True)
        blind = "row-level security" in done.stderr and settings.dump_url is None
        remedy = ". Name a login that sees every row in TIDEGATE_DUMP_URL: the role `backup` does" if blind else ""
        raise UnavailableError(f"the warehouse cannot be dumped: {' '.join(done.stderr.split())[-600:]}{remedy}")


def run(
    settings: Settings, program: str, *arguments: str, login: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's client programs on the warehouse, as its owner or as `login` (PGUSER, PGPASSWORD, …).

    The password travels in the environment.
    """
    path = postgres_binaries.client(program, settings.postgres_bin)
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", **libpq_environment(settings), **(login or {})}
    return subprocess.run([path, *arguments], env=environment, capture_output=True, text=True, check=False, umask=0o077)


def schema(settings: Settings, *options: str) -> str:
    """Return the warehouse's schema as SQL, without owners and without what differs from one dump to the next.

    `options` are pg_dump's.

    Raises:
        UnavailableError: the dump failed; its words are in the message.
    """
    done = run(settings, "pg_dump", "--schema-only", "--no-owner", *options)
    if done.returncode != 0:
        raise UnavailableError(f"the schema cannot be read: {done.stderr.strip()}")
    passing = ("--", "SET ", "SELECT pg_catalog.set_config", "\\restrict", "\\unrestrict")
    lines = [line for line in done.stdout.splitlines() if not line.startswith(passing)]
    # Functions come before the tables that they name.
    head = "SET check_function_bodies = false;\n\n"
    return head + re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"
