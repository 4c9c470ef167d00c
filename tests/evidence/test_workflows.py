"""Workflows as actionlint and act judge them: the project's own, and small ones in which something is wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tidegate.evidence import workflows
from tidegate.evidence.probe import CannotRunError, Ground
from tidegate.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[2]
WELL = """name: small
on: [push]
jobs:
  check:
    runs-on: ubuntu-24.04
    steps:
      - run: echo "as $PWD"
      - run: echo never
        if: ${{ !env.ACT }}
  test:
    runs-on: [self-hosted, linux]
    steps:
      - run: sleep 1000
"""

JOBS = {
    "migration-test": "echo home $TIDEGATE_HOME of $(realpath $TIDEGATE_PROJECT)",
    "pgtap-tests": "exit 3",
    "performance-benchmark": "echo $TIDEGATE_WAREHOUSE_URL $TIDEGATE_POOL_URL",
}


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    subprocess.run(["git", "init", "-q", "-b", "main", tmp_path], check=True)
    return write(Ground(Settings(project=tmp_path, home=tmp_path / "home")), WELL)


def write(ground: Ground, text: str) -> Ground:
    file = ground.settings.project / ".github/workflows/small.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["add", "."], [*who, "commit", "-q", "--allow-empty", "-m", "build: a workflow"]):
        subprocess.run(["git", "-C", str(ground.settings.project), *words], check=True)
    return ground


def test_the_projects_own_workflows_are_well_written() -> None:
    (found,) = workflows.actionlint(Ground(Settings(project=CHECKOUT)))
    assert (found.figures["findings"], found.exit_status) == (0, 0), found.text
    assert found.figures["workflows"] >= 1


def test_a_workflow_of_a_team_that_cannot_work_is_found(ground: Ground) -> None:
    (well,) = workflows.actionlint(ground)
    assert (well.figures, well.exit_status) == ({"workflows": 1, "findings": 0}, 0)
    file = ground.team / "ci/.github/workflows/database.yml"
    file.parent.mkdir(parents=True)
    file.write_text(WELL.replace("env.ACT", "enw.ACT"))
    (found,) = workflows.actionlint(ground)
    assert (found.figures, found.exit_status) == ({"workflows": 2, "findings": 1}, 1)
    assert 'database.yml:9: expression: undefined variable "enw"' in found.text


def test_without_a_workflow_there_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match="there is no workflow"):
        list(workflows.actionlint(Ground(Settings(project=tmp_path))))


def test_the_quick_job_is_run_and_the_others_are_planned(ground: Ground) -> None:
    planned, ran = workflows.act(ground)
    assert (planned.figures, planned.exit_status) == ({"jobs": 2, "failed": 0}, 0)
    seconds = ran.figures.pop("seconds")
    assert (ran.figures, ran.exit_status) == ({"jobs": 1, "failed": 0, "steps": 1, "of_jobs": 2}, 0)
    assert seconds < 30
    assert ran.text.startswith("run here: the job check")
    assert "not run: test\n" in ran.text
    assert f"as {ground.settings.project}" not in ran.text
    assert "never" not in ran.text.replace("echo never", "")


def test_jobs_of_the_database_find_the_stack_and_not_the_checkout(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ground.settings.project / ".env").write_text("TIDEGATE_POOL_URL=told-by-the-file\n")
    monkeypatch.setenv("TIDEGATE_WAREHOUSE_URL", "told-by-the-environment")
    monkeypatch.setenv("TIDEGATE_PROJECT", str(ground.settings.project))
    jobs = {job: f"    runs-on: ubuntu-24.04\n    steps:\n      - run: {line}\n" for job, line in JOBS.items()}
    write(ground, "name: small\non: [push]\njobs:\n" + "".join(f"  {job}:\n{text}" for job, text in jobs.items()))
    found = {one.file: one for one in workflows.act_database(ground)}
    assert list(found) == ["ci/act_migration.log", "ci/act_pgtap.log", "ci/act_benchmark.log"]
    assert [(one.figures["jobs"], one.figures["failed"], one.exit_status) for one in found.values()] == [
        (1, 0, 0),
        (1, 1, 1),
        (1, 0, 0),
    ]
    assert f"home {ground.settings.home} of /" in found["ci/act_migration.log"].text
    assert f"of {ground.settings.project}" not in found["ci/act_migration.log"].text
    assert "told-by-the-environment told-by-the-file" in found["ci/act_benchmark.log"].text
    assert not any("told-by" in one.command for one in found.values())
    write(ground, WELL)
    with pytest.raises(CannotRunError, match="no workflow runs a job `migration-test` on a push"):
        list(workflows.act_database(ground))


def test_a_job_that_fails_and_a_workflow_that_act_cannot_read_are_told(ground: Ground) -> None:
    _, ran = workflows.act(write(ground, WELL.replace('echo "as $PWD"', "exit 3")))
    assert (ran.figures["jobs"], ran.figures["failed"], ran.exit_status) == (1, 1, 1)
    (planned,) = workflows.act(write(ground, WELL.replace("steps:", "stages:")))
    assert planned.figures["failed"] == 1
    assert planned.exit_status
    with pytest.raises(CannotRunError, match="no workflow runs a job `check` on a push"):
        list(workflows.act(write(ground, WELL.replace("check:", "quick:"))))
