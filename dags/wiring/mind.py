"""What is drawn where an engineering role thinks with a model: it drafts, its leader advises, a person answers, it is heard.

Imported only where TIDEGATE_TEAM_MODEL_CONNECTION names a connection: the provider costs each process that reads a DAG a
second. What a model is shown, and what of its answer counts, stands in `tidegate.delivery.mind`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import ExceptionRetryPolicy, Param, TaskGroup, task
from airflow.sdk.definitions.retry_policy import RetryAction, RetryRule
from dags.wiring import alert
from dags.wiring.task import at_work, if_due
from pydantic_ai import FunctionToolset
from pydantic_ai.exceptions import ModelAPIError

from tidegate.delivery.proposal import WITHOUT, Advice, Proposal, instructions
from tidegate.delivery.team import Team
from tidegate.errors import TransientError
from tidegate.settings import get_settings

if TYPE_CHECKING:
    from tidegate.delivery.thinking import Question

#: A model that does not answer may do so later; one that has used its budget up, or answers nonsense, does not.
_RETRY = ExceptionRetryPolicy(
    [RetryRule(error, RetryAction.RETRY) for error in (ModelAPIError, TransientError)], default=RetryAction.FAIL
)


def thinks(team: Team, where: dict[str, Any], connection: str) -> TaskGroup:
    """Draw how a role thinks; `where` has its delivery, code, wave and attempt. What it writes follows the group."""
    role, leader = team.roles[where["code"]], team.roles[team.leader]
    with TaskGroup("thinks", tooltip=f"{role.name} thinks with a model") as group:
        told = brief.override(task_display_name="What there is")(where)
        # `durable`: what a model has answered is not asked, and paid, again when the task is tried again.
        common: dict[str, Any] = {
            "llm_conn_id": connection, "durable": True, "serialize_output": True, "retry_policy": _RETRY, "cache_prompt": False,
        }  # fmt: skip
        drafted = _agent(team, role.code, "drafts", told, where, output_type=Proposal, **common)(_drafts)(told["shown"])
        advised = _agent(team, leader.code, "advises", told, where, output_type=Advice, **common)(_doubts)(
            where, told["shown"], drafted
        )
        asked = Decide(
            task_id="decides", task_display_name="A person decides", where=where, drafted=drafted, advised=advised
        )
        again = _agent(
            team, role.code, "drafts_again", told, where, output_type=Proposal,
            trigger_rule="none_failed_min_one_success", **common,
        )(_heeds)(where, told["shown"], drafted, advised, asked.output)  # fmt: skip
        taken = take_in.override(task_display_name="Taken in, or refused")(
            where=where, told=told, drafted=drafted, advised=advised, answered=asked.output, again=again
        )
        [drafted, advised, asked, again] >> taken
    return group


def _agent(
    team: Team, code: str, who: str, told: Any, where: dict[str, Any], **words: Any
) -> Callable[[Callable[..., str]], Any]:
    """Return the decorator of a task whose function returns what `code` is asked; `who` is the answer it is."""
    note = _noting(where, who)
    return task.agent(  # type: ignore[no-any-return]
        task_id=who,
        task_display_name=f"{team.roles[code].name} {who.replace('_', ' ')}",
        system_prompt=instructions(team, code),
        toolsets=[FunctionToolset([look], id=f"{code}_looks")] if who != "advises" else None,
        usage_limits={
            "cost_limit": told[f"{who}_dollars"], "total_tokens_limit": told[f"{who}_tokens"], "request_limit": 12, "tool_calls_limit": 20,
        },
        on_retry_callback=note,
        on_failure_callback=[alert.task_failed, note],
        **words,
    )  # fmt: skip


def look(path: str) -> str:
    """Return a file of the project as it is committed, or the names in a folder.

    Args:
        path: from the project's folder on, such as migrations/versions or models/marts/fct_flight.sql
    """
    from tidegate.delivery import mind

    return mind.look(get_settings(), path)


@task(multiple_outputs=True)
def brief(where: dict[str, Any]) -> dict[str, Any]:
    """Tell what a model is shown, and what it may spend."""
    from tidegate.delivery import thinking

    with at_work(dataset="delivery", batch_id=where["delivery_id"]) as settings, if_due():
        return thinking.brief(settings, thinking.Where(**where))


def _drafts(shown: str) -> str:
    return _plain(shown)


def _doubts(where: dict[str, Any], shown: str, drafted: dict[str, Any]) -> str:
    from tidegate.delivery import thinking

    with at_work(dataset="delivery", batch_id=where["delivery_id"]) as settings, if_due():
        return _plain(thinking.doubt(settings, thinking.Where(**where), shown, drafted))


def _heeds(
    where: dict[str, Any],
    shown: str,
    drafted: dict[str, Any] | None,
    advised: dict[str, Any] | None,
    answered: str | None,
) -> str:
    from tidegate.delivery import thinking

    with at_work(dataset="delivery", batch_id=where["delivery_id"]) as settings, if_due():
        answer = thinking.advice_of(settings, thinking.Where(**where), advised, answered)
        return _plain(thinking.heed(thinking.Where(**where), shown, drafted or {}, answer))


@task(trigger_rule="all_done")
def take_in(
    *,
    where: dict[str, Any],
    told: dict[str, Any] | None,
    drafted: dict[str, Any] | None,
    advised: dict[str, Any] | None,
    answered: str | None,
    again: dict[str, Any] | None,
    ti: Any = None,
) -> dict[str, Any]:
    """Take in what was proposed last, whole or not at all; red only when models have cost more than was approved."""
    from tidegate.delivery import thinking

    at, answers = thinking.Where(**where), {"drafts": drafted, "advises": advised, "drafts_again": again}
    with at_work(dataset="delivery", batch_id=at.delivery_id) as settings, if_due():
        for who, said in answers.items():
            if said is not None:
                usage = ti.xcom_pull(task_ids=ti.task_id.replace("take_in", who), key="usage")
                thinking.note(settings, at, who, f"answered in {ti.run_id}", usage)
        answer = thinking.advice_of(settings, at, advised, answered)
        # Asked again and without an answer, a role has not answered: what it was unsure of does not count.
        last = again if answer and answer != WITHOUT else drafted
        return thinking.take_in(settings, at, (told or {}).get("shown"), last, answer)


class Decide(HITLOperator):  # type: ignore[misc]
    """Ask a person what neither a role nor its leader is sure of; there is no default, and no time-out."""

    template_fields = ("where", "drafted", "advised")

    def __init__(self, *, where: dict[str, Any], drafted: Any, advised: Any, **words: Any) -> None:
        form = {
            "answer": Param(None, type=["null", "string"], description="Another answer, in your words."),
            "name": Param(None, type=["null", "string"], description="Who you are; the Airflow user when empty."),
            "why": Param(None, type=["null", "string"], description="Your reason."),
        }
        super().__init__(subject="?", options=[WITHOUT], **(words | {"params": form}))
        self.where, self.drafted, self.advised = where, drafted, advised

    def execute(self, context: Any) -> Any:
        """Ask; skipped where the leader is sure."""
        from tidegate.observe import alerts

        asked = self._asked()
        self.subject, self.body, self.options = asked.title, asked.text, asked.options
        alert.tell(alerts.unsure(self.where["delivery_id"], asked.title), context)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> str:
        """Write the answer down, and hand it on."""
        from tidegate.delivery import thinking

        asked = self._asked()
        self.options = asked.options
        given = super().execute_complete(context, event)
        form, user = given["params_input"], (given["responded_by_user"] or {}).get("name") or "somebody"
        choice = form.get("answer") or given["chosen_options"][0]
        by, why = form.get("name") or user, form.get("why") or f"answered in Airflow by {user}"
        with at_work(dataset="delivery", batch_id=self.where["delivery_id"]) as settings:
            return thinking.decided(settings, thinking.Where(**self.where), asked, choice, by=by, why=why)

    def _asked(self) -> Question:
        from tidegate.delivery import thinking

        with at_work(dataset="delivery", batch_id=self.where["delivery_id"]) as settings, if_due():
            return thinking.question(settings, thinking.Where(**self.where), self.drafted, self.advised)


def _noting(where: dict[str, Any], who: str) -> Callable[[Any], None]:
    """Return what writes down the cost of an answer that did not come: it was paid for all the same."""

    def note(context: Any) -> None:
        from tidegate.delivery import thinking

        ti, settings = context["ti"], get_settings()
        delivery = context["params"].get("resume") or ti.run_id
        usage = ti.xcom_pull(task_ids=ti.task_id, key="usage")
        error = context.get("exception")
        at = thinking.Where(**{**where, "delivery_id": delivery})
        thinking.note(
            settings, at, who, f"try {ti.try_number} of {ti.run_id}", usage, f"{type(error).__name__}: {error}"
        )

    return note


def _plain(text: str) -> str:
    """Return a prompt that Airflow renders as it stands: evidence may hold braces, and a template may read connections."""
    for brace in ("{{", "{%", "{#"):
        text = text.replace(brace, f"{brace[0]} {brace[1]}")
    return text
