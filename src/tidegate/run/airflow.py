"""Airflow's REST API, as far as a run needs it: wake a DAG, start it, watch its runs, learn why one failed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from tidegate.errors import StackError, UnavailableError
from tidegate.settings import Settings

ENDED = ("success", "failed")
_PAGE = 500


@dataclass(frozen=True)
class DagRun:
    """One run of a DAG; `partition` is its partition key, if it has one."""

    dag_id: str
    run_id: str
    state: str
    partition: str | None


class Airflow:
    """A session with Airflow's API server."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def wait_for(self, dag_ids: Sequence[str], patience: float = 60) -> None:
        """Wait until Airflow has read these DAGs; StackError with its complaint when it cannot."""
        deadline = time.monotonic() + patience
        waiting = list(dag_ids)
        while waiting := [dag_id for dag_id in waiting if not self._is_read(dag_id)]:
            if errors := self._get("importErrors")["import_errors"]:
                told = "; ".join(f"{error['filename']}: {_last(error['stack_trace'])}" for error in errors)
                raise StackError(f"Airflow cannot read the DAGs: {told}. Mend the file and run this again")
            if time.monotonic() > deadline:
                raise StackError(
                    f"Airflow does not know {', '.join(waiting)} after {patience:.0f} s: "
                    "`tidegate logs airflow-dag-processor` says what it reads"
                )
            time.sleep(0.3)

    def _is_read(self, dag_id: str) -> bool:
        answer = self._client.get(f"dags/{dag_id}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return False
        found = _checked(answer)
        # Of a DAG that cannot be made (no manifest yet) there is a stand-in that says so.
        return not found["is_stale"] and all(tag["name"] != "broken" for tag in found["tags"])

    def wake(self, dag_id: str) -> None:
        """Let the DAG run."""
        _checked(self._client.patch(f"dags/{dag_id}", json={"is_paused": False}))

    def sleep(self, dag_id: str) -> None:
        """Let no task of the DAG begin from now on; those that run go on to their end."""
        _checked(self._client.patch(f"dags/{dag_id}", json={"is_paused": True}))

    def start(
        self,
        dag_id: str,
        partition: str | None = None,
        conf: Mapping[str, Any] | None = None,
        note: str = "started by `tidegate run`",
    ) -> str:
        """Start one run, of a partition where the DAG's schedule knows partitions; return its id."""
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {}), "note": note}
        if partition is not None:
            body["partition_key"] = partition
        started: str = _checked(self._client.post(f"dags/{dag_id}/dagRuns", json=body))["dag_run_id"]
        return started

    def state_of(self, dag_id: str, run_id: str) -> str | None:
        """Return the state of a run; None where Airflow knows none of that id."""
        answer = self._client.get(f"dags/{dag_id}/dagRuns/{_quoted(run_id)}")
        return None if answer.status_code == httpx.codes.NOT_FOUND else str(_checked(answer)["state"])

    def end(self, dag_id: str, run_id: str) -> None:
        """End a run as failed, with all of its tasks."""
        _checked(self._client.patch(f"dags/{dag_id}/dagRuns/{_quoted(run_id)}", json={"state": "failed"}))

    def questions(self, dag_id: str, run_id: str) -> list[str]:
        """Return the tasks of a run that wait for a person's answer."""
        found = self._get(f"dags/{dag_id}/dagRuns/{_quoted(run_id)}/hitlDetails", response_received="false")
        return [one["task_instance"]["task_id"] for one in found["hitl_details"]]

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str, form: Mapping[str, Any]) -> None:
        """Answer what a task asks."""
        path = f"dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{task_id}/-1/hitlDetails"
        _checked(self._client.patch(path, json={"chosen_options": [option], "params_input": dict(form)}))

    def backfill(self, dag_id: str, first: str, last: str, at_once: int) -> None:
        """Start a backfill from partition `first` to `last`; one that is under way already is left to end."""
        answer = self._client.post(
            "backfills",
            json={
                "dag_id": dag_id,
                "from_date": first,
                "to_date": last,
                "max_active_runs": at_once,
                "reprocess_behavior": "completed",
                "run_backwards": False,
                "dag_run_conf": {},
            },
        )
        if answer.status_code != httpx.codes.CONFLICT:
            _checked(answer)

    def runs(self, dag_ids: Sequence[str]) -> list[DagRun]:
        """Return the newest runs of some DAGs, newest first."""
        body = {"dag_ids": list(dag_ids), "page_limit": _PAGE, "order_by": "-id"}
        found = _checked(self._client.post("dags/~/dagRuns/list", json=body))["dag_runs"]
        return [DagRun(run["dag_id"], run["dag_run_id"], run["state"], run.get("partition_key")) for run in found]

    def why(self, run: DagRun) -> tuple[str, str]:
        """Return the task that made a run fail, and the error that it raised."""
        path = f"dags/{run.dag_id}/dagRuns/{_quoted(run.run_id)}/taskInstances"
        failed = [task for task in self._get(path)["task_instances"] if task["state"] == "failed"]
        if not failed:
            return "no task", "the run was marked as failed"
        task = failed[0]
        log = self._get(f"{path}/{task['task_id']}/logs/{task['try_number']}", full_content="true")
        errors = [
            line["error_detail"] for line in log["content"] if isinstance(line, dict) and line.get("error_detail")
        ]
        # The first is the one that was raised, with what to do next; those behind it are its causes.
        reason = f"{errors[-1][0]['exc_type']}: {errors[-1][0]['exc_value']}" if errors else "see the task's log"
        return task["task_id"], reason

    def _get(self, path: str, **query: str) -> Any:
        return _checked(self._client.get(path, params=query))


@contextmanager
def session(settings: Settings) -> Iterator[Airflow]:
    """Log in to Airflow.

    Raises:
        StackError: no address or password is known, or Airflow refuses them.
        UnavailableError: it does not answer, now or inside the block.
    """
    if settings.airflow_url is None or settings.airflow_password is None:
        raise StackError("no Airflow is known: run `tidegate up`, or set TIDEGATE_AIRFLOW_URL and _PASSWORD")
    try:
        # No proxy stands between this machine and its own loopback address.
        with httpx.Client(base_url=settings.airflow_url, timeout=60, trust_env=False) as client:
            answer = client.post(
                "/auth/token",
                json={
                    "username": settings.airflow_username,
                    "password": settings.airflow_password.get_secret_value(),
                },
            )
            client.headers["Authorization"] = f"Bearer {_checked(answer)['access_token']}"
            client.base_url = httpx.URL(f"{settings.airflow_url}/api/v2/")
            yield Airflow(client)
    except httpx.TransportError as error:
        raise UnavailableError(
            f"Airflow at {settings.airflow_url} does not answer ({type(error).__name__}): "
            "`tidegate status` shows its state"
        ) from error


def _checked(answer: httpx.Response) -> Any:
    if answer.is_error:
        # The request's body is not repeated: the one that logs in holds the password.
        raise StackError(
            f"Airflow refused {answer.request.method} {answer.request.url.path}: "
            f"{answer.status_code} {answer.text[:300]}"
        )
    return answer.json()


def _quoted(run_id: str) -> str:
    return quote(run_id, safe="")


def _last(trace: str) -> str:
    return trace.strip().splitlines()[-1] if trace.strip() else "no reason given"
