"""How every task of the platform is run: who owns it, what is tried again and how patiently, who is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy
from airflow.sdk.definitions.retry_policy import RetryAction, RetryRule

from tidegate.errors import TransientError

#: Whether to try again is the error's type. What is no TransientError would fail in the same way again.
RETRY = ExceptionRetryPolicy([RetryRule(TransientError, RetryAction.RETRY)], default=RetryAction.FAIL)


def task_defaults(owner: str) -> dict[str, Any]:
    """Return the `default_args` of a DAG whose data `owner` answers for."""
    return {
        "owner": owner or "tidegate",
        "retries": 4,
        "retry_delay": timedelta(seconds=5),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        "retry_policy": RETRY,
    }
