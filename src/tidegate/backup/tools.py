"""The programs that take backups, behind the same four functions; which one is used is a setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from tidegate.backup import basebackup, pgbackrest
from tidegate.backup.shelf import Kind
from tidegate.errors import UsageError
from tidegate.settings import Settings
from tidegate.stack.postgres import PostgresServer


class Tool(Protocol):
    """One program; `folder` is a backup's own on the shelf."""

    NAME: str

    def take(self, server: PostgresServer, folder: Path, kind: Kind, /) -> dict[str, Any]:
        """Take a backup; return its timeline, its first and last position in the WAL, and its size in bytes."""

    def damage(self, server: PostgresServer, folder: Path, /) -> str | None:
        """Read all of a backup; return what is wrong with it."""

    def extract(self, server: PostgresServer, folder: Path, target: Path, /) -> None:
        """Write the data directory as it was into the empty folder `target`."""

    def remove(self, server: PostgresServer, folder: Path, /) -> None:
        """Remove what lies elsewhere than in the backup's folder."""


_ALL: dict[str, Tool] = {basebackup.NAME: basebackup, pgbackrest.NAME: pgbackrest}


def named(name: str) -> Tool:
    """Return the tool that a backup was taken with."""
    return _ALL[name]


def chosen(settings: Settings) -> Tool:
    """Return the tool that takes the next one: pgBackRest where it is installed, unless a setting names another.

    Raises:
        UsageError: the one that is named is not installed.
    """
    installed = pgbackrest.is_installed()
    if settings.backup_tool == pgbackrest.NAME and not installed:
        raise UsageError("TIDEGATE_BACKUP_TOOL says pgbackrest, which this machine has not: install it, or say auto")
    return pgbackrest if settings.backup_tool in ("auto", pgbackrest.NAME) and installed else basebackup
