"""What people are told when something needs them, a message a kind of trouble; who carries it is not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tidegate.errors import HeldError
from tidegate.gates.verdict import Verdict
from tidegate.observe.database import Finding

#: Slack cuts a message at 4,000 characters.
_LONGEST = 3000


def failure(dag_id: str, task_id: str, run_id: str, error: BaseException | None) -> str:
    """Tell that a task has failed for good, or that a gate holds a batch, with what to do next."""
    if isinstance(error, HeldError):
        return _clip(f"HELD: {dag_id}, run {run_id}. {error}")
    reason = f"{type(error).__name__}: {error}" if error else "it was ended from outside, or lost its machine"
    return _clip(
        f"FAILED: {dag_id}, task {task_id}, run {run_id}. {reason}. Its log says more; clear it to run it again."
    )


def deadline(dag_id: str, run_id: str, patience: str) -> str:
    """Tell that a run has not published within the time that its contract allows."""
    return _clip(
        f"LATE: {dag_id}, run {run_id}, has not published within {patience}. "
        "Look at its tasks in Airflow: one waits, is tried again, or has failed."
    )


def stale(verdicts: Mapping[str, Verdict]) -> str:
    """Tell that datasets are older than promised: no run is late, none has come."""
    return _clip(
        f"STALE: {_each(verdicts)}. What is published stays as it is. Ask the owner for the delivery, "
        "then `tidegate ingest DATASET` or trigger its DAG."
    )


def waiting(verdicts: Mapping[str, Verdict]) -> str:
    """Tell that messages of streams wait for longer than promised: nobody takes them in, or too slowly."""
    return _clip(
        f"STALE: {_each(verdicts)}. `tidegate stream status` says whether a stream is held; its DAG may be paused, or "
        "`tidegate stream run` is needed beside it."
    )


def _each(verdicts: Mapping[str, Verdict]) -> str:
    return "; ".join(f"{name}: {v.value}, expected {v.target} ({v.target_source})" for name, v in verdicts.items())


def database(troubles: Sequence[Finding]) -> str:
    """Tell what is the matter with the database, and what to do about each."""
    told = "; ".join(
        f"{trouble.name}: {trouble.told}, limit {trouble.limit.value:g} {trouble.unit} ({trouble.limit.source}). {trouble.advice}"
        for trouble in troubles
    )
    return _clip(f"DATABASE: {told}. `tidegate database check` looks again.")


def question(delivery_id: str, kind: str, title: str) -> str:
    """Tell that a delivery waits for a person, and how to answer it."""
    word = "BLOCKED" if kind == "unmet" else "ASKED"
    return _clip(
        f"{word}: {title} Delivery {delivery_id} waits: answer in Airflow (Required Actions), or "
        f"`team approve {delivery_id} {kind} --as NAME --why TEXT`; `team reject` ends it."
    )


def unsure(delivery_id: str, title: str) -> str:
    """Tell that neither a role that thinks with a model nor its leader is sure, and where to answer."""
    return _clip(f"ASKED: {title} Delivery {delivery_id} waits: answer in Airflow (Required Actions).")


def _clip(text: str) -> str:
    # A delivered value must not address anybody (<!channel>) or show as a link.
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1] + "…"
