"""What every task does first: read the settings, name its work in every log line, hide secrets from the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tidegate.settings import Settings, get_settings


@contextmanager
def at_work(**names: str) -> Iterator[Settings]:
    """Yield the settings to a task; `names` (dataset, batch_id) stand in every line that it logs."""
    from airflow.sdk.log import mask_secret

    from tidegate.observe import logs

    settings = get_settings()
    for secret in logs.secrets(settings):
        mask_secret(secret)
    logs.hush()
    with logs.about(**names):
        yield settings
