"""Marts are swapped while people read them: nobody errs, nobody waits, nobody sees a mix or nothing."""

from __future__ import annotations

import re
import time

import psycopg
import pytest
from tests.conftest import CHECKOUT
from tests.contracts.command import run
from tests.publish.showroom import GLANCE, Showroom, crowd, look, url

from tidegate.errors import HeldError, UsageError
from tidegate.migrate import door
from tidegate.observe import summary
from tidegate.publish import marts, window
from tidegate.stores.postgres import connect

FEW, MANY = (1000, 1000, "first"), (1500, 1500, "second")


def schemas(showroom: Showroom) -> list[str]:
    found = showroom.shop.query("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'marts%' ORDER BY 1")
    return [row["nspname"] for row in found]


def states(showroom: Showroom) -> dict[str, str]:
    return {r["build_id"]: r["state"] for r in showroom.shop.query("SELECT build_id, state FROM ops.marts_build")}


def test_readers_see_the_old_set_or_the_new_one_whole(showroom: Showroom) -> None:
    """Publish, undo and publish again under two readers, one of them with a statement prepared on the server."""
    showroom.publish("first", 1000)
    with crowd(showroom.shop, (GLANCE, False), (GLANCE, True)) as readers:
        showroom.publish("second", 1500)
        marts.undo(showroom.shop.settings, by="test", why="to see")
        showroom.publish("third", 2000)
        showroom.publish("fourth", 2500)
    assert readers.troubles == []
    everything = [FEW, MANY, FEW, (2000, 2000, "third"), (2500, 2500, "fourth")]
    for seen in readers.seen:
        changes = [glance for n, glance in enumerate(seen) if n == 0 or seen[n - 1] != glance]
        assert set(changes) <= set(everything), "a mix of two sets, or an empty one"
        assert changes[-1] == everything[-1]
    assert readers.longest_wait < 2


@pytest.mark.parametrize("isolation", ["REPEATABLE_READ", "SERIALIZABLE"])
def test_a_transaction_keeps_the_marts_that_it_began_with(showroom: Showroom, isolation: str) -> None:
    """Even those that it has not looked at before: its snapshot decides, not the moment at which a name is looked up."""
    showroom.publish("first", 1000)
    with psycopg.connect(url(showroom.shop)) as reader:
        reader.isolation_level = psycopg.IsolationLevel[isolation]
        reader.execute("SELECT now()")
        showroom.publish("second", 1500)
        assert look(reader) == FEW
        marts.undo(showroom.shop.settings, by="test", why="to see")
        with pytest.raises(psycopg.errors.SnapshotTooOld, match="have been replaced twice"):
            look(reader)
    assert showroom.glance() == FEW


def test_a_transaction_that_began_between_build_and_publish_keeps_its_marts(showroom: Showroom) -> None:
    """The candidate's rows are visible to it, and yet it must not see them."""
    showroom.publish("first", 1000)
    build = showroom.furnish("second", 1500)
    marts.judge(showroom.shop.settings, build)
    with psycopg.connect(url(showroom.shop)) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert reader.execute("SELECT count(*) FROM marts.fct_flight").fetchone() == (1000,)
        marts.publish(showroom.shop.settings, build)
        assert look(reader) == FEW
    assert showroom.glance() == MANY


def test_a_long_reader_keeps_nobody_waiting(showroom: Showroom) -> None:
    """A cursor stays open over three publishes, longer than its tables are of use to anybody else."""
    showroom.publish("first", 1000)
    with (
        psycopg.connect(url(showroom.shop)) as reader,
        reader.cursor("slow") as cursor,
        crowd(showroom.shop, (GLANCE, False)) as others,
    ):
        cursor.execute("SELECT made_for FROM marts.fct_flight")
        first = cursor.fetchmany(10)
        for label, rows in (("second", 1500), ("third", 2000), ("fourth", 2500), ("fifth", 3000)):
            began = time.monotonic()
            showroom.publish(label, rows)
            assert time.monotonic() - began < 5, f"publish of {label} waited for a reader"
        rest = cursor.fetchall()
        assert len(first) + len(rest) == 1000
        assert set(first + rest) == {("first",)}
        assert [name for name in schemas(showroom) if name.startswith("marts_leaving")] != []
    assert others.troubles == []
    assert others.longest_wait < 2
    assert showroom.glance() == (3000, 3000, "fifth")
    marts.prepare(showroom.shop.settings)
    assert schemas(showroom) == ["marts", "marts_current", "marts_next", "marts_previous"]


def test_a_set_of_other_columns_and_other_marts_is_published_under_readers(showroom: Showroom) -> None:
    showroom.publish("first", 1000)
    with psycopg.connect(url(showroom.shop)) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT now()")
        build = showroom.furnish("second", 1500)
        showroom.make("fct_flight", "SELECT n::bigint, 'second'::text AS made_for, true AS fresh FROM raw.flights")
        showroom.make("dim_new", "SELECT 1 AS one")
        marts.judge(showroom.shop.settings, build)
        marts.publish(showroom.shop.settings, build)
        assert look(reader) == FEW
        # What the set before had as another type, or not at all, is empty in it.
        assert reader.execute("SELECT count(n), count(fresh), count(*) FROM marts.fct_flight").fetchone() == (
            0,
            0,
            1000,
        )
    assert showroom.shop.query("SELECT count(n) AS n, bool_and(fresh) AS fresh FROM marts.fct_flight") == [
        {"n": 1500, "fresh": True}
    ]
    assert showroom.shop.query("SELECT one FROM marts.dim_new") == [{"one": 1}]


def test_whoever_might_read_the_marts_may_read_the_next_ones_and_their_descriptions(showroom: Showroom) -> None:
    showroom.publish("first", 1000)
    showroom.shop.query("GRANT USAGE ON SCHEMA marts TO PUBLIC")
    showroom.shop.query("GRANT SELECT ON marts.fct_flight TO PUBLIC")
    build = showroom.furnish("second", 1500)
    showroom.shop.query("COMMENT ON TABLE marts_next.fct_flight IS 'One row per flight.'")
    showroom.shop.query("COMMENT ON COLUMN marts_next.fct_flight.n IS 'Its number.'")
    # As dbt's own `grants` would have it.
    showroom.shop.query("GRANT SELECT, INSERT ON marts_next.mart_by_carrier TO PUBLIC")
    marts.judge(showroom.shop.settings, build)
    marts.publish(showroom.shop.settings, build)
    assert showroom.shop.query(
        "SELECT relname, obj_description(c.oid) AS told, col_description(c.oid, 1) AS column, privilege_type AS may "
        "FROM pg_class c CROSS JOIN aclexplode(relacl) a WHERE relnamespace = 'marts'::regnamespace AND grantee = 0 "
        "ORDER BY relname"
    ) == [
        {"relname": "fct_flight", "told": "One row per flight.", "column": "Its number.", "may": "SELECT"},
        {"relname": "mart_by_carrier", "told": None, "column": None, "may": "SELECT"},
    ]
    usage = (
        "SELECT count(*) AS n FROM pg_namespace CROSS JOIN aclexplode(nspacl) a WHERE nspname = 'marts' AND grantee = 0"
    )
    assert showroom.shop.query(usage) == [{"n": 1}]


def test_undo_swaps_back_once_and_can_be_done_again_after_the_next_publish(showroom: Showroom) -> None:
    first, second = showroom.publish("first", 1000), showroom.publish("second", 1500)
    undone = run("marts", "undo", "--why", "wrong month", "--as", "Ada")
    assert undone.exit_code == 0
    assert undone.output.endswith(f"marts: readers see build {first} again\n")
    assert showroom.glance() == FEW
    assert states(showroom) == {first: "published", second: "undone"}

    refused = run("marts", "undo", "--why", "once more")
    assert refused.exit_code == 1
    assert "only the last publish can be undone" in " ".join(refused.output.split())
    assert showroom.glance() == FEW

    assert showroom.publish("second", 1500) == second
    assert showroom.glance() == MANY
    assert run("marts", "undo", "--why", "wrong again", "--as", "Bob").exit_code == 0
    assert showroom.glance() == FEW
    decisions = showroom.shop.query("SELECT subject, action, decided_by, why FROM ops.decision ORDER BY decision_id")
    assert [tuple(row.values()) for row in decisions] == [
        (second, "undo", "Ada", "wrong month"),
        (second, "undo", "Bob", "wrong again"),
    ]
    swaps = showroom.shop.query("SELECT build_id FROM ops.marts_swap ORDER BY swap_id")
    assert [row["build_id"] for row in swaps] == [first, second, first, second, first]
    shown = run("marts", "show").output.splitlines()
    assert {tuple(line.split()[:2]) for line in shown} == {(first, "published"), (second, "undone")}


def test_a_build_that_was_replaced_can_be_published_again(showroom: Showroom) -> None:
    """What a batch that is taken back leads to: the marts of before are called for once more."""
    first, second = showroom.publish("first", 1000), showroom.publish("second", 1500)
    assert showroom.publish("first", 1000) == first
    assert showroom.glance() == FEW
    assert states(showroom) == {first: "published", second: "superseded"}


def test_a_gate_that_fails_leaves_readers_on_the_marts_they_have(showroom: Showroom) -> None:
    showroom.publish("first", 1000)
    build = showroom.furnish("second", 1500)
    showroom.shop.query("DELETE FROM marts_next.mart_by_carrier WHERE carrier = 3")
    settings = showroom.shop.settings
    assert marts.judge(settings, build) == "held"
    with pytest.raises(HeldError) as held:
        marts.publish(settings, build)
    sentence = str(held.value)
    assert re.search(r"mart_by_carrier: flights counted = rows of raw.flights: 1\d\d\d, expected 1500", sentence)
    assert "Readers keep the marts they have" in sentence
    assert "then `tidegate marts build`" in sentence
    assert showroom.glance() == FEW
    assert states(showroom)[build] == "held"

    # Prepared anew, it is a candidate again, and no verdict of before lets it through.
    assert marts.prepare(settings) == build
    with pytest.raises(HeldError, match="is built, not judged"):
        marts.publish(settings, build)
    assert showroom.publish("second", 1500) == build
    assert showroom.glance() == MANY
    assert showroom.shop.query("SELECT held_reason FROM ops.marts_build WHERE state = 'published'") == [
        {"held_reason": None}
    ]


def test_what_the_gate_said_of_the_candidate_is_told_before_it_is_published(showroom: Showroom) -> None:
    showroom.publish("first", 600)
    build = showroom.furnish("second", 1500)
    assert marts.judge(showroom.shop.settings, build) == "judged"
    with summary.snapshot(showroom.shop.settings) as connection:
        told = connection.execute(summary.VERDICTS).fetchall()
    assert {(row["subject"], row["rule"]) for row in told} >= {
        (build, "fct_flight: rows = rows of raw.flights"),
        (build, "mart_by_carrier: flights counted = rows of raw.flights"),
    }


def test_a_suite_holds_the_marts_or_only_warns_and_its_figures_are_kept(showroom: Showroom) -> None:
    suite = showroom.shop.root / "expectations/mart_by_carrier.yaml"
    suite.parent.mkdir()
    rule = (
        "expectations:\n"
        "  - name: a carrier has at most 150 flights\n"
        "    type: unexpected_rows_expectation\n"
        "    severity: {severity}\n"
        "    kwargs:\n"
        "      unexpected_rows_query: SELECT 1 FROM {{batch}} WHERE flight_count > 150\n"
    )
    settings = showroom.shop.settings
    suite.write_text(rule.format(severity="warning"))
    first = showroom.publish("first", 1000)
    suite.write_text(rule.format(severity="critical"))
    assert showroom.publish("first", 1000) != first, "the suite is part of what decides a build"
    build = showroom.furnish("second", 1500)
    assert marts.judge(settings, build) == "held"
    told = showroom.shop.query(
        "SELECT verdict, value, target, target_source, path FROM ops.verdict JOIN ops.evidence USING (evidence_sha256) "
        "WHERE subject = %s AND gate = 'expectations.marts'",
        [build],
    )
    assert [(r["verdict"], r["value"], r["target_source"]) for r in told] == [
        ("FAIL", "7 rows", "expectations/mart_by_carrier.yaml:2")
    ]
    assert showroom.glance() == FEW


def test_nothing_is_judged_or_published_that_is_not_there(showroom: Showroom) -> None:
    settings = showroom.shop.settings
    with pytest.raises(UsageError, match="no build 'none'"):
        marts.publish(settings, "none")
    first = showroom.publish("first", 1000)
    assert marts.judge(settings, first) == "published"
    marts.publish(settings, first)
    second = showroom.furnish("second", 1500)
    (showroom.shop.root / "models/label.sql").write_text("select 'third'")
    marts.prepare(settings)
    with pytest.raises(UsageError, match=f"not {second}: prepare and build it first"):
        marts.judge(settings, second)
    showroom.shop.query("DROP TABLE marts_next.fct_flight CASCADE")
    (showroom.shop.root / "models/label.sql").write_text("select 'second'")
    marts.prepare(settings)
    with pytest.raises(UsageError, match="holds no fct_flight: run `dbt build`"):
        marts.judge(settings, second)
    assert showroom.glance() == FEW


def test_a_publish_that_died_before_its_swap_is_closed_before_dbt_touches_the_candidate(showroom: Showroom) -> None:
    """The window was opened on the candidate, and dbt drops what stands on the tables that it replaces."""
    showroom.publish("first", 1000)
    build = showroom.furnish("second", 1500)
    marts.judge(showroom.shop.settings, build)
    with connect(showroom.shop.settings) as connection:
        window.open_on(connection, 2, marts.CURRENT, marts.NEXT)
    assert showroom.glance() == FEW
    assert showroom.furnish("second", 1600) == build
    assert showroom.glance() == FEW
    assert showroom.publish("third", 2000) != build
    assert showroom.glance() == (2000, 2000, "third")
    assert schemas(showroom) == ["marts", "marts_current", "marts_previous"]


def test_marts_of_before_the_window_are_found_behind_it_and_come_back_without_it(showroom: Showroom) -> None:
    """A warehouse of the revision before held the tables in `marts` itself."""
    showroom.publish("first", 1000)
    door.downgrade(url(showroom.shop), CHECKOUT, "0001")
    assert showroom.glance() == FEW
    assert showroom.shop.query("SELECT relkind FROM pg_class WHERE oid = 'marts.fct_flight'::regclass") == [
        {"relkind": "r"}
    ]
    door.upgrade(url(showroom.shop), CHECKOUT)
    second = showroom.furnish("second", 1500)
    assert showroom.glance() == FEW
    marts.judge(showroom.shop.settings, second)
    marts.publish(showroom.shop.settings, second)
    assert showroom.glance() == MANY
    marts.undo(showroom.shop.settings, by="test", why="to see")
    assert showroom.glance() == FEW
