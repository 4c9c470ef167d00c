"""Structured logs: a line is an event with its fields, batch and dataset among them, and never a secret.

In an Airflow task Airflow writes the lines (as JSON); elsewhere `configure` does. What is logged is each
module's own matter.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, TextIO
from urllib.parse import urlsplit

import structlog

from tidegate.settings import Settings

HIDDEN = "***"
#: Libraries that tell every step they take.
CHATTY = ("great_expectations", "dbt", "pyspark", "py4j", "httpx", "httpcore", "alembic", "urllib3")


def get(name: str) -> Any:
    """Return the logger of module `name`."""
    return structlog.get_logger(name)


def about(**names: str) -> AbstractContextManager[Any]:
    """Put `names` (dataset, batch_id, …) into every line that is logged inside the block."""
    return structlog.contextvars.bound_contextvars(**names)


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Write log lines to `stream` (standard error by default): coloured on a terminal (without NO_COLOR), JSON elsewhere."""
    out = stream or sys.stderr
    hidden = sorted(secrets(settings), key=len, reverse=True)

    def hide(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        return {key: _hide(value, hidden) for key, value in event.items()}

    renderer: Any = structlog.processors.JSONRenderer(default=str)
    if out.isatty():
        renderer = structlog.dev.ConsoleRenderer(colors=not os.environ.get("NO_COLOR"))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            hide,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    hush()


def hush() -> None:
    """Let the chatty libraries speak only when something is wrong."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def secrets(settings: Settings) -> set[str]:
    """Return every secret of the settings: as it stands there, and of an address the password alone, too."""
    return set(_secrets(settings))


def _secrets(settings: Settings) -> Iterator[str]:
    named = (settings.warehouse_url, settings.airflow_database_url, settings.airflow_password, settings.redis_url)
    for secret in (
        *named,
        settings.kafka_url,
        settings.pool_url,
        settings.replica_url,
        settings.dump_url,
        *settings.source_urls,
    ):
        if secret is not None and (text := secret.get_secret_value()):
            yield text
            if "://" in text and (password := urlsplit(text).password):
                yield password
    if settings.encryption_keys is not None:
        keys = settings.encryption_keys.get_secret_value()
        yield from (encoded for key in keys.split(",") if (encoded := key.partition(":")[2].strip()))
    # Who may write into the landing area, as clients of S3 read it.
    yield from filter(None, map(os.environ.get, ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")))


def _hide(value: Any, hidden: list[str]) -> Any:
    if isinstance(value, str):
        for secret in hidden:
            value = value.replace(secret, HIDDEN)
        return value
    if isinstance(value, Mapping):
        return {key: _hide(inner, hidden) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_hide(inner, hidden) for inner in value]
    if isinstance(value, bool | int | float | None):
        return value
    # An error, say: it is text by the time that it is written.
    return _hide(str(value), hidden)
