"""Who is told when a task has failed, a batch is held or a deadline has passed: Slack, if it is connected.

Airflow's connection `slack_default` (AIRFLOW_CONN_SLACK_DEFAULT) says where; without one the message stands
in the log. What a message says is composed in `tidegate.observe.alerts`.
"""

from __future__ import annotations

from typing import Any

CONNECTION = "slack_default"
_PATIENCE = 10


def task_failed(context: Any) -> None:
    """Tell that a task has failed for good; for a held batch, which gate holds it."""
    from tidegate.observe import alerts

    task = context["ti"]
    tell(alerts.failure(task.dag_id, task.task_id, task.run_id, context.get("exception")), context)


def tell(text: str, context: Any) -> None:
    """Tell people `text`, from a task; a messenger's trouble is logged and never the task's own."""
    from airflow.sdk.exceptions import AirflowNotFoundException

    from tidegate.observe import logs

    try:
        _notifier(text).notify(context)
    except AirflowNotFoundException:
        logs.get(__name__).warning("no Slack connection, told here only", alert=text)
    except Exception as trouble:
        # The task's own failure is what matters; it must not drown in the messenger's.
        logs.get(__name__).error("Slack could not be told", alert=text, reason=type(trouble).__name__)


async def deadline_missed(*, patience: str, context: Any) -> None:
    """Tell, from the triggerer, that a run has not published in time."""
    from airflow.sdk.exceptions import AirflowNotFoundException

    from tidegate.observe import alerts, logs

    run = context.get("dag_run") or {}
    text = alerts.deadline(str(run.get("dag_id")), str(run.get("dag_run_id") or run.get("run_id")), patience)
    try:
        await _notifier(text).async_notify(context)
    except AirflowNotFoundException:
        logs.get(__name__).warning("no Slack connection, told here only", alert=text)
    except Exception as trouble:
        logs.get(__name__).error("Slack could not be told", alert=text, reason=type(trouble).__name__)


def _notifier(text: str) -> Any:
    from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

    # Its method is called, not the notifier: the text may hold a delivered value, and is no template. And Slack's
    # client must not retry: it logs the address then, the token in it, which the scheduler's log does not mask.
    return SlackWebhookNotifier(slack_webhook_conn_id=CONNECTION, text=text, timeout=_PATIENCE, retry_handlers=[])
