"""How every DAG of the platform is run: who owns it, what is tried again and how patiently, who is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference
from airflow.sdk.definitions.retry_policy import RetryAction, RetryRule
from dags.wiring import alert

from tidegate.contracts.model import in_words
from tidegate.errors import TransientError

#: Whether to try again is the error's type: what is no TransientError would fail in the same way again.
RETRY = ExceptionRetryPolicy([RetryRule(TransientError, RetryAction.RETRY)], default=RetryAction.FAIL)

#: Patience with what has no freshness of its own.
PATIENCE = timedelta(days=1)


def policy(owner: str, *, patience: timedelta | None = None, asleep: bool = True) -> dict[str, Any]:
    """Return the arguments that every DAG is made with; `patience` is how long a run may take to publish.

    One that only people start is not `asleep` when it is new: it would keep them waiting without a word.

    The deadline counts from the moment a run is queued: for a scheduled run that is the end of its partition,
    which is what a contract's freshness counts from, and a backfill of old partitions is not late at once.
    """
    allowed = patience or PATIENCE
    return {
        "catchup": False,
        # A new contract does nothing until somebody says so; `tidegate run` does for the demo year.
        "is_paused_upon_creation": asleep,
        "deadline": DeadlineAlert(
            name=f"published within {in_words(allowed)}",
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            # Seconds, as up to Airflow 3.1: of a timedelta, 3.3.2 cannot move the deadline of a failed run, and
            # clearing one of its tasks ends in "500 Internal Server Error".
            interval=int(allowed.total_seconds()),
            callback=AsyncCallback(alert.deadline_missed, kwargs={"patience": in_words(allowed)}),
        ),
        "default_args": {
            "owner": owner or "tidegate",
            "retries": 4,
            "retry_delay": timedelta(seconds=5),
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": timedelta(minutes=10),
            "retry_policy": RETRY,
            "on_failure_callback": alert.task_failed,
        },
    }
