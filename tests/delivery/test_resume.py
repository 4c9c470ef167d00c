"""A delivery that was refused or cut short goes on: what was mended is measured again, what is done is not done twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.delivery.delivered import Delivered, begun, measured, rehearse, warehouse
from tests.delivery.originals import ROOT

from tidegate.delivery import cases, ledger, steps, work
from tidegate.delivery.judge import VERSION
from tidegate.delivery.ledger import Exhibit
from tidegate.delivery.roles import rm
from tidegate.delivery.steps import GateError, NotDueError
from tidegate.gates.verdict import Verdict
from tidegate.stack.postgres import PostgresServer
from tidegate.stores.postgres import connect
from tidegate.strategy.gate import Gate

SLOW = "pg/explain_query_route_reliability.json"


@pytest.fixture(scope="module")
def refused(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivered]:
    """A delivery that QA has not signed, for a query is too slow."""
    with warehouse(postgres, tmp_path_factory.mktemp("refused")) as settings:
        shutil.copytree(
            ROOT / "migrations", settings.project / "migrations", ignore=shutil.ignore_patterns("__pycache__")
        )
        settings.home.mkdir(parents=True, exist_ok=True)
        probes = measured()
        probes["explain"][SLOW] |= {"p95_ms": 61.2}
        one = begun(settings, "refused", probes=probes)
        rehearse(one, until="3")
        # What these made-up deliveries lack has been let pass: they are about the query alone.
        for gate, rules in one.team.gates.items():
            if rules.wave in ("1", "2"):
                said(one, gate, "PASS")
        yield one


def said(one: Delivered, gate: Gate, decision: str, attempt: int = 1) -> None:
    case = cases.gather(cases.find(one.settings, one.delivery_id))
    rules = [v.rule for v in case.verdicts if v.gate == gate.value] or ["all of it"]
    with connect(one.settings) as connection:
        verdicts = [Verdict(gate.value, rule, decision, "", "", "", VERSION) for rule in rules]  # type: ignore[arg-type]
        ledger.record_verdicts(connection, one.delivery, attempt, verdicts)


def states(one: Delivered) -> dict[tuple[str, str], str]:
    with connect(one.settings) as connection:
        return {(done.wave, done.role): done.state for done in ledger.work(connection, one.delivery_id)}


def test_the_next_attempt_is_due_until_one_is_signed(refused: Delivered) -> None:
    said(refused, Gate.QA, "FAIL")
    with pytest.raises(GateError, match=r"Query Performance Gate refuses: .*61\.2"):
        steps.decide(refused.settings, refused.delivery_id, Gate.QUERY, 2)
    with pytest.raises(NotDueError, match="the attempt before was not refused"):
        steps.decide(refused.settings, refused.delivery_id, Gate.QUERY, 3)
    said(refused, Gate.QA, "PASS", 2)
    with pytest.raises(NotDueError, match="the attempt before was not refused"):
        steps.decide(refused.settings, refused.delivery_id, Gate.QUERY, 2)
    said(refused, Gate.QA, "FAIL", 2)


def test_who_goes_on_has_measured_again_what_was_refused_and_nothing_else(refused: Delivered) -> None:
    refused.judge(Gate.QUERY)
    refused.end("failed", "the query is slow")
    steps.reopen(refused.settings, refused.delivery_id, "another run")
    going = refused.delivery
    assert (going.state, going.dag_run_id) == ("running", "another run")
    found = states(refused)
    assert (found["2", "PG"], found["3", "QA"]) == ("failed", "failed")
    assert (found["1", "PM"], found["1.5", "MKT"]) == ("done", "done")


def test_the_run_of_before_does_not_end_what_another_works_on(refused: Delivered) -> None:
    with pytest.raises(NotDueError, match="works on it now"):
        steps.finish(refused.settings, refused.delivery_id, "a run that was lost")


def test_work_that_was_cut_short_goes_on_and_work_that_is_done_anew_is_measured_anew(refused: Delivered) -> None:
    mine = cases.find(refused.settings, refused.delivery_id).role("PG", "2", 7)
    role = mine.role.model_copy(update={"evidence": {"2": ("version",)}, "artifacts": {}})
    alone = refused.team.model_copy(update={"roles": {**refused.team.roles, "PG": role}})
    mine = replace(mine, role=role, team=alone)

    def taken() -> list[Exhibit]:
        work.take(replace(mine))
        return [one for one in replace(mine).exhibits if one.probe == "version"]

    (first,) = taken()
    (again,) = taken()
    assert again.taken_at == first.taken_at
    with connect(refused.settings) as connection:
        ledger.work_ends(connection, refused.delivery_id, mine.where, "done")
        ledger.do_again(connection, refused.delivery_id, ["PG"], "a gate had refused it")
    (anew,) = taken()
    assert anew.taken_at > first.taken_at


def test_a_delivery_that_was_refused_ends_with_what_a_person_may_do_and_is_reported(refused: Delivered) -> None:
    with pytest.raises(
        GateError, match=r"^CI Validation Gate refuses .*, and \d+ rules more fail; mend it, or .*`team resume` goes on"
    ):
        steps.finish(refused.settings, refused.delivery_id, "another run")
    assert refused.delivery.state == "failed"
    assert {path.suffix for path in (refused.root / "reports").rglob("*") if path.is_file()} >= {
        ".pptx",
        ".pdf",
        ".html",
    }


def test_the_release_notes_tell_what_was_let_pass_by_whom_and_why(refused: Delivered) -> None:
    mine = cases.find(refused.settings, refused.delivery_id).role("RM", "4")
    passing = Verdict("Query Performance Gate", "P95", "PASS", "3 ms", "< 50 ms", "strategies/database.md:92", VERSION)
    waived = replace(passing, rule="P99", verdict="WARN", value="812 ms; waived by Ada: nobody waits for it")
    vars(mine)["verdicts"] = [passing, waived]
    _, _, told = rm.release_notes(mine).partition("## Let pass unmet")
    assert "| P99 | 812 ms; waived by Ada: nobody waits for it | strategies/database.md:92 |" in told
    vars(mine)["verdicts"] = [passing]
    assert "unmet" not in rm.release_notes(mine)
