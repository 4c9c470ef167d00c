"""The executor's own part: which end of a task it tells the scheduler of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


def test_an_answer_that_comes_at_once_does_not_fail_the_task_that_waited_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is queued again, under the same key, before it is read here that it had gone to rest."""
    from airflow.executors.local_executor import LocalExecutor

    from tidegate.stack.warm_executor import WarmLocalExecutor

    monkeypatch.setattr(LocalExecutor, "_process_workloads", lambda *_: None)
    executor = WarmLocalExecutor(parallelism=1)

    def given(key: str) -> None:
        executor.running.add(key)
        executor._process_workloads([SimpleNamespace(key=key)])

    given("asks")
    given("asks")
    executor.change_state("asks", "success")
    assert ("asks" in executor.running, dict(executor.event_buffer)) == (True, {})
    executor.change_state("asks", "success")
    assert ("asks" in executor.running, dict(executor.event_buffer)) == (False, {"asks": ("success", None)})
    given("another")
    executor.change_state("another", "failed")
    assert executor.event_buffer["another"] == ("failed", None)
