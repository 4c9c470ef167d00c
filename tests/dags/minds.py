"""A program: roles of a delivery think in a real run of Airflow, by models that are functions; it prints what came of it.

    python -m tests.dags.minds DELIVERY RESULT

The tasks are those that `team_database` has, run by the task runner with a metadata database; only the answers are made up.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import handle_event_submit
from airflow.providers.common.ai.hooks.pydantic_ai import PydanticAIHook
from airflow.sdk import Param, TaskGroup, chain, dag
from airflow.triggers.base import TriggerEvent
from airflow.utils.db import upgradedb
from airflow.utils.session import create_session
from dags.wiring.mind import thinks
from pydantic_ai import ModelHTTPError, ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from tidegate.delivery import team
from tidegate.settings import get_settings

QUERY, MIGRATION = "queries/note.sql", "migrations/versions/0020_note.py"
#: Whoever answers, and what they were shown, in order.
ASKED: list[tuple[str, str]] = []


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Answer as the role would that the instructions name."""
    who = next(name for name in ANSWERS if f"You are the {name} " in (info.instructions or ""))
    shown = str(messages[0].parts[0].content)  # type: ignore[union-attr]
    ASKED.append((who, shown))
    return ANSWERS[who](messages, shown, info)


def said(info: AgentInfo, tokens: int = 100, **told: Any) -> ModelResponse:
    usage = RequestUsage(input_tokens=tokens, output_tokens=tokens)
    return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, told)], usage=usage)


def engineer(messages: list[ModelMessage], _: str, info: AgentInfo) -> ModelResponse:
    """Look first; fail once after that; be sure."""
    tries = [who for who, _ in ASKED].count("PostgreSQL Engineer")
    if len(messages) == 1:
        return ModelResponse(parts=[ToolCallPart("look", {"path": "migrations/versions/0019_delivery.py"})])
    if tries == 2:
        raise ModelHTTPError(503, "made-up", "overloaded")
    seen = "ops.delivery_work" in str(messages[2].parts[0].content)  # type: ignore[union-attr]
    changes = [{"path": QUERY, "content": "SELECT 1 AS one\n"}] if seen else []
    prose = [{"artifact": "postgresql/INDEXES.md", "text": "The slowest query takes 61.2 ms."}]
    return said(info, confidence=0.97, prose=prose, changes=changes, summary="a query")


def architect(_: list[ModelMessage], shown: str, info: AgentInfo) -> ModelResponse:
    """Be sure when the leader has answered."""
    if "# The answer\nBy month" in shown:
        text = "It is cut by month."
        return said(info, confidence=0.92, prose=[{"artifact": "data-architecture/ERD_DIAGRAM.md", "text": text}])
    return said(info, confidence=0.5, question="By month or by day?", options=["By month", "By day"])


def migrator(_: list[ModelMessage], shown: str, info: AgentInfo) -> ModelResponse:
    """Be sure when a person has answered, and lie then: there is no way back."""
    if "# The answer\nkeep it (Ada: readers use it)" in shown:
        return said(info, confidence=1.0, changes=[{"path": MIGRATION, "content": 'UP = "DROP TABLE core.leg"\n'}])
    return said(info, confidence=0.5, question="Keep the column?", options=["keep it", "drop it"])


def leader(_: list[ModelMessage], shown: str, info: AgentInfo) -> ModelResponse:
    sure = "By month or by day?" in shown
    return said(info, answer="By month" if sure else "ask somebody", confidence=0.95 if sure else 0.3)


def spender(_: list[ModelMessage], __: str, info: AgentInfo) -> ModelResponse:
    return said(info, tokens=1_000_000, confidence=1.0)


ANSWERS: dict[str, Any] = {
    "PostgreSQL Engineer": engineer, "Database Architect": architect, "Migration Engineer": migrator, "Team Leader": leader,
    "Redis and Cache Engineer": spender,
}  # fmt: skip


@dag(
    schedule=None,
    params={"resume": Param(None, type=["null", "string"])},
    default_args={"retries": 1, "retry_delay": timedelta(0)},
)
def minds() -> None:
    found = team.load(get_settings().project, "database")
    delivery = "{{ params.resume or run_id }}"
    groups = []
    for code in ("PG", "DBA", "MIG", "CACHE"):
        with TaskGroup(code) as group:
            thinks(found, {"delivery_id": delivery, "code": code, "wave": "2", "attempt": 1}, "mind")
        groups.append(group)
    chain(*groups)


def respond(questions: list[dict[str, Any]]) -> None:
    """Answer whatever a person is asked, as Airflow's API does."""
    while True:
        with create_session() as session:
            for ti, detail in session.query(TaskInstance, HITLDetail).join(
                HITLDetail, HITLDetail.ti_id == TaskInstance.id
            ):
                if ti.state == "awaiting_input":
                    questions.append({"subject": detail.subject, "body": detail.body, "options": detail.options})
                    detail.responded_by = {"id": "1", "name": "ada"}
                    detail.responded_at = datetime.now(UTC)
                    detail.chosen_options = ["keep it"]
                    detail.params_input = {"answer": None, "name": "Ada", "why": "readers use it"}
                    session.flush()
                    event = TriggerEvent(detail.as_resume_event_payload())
                    handle_event_submit(event, task_instance=ti, session=session)
        time.sleep(0.5)


def main(delivery_id: str, result: Path) -> None:
    upgradedb()
    PydanticAIHook.get_conn = lambda _: FunctionModel(answer)  # type: ignore[method-assign]
    questions: list[dict[str, Any]] = []
    threading.Thread(target=respond, args=[questions], daemon=True).start()
    run = minds().test(run_conf={"resume": delivery_id})
    with create_session() as session:
        states = {ti.task_id: [ti.state, ti.try_number] for ti in run.get_task_instances(session=session)}
    result.write_text(json.dumps({"states": states, "asked": ASKED, "questions": questions}, default=str))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
