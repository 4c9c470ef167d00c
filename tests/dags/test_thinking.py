"""Roles that think with a model, in Airflow: drawn where a connection is named, and run by the provider's own operator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.conftest import CHECKOUT, KEYS, OWNER, PASSWORD, TEMPLATE
from tests.dags.test_dags import read
from tests.delivery.delivered import Delivered, _git, begun, measured, project

from tidegate.delivery import ledger, thoughts
from tidegate.delivery.thoughts import Thought
from tidegate.gates.verdict import Verdict
from tidegate.settings import load_settings
from tidegate.stack.airflow_environment import airflow_environment
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database
from tidegate.stores.postgres import connect

CANARY = "canary-model-key-91f2"


@dataclass
class Ran:
    """A delivery of which four roles have thought: sure, sure by their leader, by a person, and out of money."""

    one: Delivered
    states: dict[str, tuple[str, int]]
    asked: list[tuple[str, str]]
    questions: list[dict[str, Any]]
    log: str

    def thought(self, code: str) -> Thought:
        with connect(self.one.settings) as connection:
            found = thoughts.newest(connection, self.one.delivery_id, ("2", code, 1))
        assert found is not None
        return found

    def states_of(self, code: str) -> dict[str, str]:
        return {
            name.rpartition(".")[2]: state for name, (state, _) in self.states.items() if name.startswith(f"{code}.")
        }


@pytest.fixture(scope="module")
def ran(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder, names = tmp_path_factory.mktemp("thinking"), ("test_thinking", "test_thinking_airflow")
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection, pytest.MonkeyPatch.context() as patch:
        ensure_database(connection, names[0], OWNER, TEMPLATE)
        ensure_database(connection, names[1], OWNER)
        for variable, value in (
            ("HOME", folder / "home"), ("WAREHOUSE_URL", postgres.dsn(names[0], OWNER, PASSWORD)), ("ENCRYPTION_KEYS", KEYS),
            ("AIRFLOW_DATABASE_URL", postgres.dsn(names[1], OWNER, PASSWORD)), ("PROJECT", project(folder / "project")),
            ("TEAM_MODEL_CONNECTION", "mind"),
        ):  # fmt: skip
            patch.setenv(f"TIDEGATE_{variable}", str(value))
        settings = load_settings()
        versions = settings.project / "migrations/versions"
        versions.mkdir(parents=True)
        (versions / "0019_delivery.py").write_text((CHECKOUT / "migrations/versions/0019_delivery.py").read_text())
        _git(settings.project, "add", "migrations")
        _git(settings.project, "commit", "-q", "-m", "feat(x): a migration")
        one = begun(settings, "thought_about", probes=measured())
        one.wave("2")
        told = "61.2 ms {{ conn.mind.password }} {% if conn.mind.password %}{{ conn.mind.password }}{% endif %}"
        slow = Verdict(
            "Query Performance Gate", "explain p95_ms", "FAIL", told, "< 50", "strategies/database.md:88", "1"
        )
        with connect(settings) as at_ledger:
            ledger.record_verdicts(at_ledger, one.delivery, 1, [slow])
            ledger.record_approval(at_ledger, one.delivery_id, {
                "kind": "cost", "subject": "COST_ESTIMATION.md ($5.00)", "sha256": "a" * 64, "decision": "approve",
                "decided_by": "Adaeze", "why": "a model may draft",
            })  # fmt: skip
        environment = {
            **os.environ, **airflow_environment(settings), "PYTHONPATH": str(CHECKOUT),
            "AIRFLOW_CONN_MIND": json.dumps({"conn_type": "pydanticai", "password": CANARY, "extra": {"model": "test"}}),
        }  # fmt: skip
        # Airflow runs what it has found in a file of its folder.
        (folder / "dags").mkdir()
        (folder / "dags/minds.py").write_text('"""airflow dag"""\nfrom tests.dags.minds import minds\nminds()\n')
        environment["AIRFLOW__CORE__DAGS_FOLDER"] = str(folder / "dags")
        result = folder / "result.json"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "tests.dags.minds", one.delivery_id, str(result)],
            env=environment, capture_output=True, text=True, check=False, cwd=CHECKOUT,
        )  # fmt: skip
        assert result.exists(), (done.stdout + done.stderr)[-4000:]
        yield Ran(one, **json.loads(result.read_text()), log=done.stdout + done.stderr)
        for name in names:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_a_sure_role_is_taken_in_and_asks_nobody(ran: Ran) -> None:
    assert ran.states_of("PG") == {
        "brief": "success", "drafts": "success", "advises": "skipped", "decides": "skipped", "drafts_again": "skipped", "take_in": "success",
    }  # fmt: skip
    thought = ran.thought("PG")
    assert thought.refused == ()
    assert thought.prose == {"postgresql/INDEXES.md": "The slowest query takes 61.2 ms."}
    assert thought.commit == _git(ran.one.settings.project, "rev-parse", "ai-team")


def test_what_a_model_has_answered_is_not_asked_again_when_the_task_is_tried_again(ran: Ran) -> None:
    """The first try looked and was then cut off; the second one goes on with what it saw: three questions, not four."""
    assert ran.states["PG.thinks.drafts"] == ["success", 2]
    assert [who for who, _ in ran.asked].count("PostgreSQL Engineer") == 3
    assert ran.thought("PG").files == ("queries/note.sql",), "it saw what it had looked at"


def test_who_is_unsure_is_told_what_a_sure_leader_says(ran: Ran) -> None:
    assert ran.states_of("DBA")["advises"] == "success"
    assert ran.states_of("DBA")["decides"] == "skipped"
    assert ran.thought("DBA").prose == {"data-architecture/ERD_DIAGRAM.md": "It is cut by month."}


def test_where_the_leader_is_unsure_a_person_is_asked_with_context_and_options(ran: Ran) -> None:
    (asked,) = ran.questions
    assert asked["options"] == ["keep it", "drop it", "ask somebody", "Go on without it"]
    assert "Keep the column?" in asked["body"]
    assert "explain p95_ms" in asked["body"]
    with connect(ran.one.settings) as connection:
        given = ledger.approvals(connection, ran.one.delivery_id)
    assert [(one.subject, one.decided_by, one.why) for one in given if one.kind == "topic"] == [
        ("Migration Engineer: Keep the column?: keep it", "Ada", "readers use it")
    ]


def test_a_sure_liar_is_refused_all_the_same(ran: Ran) -> None:
    assert ran.states_of("MIG")["take_in"] == "success"
    thought = ran.thought("MIG")
    assert any("no way back" in told for told in thought.refused)
    assert thought.commit is None
    assert "0020_note" not in _git(ran.one.settings.project, "ls-tree", "-r", "--name-only", "ai-team")


def test_a_budget_that_is_used_up_ends_the_thinking_and_stops_the_delivery(ran: Ran) -> None:
    states = ran.states_of("CACHE")
    assert (states["drafts"], states["take_in"]) == ("failed", "failed")
    assert ran.states["CACHE.thinks.drafts"][1] == 1, "a limit is not tried again"
    assert "UsageLimitExceeded" in ran.thought("CACHE").refused[0]
    assert "more than was approved" in ran.log
    with connect(ran.one.settings) as connection:
        assert thoughts.spent(connection, ran.one.delivery_id) > 50


def test_evidence_is_no_template_and_reads_no_connection(ran: Ran) -> None:
    shown = [text for _, text in ran.asked]
    assert all("{ { conn.mind.password }}" in text for text in shown)
    assert CANARY not in json.dumps(shown)
    assert CANARY not in ran.log


def test_a_role_thinks_between_its_probes_and_its_artifacts_where_a_connection_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where none is, tests/dags/test_dags.py looks."""
    monkeypatch.setenv("TIDEGATE_TEAM_MODEL_CONNECTION", "team_model")
    found = read("team.py", CHECKOUT, tmp_path / "home")
    assert found["errors"] == {}
    tasks: dict[str, list[str]] = found["dags"]["team_database"]["dependents"]
    thinking = {name.partition(".thinks.")[0] for name in tasks if ".thinks." in name}
    engineers = {"DBA", "PG", "NOSQL", "CACHE", "MIG"}
    places = {"wave_2_engineering", *(f"wave_3_quality_assurance.attempt_{n}" for n in (2, 3))}
    assert thinking == {f"{place}.{code}" for place in places for code in engineers}
    for group in thinking:
        assert {f"{group}.thinks.brief", f"{group}.write"} <= set(tasks[f"{group}.measure"]), "it writes in any case"
        assert tasks[f"{group}.thinks.take_in"] == [f"{group}.write"]
