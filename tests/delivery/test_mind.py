"""A model that thinks for a role: what it is shown, what of its answer counts, and that no lie of it gets past a gate."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from tests.conftest import CHECKOUT, PASSWORD
from tests.delivery.delivered import Delivered, _git, begun, measured, warehouse

from tidegate.delivery import cases, ledger, manifest, merge, mind, thinking, thoughts, work
from tidegate.delivery.judge import judge
from tidegate.delivery.proposal import Proposal, instructions, refusals
from tidegate.delivery.steps import GateError, NotDueError
from tidegate.delivery.thinking import Where
from tidegate.delivery.thoughts import Thought
from tidegate.delivery.work import Work
from tidegate.errors import HeldError
from tidegate.gates.verdict import Verdict
from tidegate.settings import Settings
from tidegate.stack.postgres import PostgresServer
from tidegate.stores.postgres import connect
from tidegate.strategy.gate import Gate

SECRET = "keel-2b77-lantern-91d4"
EXPLAIN = "pg/explain_query_route_reliability.json"
PGTAP = "tests/unit/pgtap_results.log"
NEXT = "migrations/versions/0020_note.py"
MIGRATION = '''"""pre: what somebody notes of a flight."""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0020"
down_revision = "0019"

UP = "CREATE TABLE ops.note (note_id bigint PRIMARY KEY);"
DOWN = "CREATE SCHEMA aside_0020; ALTER TABLE ops.note SET SCHEMA aside_0020;"
AGAIN = "ALTER TABLE aside_0020.note SET SCHEMA ops; DROP SCHEMA aside_0020;"


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
'''


@dataclass
class Minded:
    """A delivery in its second wave, of which a gate has refused a query; a model may think for its roles."""

    one: Delivered

    @property
    def settings(self) -> Settings:
        return self.one.settings

    @property
    def root(self) -> Path:
        return self.one.root

    @property
    def branch(self) -> str:
        return _git(self.settings.project, "log", "--format=%H %B", "ai-team")

    def work(self, code: str = "PG", wave: str = "2") -> Work:
        return cases.find(self.settings, self.one.delivery_id).role(code, wave)

    def where(self, code: str = "PG") -> Where:
        return Where(self.one.delivery_id, code, "2", 1)

    def answered(self, told: dict[str, Any], code: str = "PG") -> Thought:
        """What becomes of what a model answers, by pydantic-ai's own agent."""
        mine = self.work(code)
        shown = mind.context(mine)
        agent = Agent(saying(told), output_type=Proposal, instructions=instructions(mine.team, code))
        return mind.take_in(mine, asked(agent, shown), shown)


def asked(agent: Agent[None, Proposal], shown: str) -> Proposal:
    """An agent's answer; unlike `run_sync`, no event loop is left behind for a later test to trip over."""
    return asyncio.run(agent.run(shown)).output


def saying(told: dict[str, Any]) -> FunctionModel:
    """A model that answers always the same."""

    def answer(_: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, told)])

    return FunctionModel(answer)


@pytest.fixture(scope="module")
def house(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minded]:
    folder, thinks = tmp_path_factory.mktemp("minded"), {"TEAM_MODEL_CONNECTION": "mind"}
    with warehouse(postgres, folder, REDIS_URL=f"redis://:{SECRET}@127.0.0.1:9/0", **thinks) as settings:
        versions = settings.project / "migrations/versions"
        versions.mkdir(parents=True)
        for path in sorted((CHECKOUT / "migrations/versions").glob("00*.py")):
            shutil.copy(path, versions)
        _git(settings.project, "add", "migrations")
        _git(settings.project, "commit", "-q", "-m", "feat(x): migrations")
        probes = measured()
        probes["explain"][EXPLAIN] |= {"p95_ms": 61.2}
        one = begun(settings, "thought_about", probes=probes)
        one.wave("2")
        refused, broken = (next(e for e in exhibits(one) if e.path == path) for path in (EXPLAIN, PGTAP))
        tap = Verdict(
            Gate.PGTAP.value, "pgtap failed", "FAIL", f"1 ({PGTAP})", "= 0", "teams/database.yaml:9", "1", broken.sha256
        )
        slow = Verdict(
            Gate.QUERY.value, "explain p95_ms", "FAIL", f"61.2 ({EXPLAIN}), {SECRET}, mail ada@example.org", "< 50",
            "strategies/database.md:88", "1", refused.sha256,
        )  # fmt: skip
        with connect(settings) as at_ledger:
            ledger.record_verdicts(at_ledger, one.delivery, 1, [slow, tap])
        approve(settings, one, "$5.00")
        yield Minded(one)


def exhibits(one: Delivered) -> list[ledger.Exhibit]:
    with connect(one.settings) as connection:
        return ledger.exhibits(connection, one.delivery_id)


def approve(settings: Settings, one: Delivered, dollars: str) -> None:
    with connect(settings) as connection:
        ledger.record_approval(connection, one.delivery_id, {
            "kind": "cost", "subject": f"COST_ESTIMATION.md ({dollars})", "sha256": "a" * 64, "decision": "approve",
            "decided_by": "Adaeze", "why": "a model may draft",
        })  # fmt: skip


def test_a_model_is_shown_what_is_refused_by_which_line_and_evidence(house: Minded) -> None:
    shown = mind.context(house.work())
    assert "explain p95_ms: 61.2" in shown
    assert f"{PGTAP}: {{" in shown, "the end of a file that a gate refused by"
    assert "strategies/database.md:" in shown
    assert "- postgresql/INDEXES.md" in shown
    assert len(shown) <= mind.MOST_CHARACTERS
    told = instructions(house.one.team, "PG")
    assert "whose rules the database itself holds" in told


def test_no_secret_and_no_address_is_shown(house: Minded) -> None:
    shown = mind.context(house.work())
    assert SECRET not in shown
    assert PASSWORD not in shown
    assert "ada@example.org" not in shown


def test_evidence_that_was_edited_is_not_shown(house: Minded) -> None:
    path = house.root / "evidence" / PGTAP
    before = path.read_bytes()
    path.write_text("all queries are fast")
    try:
        assert "all queries are fast" not in mind.context(house.work())
    finally:
        path.write_bytes(before)


def test_what_reads_the_warehouse_is_shown_as_figures_alone(house: Minded) -> None:
    mine = house.work()
    (one,) = [one for one in exhibits(house.one) if one.probe == "constraint_audit"]
    failed = replace(mine.failing[0], evidence_sha256=one.sha256)
    shown = mind.context(replace(mine, failing=(failed,)))
    text = (house.root / "evidence" / one.path).read_text()
    assert json.dumps(one.figures) in shown
    assert text.splitlines()[0] not in shown


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (".team/qa/QA_SIGNOFF.md", "no model writes there"), (f".team/evidence/{EXPLAIN}", "no model writes there"),
        (".team/evidence/manifests/PG_manifest.md", "no model writes there"), ("strategies/database.md", "no model writes there"),
        ("teams/database.yaml", "no model writes there"), ("src/tidegate/delivery/judge.py", "no model writes there"),
        (".team/releases/DEPLOYMENT_SIGNOFF.md", "no model writes there"), ("migrations/env.py", "no model writes there"),
        ("docs", "no model writes there"), (".team/postgresql/INDEXES.md", "a program makes it"),
        ("../outside.md", "out of the worktree"), ("docs/../../outside.md", "out of the worktree"),
        ("/tmp/outside.md", "out of the worktree"), ("docs//outside.md", "out of the worktree"),
        ("docs\\..\\outside.md", "out of the worktree"), ("docs/a\nb.md", "out of the worktree"),
        ("docs/.git/hooks/pre-commit", "belongs to git"), (".GIT/config", "belongs to git"),
        ("migrations/versions/0019_delivery.py", "is not changed"),
    ],
)  # fmt: skip
def test_a_lying_model_writes_nothing_outside_its_folders(house: Minded, path: str, reason: str) -> None:
    evidence = {one.path: one.sha256 for one in exhibits(house.one)}
    branch, files = house.branch, sorted(house.settings.project.parent.iterdir())
    thought = house.answered(
        {
            "confidence": 1.0,
            "changes": [{"path": "docs/note.md", "content": "right"}, {"path": path, "content": "status: PASS"}],
        }
    )
    assert any(told.startswith(path) and reason in told for told in thought.refused)
    assert thought.commit is None
    assert house.branch == branch, "nothing of what it proposes is committed, the harmless file neither"
    assert sorted(house.settings.project.parent.iterdir()) == files
    assert {one.path: work.hash_of(house.root / "evidence" / one.path) for one in exhibits(house.one)} == evidence


def test_a_model_writes_through_no_link(house: Minded, tmp_path: Path) -> None:
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir()
    project = house.settings.project
    tip = _git(project, "rev-parse", "ai-team")
    _git(project, "worktree", "add", "-q", "--detach", str(tree), "ai-team")
    (tree / "docs").symlink_to(outside)
    _git(tree, "add", "docs")
    _git(tree, "commit", "-q", "-m", "feat(x): a link")
    _git(project, "update-ref", "refs/heads/ai-team", _git(tree, "rev-parse", "HEAD"))
    try:
        thought = house.answered({"confidence": 1.0, "changes": [{"path": "docs/note.md", "content": "out"}]})
    finally:
        _git(project, "update-ref", "refs/heads/ai-team", tip)
    assert "through a link" in thought.refused[0]
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("status: PASS", "only a gate"), ("All of it is VERIFIED.", "only a gate"), ("- [x] pgtap", "only a gate"),
        ("Signed off by QA.", "only a gate"), ("Queries take 7.25 ms now.", "7.25"), ("It is 1,234 times as fast.", "1234"),
    ],
)  # fmt: skip
def test_a_model_claims_nothing_that_was_not_measured(house: Minded, text: str, reason: str) -> None:
    thought = house.answered({"confidence": 1.0, "prose": [{"artifact": "postgresql/INDEXES.md", "text": text}]})
    assert reason in " ".join(thought.refused)
    assert thought.prose == {}
    review = house.answered({"confidence": 1.0, "reviews": [{"evidence": EXPLAIN, "finding": text}]})
    assert reason in " ".join(review.refused)


def test_a_claimed_sign_off_signs_nothing(house: Minded) -> None:
    told = {"confidence": 1.0, "prose": [{"artifact": "qa/QA_SIGNOFF.md", "text": "It is good."}]}
    assert "is signed" in " ".join(house.answered(told).refused)
    case = cases.gather(cases.find(house.settings, house.one.delivery_id))
    (signed,) = [v for v in judge(Gate.QA, case) if v.rule == "qa/QA_SIGNOFF.md"]
    assert (signed.verdict, signed.value) == ("FAIL", "not signed")


def test_evidence_that_a_model_would_have_edited_is_found_by_the_manifest(house: Minded) -> None:
    """Were there a way around the refusals: the gate computes every hash again."""
    path = house.root / "evidence" / EXPLAIN
    before = path.read_bytes()
    path.write_text('{"p95_ms": 1}')
    try:
        case = cases.gather(cases.find(house.settings, house.one.delivery_id))
        (said,) = [v for v in judge(Gate.EVIDENCE, case) if v.rule == "manifest of PG"]
        assert said.verdict == "FAIL"
        assert EXPLAIN in said.value
    finally:
        path.write_bytes(before)
    assert [one for one in manifest.verify(house.root, "PG") if not one.missing] == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("    op.execute(DOWN)", "    pass"), "no way back"),
        (lambda text: text.replace("    op.execute(DOWN)", "    if False:\n        op.execute(DOWN)"), "no way back"),
        (lambda text: text.replace(text[text.index("DOWN = ") : text.index("AGAIN =")], 'DOWN = "-- nothing"\n'), "no way back"),
        (lambda text: text[: text.index("def downgrade")], "no way back"),
        (lambda text: text.replace("ALTER TABLE ops.note SET SCHEMA aside_0020;", "DROP TABLE ops.note;"), "loses rows: CREATE"),
        (lambda text: text.replace("AGAIN = ", "ANEW = "), "no AGAIN"),
        (lambda text: text + "\nimport os\n", "it is read before it is run"),
        (lambda text: text + "\nprint(open('/etc/passwd').read())\n", "it is read before it is run"),
        (lambda text: text.replace("DOWN = ", "DOWN = str("), "no Python"),
    ],
)  # fmt: skip
def test_a_migration_without_a_way_back_is_refused(house: Minded, change: Callable[[str], str], reason: str) -> None:
    thought = house.answered({"confidence": 1.0, "changes": [{"path": NEXT, "content": change(MIGRATION)}]}, "MIG")
    assert any(told.startswith(NEXT) and reason in told for told in thought.refused), thought.refused
    assert thought.commit is None


def test_a_secret_is_not_committed(house: Minded) -> None:
    key = "AKIA" + "Z7QK3MVNT5XW2RBD"
    thought = house.answered(
        {"confidence": 1.0, "changes": [{"path": "docs/note.md", "content": f'aws_key = "{key}"\n'}]}
    )
    assert "gitleaks has found" in thought.refused[0]
    assert key not in house.branch


def test_an_honest_proposal_is_a_commit_beside_the_checkout_that_says_whose_it_is(house: Minded) -> None:
    project = house.settings.project
    before = _git(project, "rev-parse", "HEAD"), _git(project, "status", "--porcelain")
    told = {
        "confidence": 0.95, "summary": "a table for notes", "changes": [{"path": NEXT, "content": MIGRATION}],
        "reviews": [{"evidence": "migrations/migrate_up.log", "finding": "It applies 1 migration."}],
    }  # fmt: skip
    thought = house.answered(told, "MIG")
    assert thought.refused == ()
    assert thought.reviews == {"migrations/migrate_up.log": "It applies 1 migration."}
    assert (_git(project, "rev-parse", "HEAD"), _git(project, "status", "--porcelain")) == before
    assert _git(project, "show", "--name-only", "--format=", "ai-team").splitlines() == [".team/COMMIT_LOG.md", NEXT]
    message = _git(project, "log", "-1", "--format=%s%n%b", "ai-team").splitlines()
    assert message[0] == "fix(mig): a table for notes"
    assert "Agent: Migration Engineer" in message
    assert "Proposed-By: the model of the connection mind, confidence 0.95" in message
    assert house.answered(told, "MIG").commit is None, "what is there is not committed again"
    page = (house.root / "thoughts/MIG.md").read_text()
    assert NEXT in page
    assert "It applies 1 migration." in page


def test_what_a_model_proposed_is_not_merged_before_it_was_delivered(house: Minded) -> None:
    project, delivery = house.settings.project, house.one.delivery
    house.answered({"confidence": 0.95, "changes": [{"path": "queries/note.sql", "content": "SELECT 1 AS one\n"}]})
    tip = _git(project, "rev-parse", "ai-team")
    with pytest.raises(HeldError, match=r"a model has proposed .*queries/note\.sql"):
        merge.merge(house.settings, delivery, tip)
    assert merge.merge(house.settings, replace(delivery, code_version=tip), tip).commit is None, (
        "delivered, it is merged"
    )


def test_prose_is_marked_as_a_models_and_leaves_its_quotation_by_nothing(house: Minded) -> None:
    text = "The query of routes takes 61.2 ms.\n\n# Heading\n| a | b |"
    thought = house.answered({"confidence": 0.95, "prose": [{"artifact": "postgresql/EXTENSIONS.md", "text": text}]})
    assert thought.refused == ()
    work.write(house.work(), "postgresql/EXTENSIONS.md")
    made = (house.root / "postgresql/EXTENSIONS.md").read_text()
    assert "> **Drafted by a model** (connection `mind`, confidence 0.95)" in made
    assert "> The query of routes takes 61.2 ms.\n>\n> # Heading\n> | a | b |" in made
    alone = replace(house.work(), settings=house.settings.model_copy(update={"team_model_connection": None}))
    work.write(alone, "postgresql/EXTENSIONS.md")
    assert "Drafted by a model" not in (house.root / "postgresql/EXTENSIONS.md").read_text()


def test_who_is_not_sure_is_not_taken_in(house: Minded) -> None:
    told = {"confidence": 0.89, "prose": [{"artifact": "postgresql/INDEXES.md", "text": "An index is missing."}]}
    assert house.answered(told).refused == ("confidence 0.89: < 90% confidence: ask the team leader, then a person",)
    assert house.answered(told | {"confidence": 0.9}).refused == ()


def test_who_is_not_sure_asks_the_leader_then_a_person_who_sees_context_and_options(house: Minded) -> None:
    settings, where = house.settings, house.where()
    drafted = Proposal(confidence=0.4, question="Hash or tree?", options=["hash", "tree"]).model_dump()
    assert "Hash or tree?" in thinking.doubt(settings, where, "shown", drafted)
    with pytest.raises(NotDueError, match="PG is sure"):
        thinking.doubt(settings, where, "shown", drafted | {"confidence": 0.9})
    advised = {"answer": "rather a tree", "confidence": 0.5, "options": ["none"]}
    asked = thinking.question(settings, where, drafted, advised)
    assert asked.options == ["hash", "tree", "none", "rather a tree", "Go on without it"]
    assert "explain p95_ms" in asked.text
    assert "40% sure" in asked.text
    with pytest.raises(NotDueError, match="TL is sure"):
        thinking.question(settings, where, drafted, advised | {"confidence": 0.95})
    assert thinking.advice_of(settings, where, advised, None) is None
    assert thinking.advice_of(settings, where, advised | {"confidence": 0.95}, None) == "rather a tree"
    answer = thinking.decided(settings, where, asked, "tree", by="Ada", why="ranges")
    assert answer == "tree (Ada: ranges)"
    assert answer in thinking.heed(where, "shown", drafted, answer)
    with connect(settings) as connection:
        assert [(a.kind, a.decided_by) for a in ledger.approvals(connection, where.delivery_id)][-1] == ("topic", "Ada")


def test_pydantic_ais_own_model_that_fills_in_anything_is_refused(house: Minded) -> None:
    """TestModel answers whatever the schema allows: confidence nought, artifacts and paths called `a`."""
    mine = house.work()
    shown = mind.context(mine)
    thought = mind.take_in(mine, asked(Agent(TestModel(), output_type=Proposal), shown), shown)
    assert any("confidence 0.00" in told for told in thought.refused)


def test_what_models_may_cost_is_in_the_estimate_and_what_they_cost_is_counted_once(house: Minded) -> None:
    settings, where = house.settings, house.where("NOSQL")
    work.write(house.work("PM", "1"), "COST_ESTIMATION.md")
    assert (house.root / "COST_ESTIMATION.md").read_text().startswith("# Cost estimation: $5.00\n")
    before = mind.share(house.work())
    for _ in range(2):
        thinking.note(settings, where, "drafts", "try 1", {"total_tokens": 20_000, "cost": None})
    thinking.note(settings, where, "advises", "try 1", {"total_tokens": 9, "cost": "1.00"})
    assert before - mind.share(house.work()) == Decimal("1.5") / len(house.one.team.wave("2").roles)
    told = thinking.brief(settings, house.where("DBA"))
    assert Decimal(told["drafts_dollars"]) == Decimal("3.5") / 5 / 2
    assert told["drafts_tokens"] == 14_000


def test_models_that_cost_more_than_was_approved_stop_the_delivery(house: Minded) -> None:
    settings, where = house.settings, house.where("CACHE")
    for tokens in (140_000, 240_000):
        thinking.note(
            settings, where, f"of {tokens}", "try 1", {"total_tokens": tokens, "cost": str(Decimal(tokens) / 40_000)}
        )
        if tokens == 140_000:
            with pytest.raises(NotDueError, match="the budget for models is used up"):
                thinking.brief(settings, where)
    with pytest.raises(GateError, match="more than was approved"):
        thinking.take_in(settings, where, "shown", None, None)
    assert "Cost estimation: $11.00" in (house.root / "COST_ESTIMATION.md").read_text()
    approve(settings, house.one, "$11.00")
    assert thinking.take_in(settings, where, "shown", None, None)["taken"] == []


def test_what_was_answered_is_not_paid_for_again_when_a_delivery_goes_on(house: Minded) -> None:
    house.answered({"confidence": 0.95})
    with pytest.raises(NotDueError, match="thought about before"):
        thinking.brief(house.settings, house.where())


def test_without_a_connection_nothing_of_it_costs_or_says_anything(house: Minded) -> None:
    alone = house.settings.model_copy(update={"team_model_connection": None})
    mine = cases.find(alone, house.one.delivery_id).role("PG", "2")
    assert mine.thought is None
    assert thoughts.expected(alone, mine.strategy, mine.delivery.delivery_id) == 0


def test_a_proposal_that_says_nothing_is_no_lie(house: Minded) -> None:
    assert list(refusals(Proposal(confidence=1), "", mind.bounds(house.work()))) == []
