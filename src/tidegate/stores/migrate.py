"""Bring the warehouse's own schema (ledger, schemas) to the newest revision in `migrations/`, through Alembic."""

from __future__ import annotations

from pathlib import Path


def upgrade(url: str, project: Path, revision: str = "head") -> None:
    """Apply every migration up to `revision` to the database at `url` (postgresql://…)."""
    from alembic import command

    command.upgrade(_config(url, project), revision)


def downgrade(url: str, project: Path, revision: str) -> None:
    """Take back every migration after `revision` (`base` for all)."""
    from alembic import command

    command.downgrade(_config(url, project), revision)


def _config(url: str, project: Path):  # type: ignore[no-untyped-def]
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(project / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    # Handed over as an attribute, not an option: options are interpolated and end in tracebacks.
    config.attributes["url"] = url
    return config
