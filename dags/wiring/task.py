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


@contextmanager
def if_due() -> Iterator[None]:
    """Skip the task where its step of a delivery is not due, with the reason in the log."""
    from airflow.sdk.exceptions import AirflowSkipException

    from tidegate.delivery.steps import NotDueError
    from tidegate.errors import NotBegunError

    try:
        yield
    except (NotDueError, NotBegunError) as error:
        raise AirflowSkipException(str(error)) from None


def embedded_only(settings: Settings) -> None:
    """Skip the task where the warehouse is not tidegate's own server: whoever runs it looks after it."""
    from airflow.sdk.exceptions import AirflowSkipException

    from tidegate.stack import warehouse

    if not warehouse.is_mine(settings):
        raise AirflowSkipException("the warehouse is a server of your own: whoever runs it backs it up")
