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
from tidegate.stores.postgres import libpq_environment


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
    # The owner does not see every row: policies hold for it, too.
    theirs = "warehouse_url" in addresses.external(settings)
    login = {} if theirs else roles.credentials(settings, "backup")
    done = run(settings, "pg_dump", "--format=custom", f"--file={partial}", login=login)
    if done.returncode != 0:
        partial.unlink(missing_ok=True)
        raise UnavailableError(
            f"no dump could be taken before migration {revision}, so it was not run: {done.stderr.strip()}"
        )
    partial.replace(path)
    return path


def run(
    settings: Settings, program: str, *arguments: str, login: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's client programs on the warehouse, as its owner or as `login` (PGUSER, PGPASSWORD).

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
