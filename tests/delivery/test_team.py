"""A team's file: what it may say, and what is told of one that hangs together badly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.delivery.originals import ROOT

from tidegate.delivery import team
from tidegate.delivery.work import maker
from tidegate.errors import UsageError
from tidegate.evidence.probes import ALL
from tidegate.strategy.gate import Gate

DATABASE = ROOT / "teams" / "database.yaml"
#: Roles of the team document, in its order.
ROLES = ["TL", "PM", "DBA", "PG", "NOSQL", "CACHE", "MIG", "QA", "RM", "MKT", "LEGAL"]
WAVES = ["0", "1", "1.5", "2", "2.5", "3", "3.5", "4", "5"]


@pytest.mark.parametrize("path", sorted((ROOT / "teams").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_artifact_has_a_maker_and_every_probe_is_one(path: Path) -> None:
    found = team.read(path)
    known = {probe.name for probe in ALL}
    for role in found.roles.values():
        for artifact in (one for many in role.artifacts.values() for one in many):
            assert callable(maker(role, artifact))
        assert {one for many in role.evidence.values() for one in many} <= known
    assert {demand.probe for gate in found.gates for demand in found.demands(gate)} <= known


def test_the_database_team_is_that_of_the_team_document() -> None:
    found = team.read(DATABASE)
    assert (found.team, list(found.roles), [wave.wave for wave in found.waves]) == ("databaseEng", ROLES, WAVES)
    assert set(found.gates) == set(Gate)
    assert found.wave("1.5").beside == "2"
    assert found.loop is not None
    assert found.loop.attempts == 3


def test_a_demand_names_the_line_that_it_is_written_in() -> None:
    lines = DATABASE.read_text(encoding="utf-8").splitlines()
    found = team.read(DATABASE)
    for gate in found.gates:
        for demand in found.demands(gate):
            assert lines[demand.line - 1].strip() == f"- {demand.probe} {demand.figure} {demand.bound}"


def test_in_the_loop_a_role_does_again_all_that_it_did_before() -> None:
    found = team.read(DATABASE)
    assert found.artifacts("PG", "3.5") == found.artifacts("PG", "2")
    assert found.evidence("QA", "3.5") == found.evidence("QA", "3")


def test_a_team_is_found_by_the_name_of_its_file_and_by_its_own() -> None:
    assert team.load(ROOT, "database") == team.load(ROOT, "databaseEng")
    with pytest.raises(UsageError, match=r"found the team 'nobody', expected one of .*databaseEng \(database\)"):
        team.load(ROOT, "nobody")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda told: told["waves"][3]["roles"].append("ZZ"), "name the roles ZZ, which the team has not"),
        (lambda told: told["gates"]["QA Pass"].update(after="9"), "there are no waves 9"),
        (lambda told: told["gates"]["QA Pass"].update(demands=["pgtap failed nothing"]), "found the demand"),
        (lambda told: told["gates"]["QA Pass"].update(before="3"), "expected either `before` or `after`"),
        (lambda told: told["gates"].update({"Gate of Heaven": {"after": "1"}}), "Gate of Heaven"),
        (lambda told: told["roles"]["PM"].update(salary=1), "salary"),
        (lambda told: told.pop("roles"), "expected a team, with roles, waves and gates"),
    ],
)
def test_what_does_not_hang_together_is_told_of(tmp_path: Path, change: Callable[[dict], object], told: str) -> None:  # type: ignore[type-arg]
    written = yaml.safe_load(DATABASE.read_text(encoding="utf-8"))
    change(written)
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump(written, sort_keys=False, width=1000), encoding="utf-8")
    with pytest.raises(UsageError, match=told):
        team.read(path)


def test_what_is_no_yaml_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"odd\.yaml"):
        team.read(path)
