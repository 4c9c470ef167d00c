"""A task that waits for a person: what they are shown comes from the library, and so does what becomes of their answer.

It holds no worker while it waits. Nobody's silence is an answer: there is no default, and no time-out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from dags.wiring import alert
from dags.wiring.task import at_work, if_due

if TYPE_CHECKING:
    from tidegate.delivery.ledger import Decision

APPROVE, REJECT = "Approve", "Reject"


class Ask(HITLOperator):  # type: ignore[misc]
    """Ask a person about a delivery; `kind` is what about."""

    def __init__(self, *, kind: str, delivery_id: str, **words: Any) -> None:
        form = {
            "name": Param(None, type=["null", "string"], description="Who you are; the Airflow user when empty."),
            "why": Param(None, type=["null", "string"], description="Your reason."),
        }
        # Airflow hands every operator the parameters of its DAG; what is asked has its own form.
        super().__init__(subject=kind, options=[APPROVE, REJECT], **(words | {"params": form}))
        self.kind = kind
        self.delivery_id = delivery_id

    template_fields = ("subject", "body", "delivery_id")

    def execute(self, context: Any) -> Any:
        """Ask; where it was decided before about exactly this, or there is nothing to decide, go on at once."""
        from tidegate.delivery import steps
        from tidegate.observe import alerts

        with at_work(dataset="delivery", batch_id=self.delivery_id) as settings, if_due():
            question = steps.ask(settings, self.delivery_id, self.kind)  # type: ignore[arg-type]
        if question is None:
            return {"decision": "decided before, or nothing to decide"}
        self.subject, self.body = question.title, question.text
        context["ti"].xcom_push("shown", vars(question.subject))
        alert.tell(alerts.question(self.delivery_id, self.kind, question.title), context)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Hand the answer to the ledger; fails when it is a rejection, or whoever gave it may not."""
        from tidegate.delivery import steps
        from tidegate.delivery.approval import Subject

        answered: Mapping[str, Any] = super().execute_complete(context, event)
        given = answered["params_input"]
        user = (answered["responded_by_user"] or {}).get("name") or ""
        decision: Decision = "approve" if answered["chosen_options"] == [APPROVE] else "reject"
        shown = context["ti"].xcom_pull(task_ids=self.task_id, key="shown")
        by, why = given.get("name") or user, given.get("why") or f"answered in Airflow by {user}"
        with at_work(dataset="delivery", batch_id=self.delivery_id) as settings:
            steps.answer(settings, self.delivery_id, Subject(**shown), decision, by=by, why=why)
        return {"decision": decision, "by": by, "why": why}
