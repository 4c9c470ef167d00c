"""What was as fast before: figures of the team's last delivery beside those of this one, each with its target and milestone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.delivery.delivered import Delivered, begun, measured, warehouse

from tidegate.delivery import board, cases, github, manifest, team, work
from tidegate.delivery.ledger import Exhibit
from tidegate.delivery.work import Work
from tidegate.stack.postgres import PostgresServer
from tidegate.strategy import read

PLACE = "evidence/performance/baseline_metrics.md"
FIRST = "first.md"


@pytest.fixture(scope="module")
def second(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivered]:
    """A delivery that has begun after one that failed, one that was released, and another that failed."""
    with warehouse(postgres, tmp_path_factory.mktemp("baselines")) as settings:
        first = begun(settings, "before_9", ago=timedelta(days=9))
        work.write(manager(first, "1"), PLACE)
        (first.root / PLACE).rename(first.root / FIRST)
        first.end("failed")
        for days, slower, state in ((6, 2.0, "success"), (3, 9.0, "failed")):
            before = begun(settings, f"before_{days}", ago=timedelta(days=days), probes=measured(slower))
            before.wave("2")
            before.wave("3")
            before.end(state)  # type: ignore[arg-type]
        yield begun(settings, "now", probes=measured())


def manager(one: Delivered, wave: str) -> Work:
    return cases.find(one.settings, one.delivery_id).role("PM", wave)


def rows(one: Delivered, wave: str) -> dict[str, list[str]]:
    work.write(manager(one, wave), PLACE)
    lines = [line.split("|")[1:-1] for line in (one.root / PLACE).read_text().splitlines() if line.startswith("| ")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines[1:]}


def test_a_baseline_is_of_the_last_delivery_that_ended_well_and_of_its_worst_file(second: Delivered) -> None:
    planned = rows(second, "1")
    assert planned["explain p95_ms"][:4] == ["< 50 ms (line 196)", "38.8", "not measured", ""]
    assert planned["pgbench tps"][:4] == ["", "302", "not measured", ""]
    # Neither how fast it should be, nor how long it took to measure.
    assert not {"explain target_ms", "explain seconds"} & planned.keys()
    second.wave("2")
    measured_now = rows(second, "2.5")
    assert measured_now["explain p95_ms"][1:4] == ["38.8", "19.4", "-50%"]
    assert measured_now["pgbench tps"][1:4] == ["302", "603.9", "+100%"]
    # QA has not measured yet.
    assert measured_now["backup_restore rto_seconds"][1:4] == ["12.01", "not measured", ""]
    file = measured_now["explain p95_ms"][5].partition("](")[2].rstrip(")")
    assert (second.root / PLACE).parent.joinpath(file).exists()


def test_a_figure_belongs_to_the_milestone_that_issues_of_its_wave_have(second: Delivered) -> None:
    found = manager(second, "1")
    script = github.plan(
        second.settings, second.team, found.strategy, board.cards(second.team, [], [], second.delivery), None
    )
    (issue,) = [one for one in script.split('[ -n "$(number "$ISSUES"') if one.startswith(" 'docs(pg): schema ddl")]
    assert f"--milestone '{rows(second, '1')['explain p95_ms'][4]}'" in issue


def test_an_artifact_that_lies_among_the_evidence_is_held_to_its_hash(second: Delivered) -> None:
    found = manager(second, "1")
    sha = work.write(found, PLACE)
    manifest.write(found, {PLACE: sha})
    taken: list[Exhibit] = found.exhibits
    assert [one for one in manifest.verify(second.root, "PM", taken) if not one.missing] == []
    file = second.root / PLACE
    file.write_text(file.read_text().replace("38.8", "8.8"))
    (changed,) = manifest.verify(second.root, "PM", taken)
    assert changed.told.startswith("the file has changed since")
    # What stands among the evidence must have been taken by a probe.
    path = manifest.place(second.root, "PM")
    made, heading, rest = path.read_text().partition("### Evidence Collected\n")
    (line,) = [line for line in made.splitlines() if PLACE in line]
    path.write_text(made.replace(line, "") + heading + line + "\n" + rest)
    (moved,) = manifest.verify(second.root, "PM", taken)
    assert moved.told == "it was not taken for this delivery"


def test_a_first_delivery_says_that_there_is_nothing_before_it(second: Delivered) -> None:
    assert "no delivery yet" in (second.root / FIRST).read_text()


@pytest.mark.parametrize("name", ["database", "data", "python"])
def test_every_teams_manager_compares_at_the_end(second: Delivered, name: str) -> None:
    found = team.load(second.settings.project, name)
    strategy = read(second.settings.project / found.strategy)
    ending = Work(second.settings, found, strategy, second.delivery, found.roles["PM"], "5")
    made = {path: work.write(ending, path) for path in found.artifacts("PM", "5")}
    assert made.keys() == {PLACE, "GITHUB_ISSUES.md"}
    assert (second.root / PLACE).read_text().startswith("# Performance baselines: ")
