"""The board shows what the ledger holds: one column a card, nothing done without its gates, no move without a row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.delivery.originals import ROOT

from tidegate.delivery import board
from tidegate.delivery.ledger import Decided, Delivery, Done
from tidegate.delivery.team import load
from tidegate.gates.verdict import Verdict
from tidegate.strategy.gate import Gate

TEAM = load(ROOT, "database")
BEGAN = datetime(2026, 11, 21, 9, tzinfo=UTC)
NOW = BEGAN + timedelta(hours=20)
PLACES = [(wave.wave, code, wave.attempts) for wave in TEAM.waves for code in wave.roles]


def delivery(state: str = "running", wave: str = "2", reason: str | None = None) -> Delivery:
    ended = NOW if state in ("failed", "success") else None
    return Delivery("d1", TEAM.team, TEAM.strategy, "s", "c", state, wave, reason, "ada", "r1", BEGAN, ended)  # type: ignore[arg-type]


def done(
    wave: str, role: str, state: str = "done", *, attempt: int = 1, at: int = 1, reason: str | None = None
) -> Done:
    began = BEGAN + timedelta(minutes=at)
    ended = None if state == "running" else began + timedelta(minutes=1)
    return Done(wave, role, attempt, state, {}, reason, began, ended)  # type: ignore[arg-type]


def verdict(gate: Gate, decision: str, rule: str = "a rule") -> Verdict:
    return Verdict(gate.value, rule, decision, "value", "target", "teams/database.yaml:1", "1")  # type: ignore[arg-type]


def card(wave: str, role: str, work: list[Done], verdicts: list[Verdict], of: Delivery | None = None) -> board.Card:
    found = board.cards(TEAM, work, verdicts, of or delivery())
    (one,) = [one for one in found if (one.wave, one.role) == (wave, role)]
    return one


ALL_PASS = [verdict(gate, "PASS") for gate in Gate]

rows = st.lists(
    st.builds(
        lambda place, state, attempt, at: done(
            place[0], place[1], state, attempt=min(attempt, place[2]), at=at, reason="it broke" if state == "failed" else None
        ),
        st.sampled_from(PLACES), st.sampled_from(["running", "done", "done", "done", "failed", "skipped"]),
        st.integers(1, 3), st.integers(1, 900),
    ),
    max_size=40, unique_by=lambda one: (one.wave, one.role, one.attempt),
)  # fmt: skip
said = st.lists(
    st.builds(
        lambda gate, decision, rule, at: Decided(verdict(gate, decision, rule), BEGAN + timedelta(minutes=at)),
        st.sampled_from(Gate), st.sampled_from(["PASS", "PASS", "PASS", "WARN", "FAIL"]),
        st.sampled_from(["pgtap failed", "artifacts of PG", "manifest of DBA"]), st.integers(1, 1000),
    ),
    max_size=60,
).map(lambda found: sorted(found, key=lambda one: one.at))  # fmt: skip
deliveries = st.builds(
    delivery,
    st.sampled_from(["running", "waiting", "paused", "blocked", "failed", "success"]),
    st.sampled_from([wave.wave for wave in TEAM.waves]), st.none() | st.just("a person has to decide"),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(rows, said, deliveries)
def test_a_card_has_one_column_and_it_follows_from_the_ledger(
    work: list[Done], decided: list[Decided], of: Delivery
) -> None:
    newest = {(one.verdict.gate, one.verdict.rule): one.verdict for one in decided}
    seen = board.cards(TEAM, work, list(newest.values()), of)

    fixed = {(wave, role) for wave, role, attempts in PLACES if attempts == 1}
    looped = {(one.wave, one.role) for one in work if (one.wave, one.role) not in fixed}
    assert sorted((one.wave, one.role) for one in seen) == sorted(fixed | looped)
    for one in seen:
        assert one.column in board.COLUMNS
        its = [row for row in work if (row.wave, row.role) == (one.wave, one.role)]
        last = max(its, key=lambda row: row.attempt, default=None)
        if last is None:
            assert one.column in ("Backlog", "Sprint Ready", "Blocked")
        elif last.state == "running":
            assert one.column == ("Blocked" if of.finished_at else "In Progress")
        elif last.state == "failed":
            assert (one.column, one.reason) == ("Blocked", "it broke")
        if one.column == "Done":
            assert last
            assert last.state in ("done", "skipped")
            assert all(board.passed(gate, newest.values()) for gate in one.gates)
        if one.column in ("Blocked", "In Review", "Testing"):
            assert one.reason

    history = board.moves(TEAM, work, decided, of, NOW)
    stands: dict[str, str | None] = {}
    for move in history:
        assert move.before == stands.get(move.card)
        assert move.after != move.before
        stands[move.card] = move.after
    assert stands == {one.name: one.column for one in seen}
    left = sum(one.column != "Done" for one in seen)
    assert (board.burn_down(history)[-1].cards, board.burn_down(history)[-1].left) == (len(seen), left)
    assert sum(gained for _, gained in board.velocity(history, timedelta(hours=6), NOW)) == len(seen) - left
    for column in board.COLUMNS:
        spent = board.time_in(column, history, NOW)
        assert all(timedelta() <= time <= NOW - BEGAN for time in spent.values())
        assert spent.keys() >= {one.name for one in seen if one.column == column}


def test_work_passes_review_then_testing_then_it_is_done() -> None:
    work = [done("2", "PG")]
    before = [verdict(gate, "PASS") for gate, rules in TEAM.gates.items() if rules.after == "2" or rules.before == "3"]
    assert card("2", "PG", [], []).column == "Sprint Ready"
    assert card("2", "PG", [done("2", "PG", "running")], []).column == "In Progress"
    assert card("2", "PG", work, []).column == "In Review"
    assert card("2", "PG", work, before).column == "Testing"
    assert card("2", "PG", work, ALL_PASS).column == "Done"


def test_a_gate_that_fails_blocks_those_who_must_do_it_again_and_holds_up_those_that_it_tests() -> None:
    work = [done("2", "PG"), done("2", "MIG"), done("2", "DBA")]
    failing = [one for one in ALL_PASS if one.gate not in (Gate.PGTAP, Gate.QA)]
    failing += [verdict(Gate.PGTAP, "FAIL", "pgtap failed"), verdict(Gate.QA, "FAIL", "pgTAP Test Gate")]
    blocked = card("2", "PG", work, failing)
    assert (blocked.column, blocked.reason.partition(";")[0]) == ("Blocked", "pgTAP Test Gate: pgtap failed: value")
    assert card("2", "MIG", work, failing).column == "Testing"


def test_what_another_role_has_not_made_does_not_block() -> None:
    missing = [one for one in ALL_PASS if one.gate != Gate.ENGINEERING]
    missing.append(verdict(Gate.ENGINEERING, "FAIL", "artifacts of DBA"))
    work = [done("2", "PG"), done("2", "DBA")]
    assert card("2", "DBA", work, missing).column == "Blocked"
    assert card("2", "PG", work, missing).column == "In Review"


def test_what_is_done_again_is_blocked_only_when_the_delivery_gives_up() -> None:
    work = [done("2", "PG"), done("3.5", "PG", attempt=2, at=9)]
    failing = [one for one in ALL_PASS if one.gate != Gate.PGTAP] + [verdict(Gate.PGTAP, "FAIL")]
    assert card("3.5", "PG", work, failing, delivery(wave="3.5")).column == "In Review"
    assert card("3.5", "PG", work, failing, delivery("blocked", "3.5", "three attempts")).column == "Blocked"


def test_waves_side_by_side_are_ready_together() -> None:
    ready = {one.wave for one in board.cards(TEAM, [], [], delivery(wave="2")) if one.column == "Sprint Ready"}
    assert ready == {"0", "1", "1.5", "2"}
    stopped = board.cards(TEAM, [], [], delivery("waiting", "1", "cost: approval of a person"))
    assert {one.reason for one in stopped if one.wave == "1"} == {"waiting: cost: approval of a person"}


def test_the_page_has_every_card_once_in_its_column() -> None:
    work = [
        done("0", "TL"),
        done("1", "PM", at=3),
        done("2", "NOSQL", "skipped", reason="no | MongoDB"),
        done("2", "PG", "running"),
    ]
    said = [verdict(Gate.PLANNING, "PASS")]
    seen = board.cards(TEAM, work, said, delivery())
    history = board.moves(TEAM, work, [], delivery(), NOW)
    page = board.markdown(TEAM, work, said, delivery(), history)
    assert "## Moves" not in board.markdown(TEAM, work, said, delivery())
    parts = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    assert list(parts) == [*board.COLUMNS, "Moves", "Burn-down"]
    for one in seen:
        assert [column for column in board.COLUMNS if f"| {one.name} |" in parts[column]] == [one.column]
    assert "skipped: no \\| MongoDB" in page
