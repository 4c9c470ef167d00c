"""What continuous integration will run: whether its workflows are well written, and whether the quick jobs succeed here."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from tidegate.evidence.probe import CannotRunError, Finding, Ground, Ran, run

#: The job that needs no server: minutes of servers and tests are the matter of `make test`.
JOB = "check"
#: The jobs that need a warehouse, by the file that tells what became of them.
OF_DATABASE = {
    "act_migration": "migration-test",
    "act_pgtap": "pgtap-tests",
    "act_benchmark": "performance-benchmark",
}
_FOLDER = ".github/workflows"


def actionlint(ground: Ground) -> Iterator[Finding]:
    """Lint the project's workflows, and those that a team has written."""
    files = [*_workflows(ground.settings.project), *_workflows(ground.team / "ci")]
    if not files:
        raise CannotRunError(f"there is no workflow: {_FOLDER}/ has no file that ends with .yml")
    # Without what it would call where it is installed: the same findings on every machine.
    command = ["actionlint", "-shellcheck=", "-pyflakes=", "-no-color", "-format={{json .}}"]
    ran = run([*command, *files], folder=ground.settings.project)
    if ran.exit_status > 1:
        raise CannotRunError(f"actionlint could not do its work: {ran.said.strip()[-400:]}")
    told = [f"{one['filepath']}:{one['line']}: {one['kind']}: {one['message']}" for one in json.loads(ran.said) or []]
    text = "\n".join([*(f"looked at {file}" for file in files), *told])
    figures = {"workflows": len(files), "findings": len(told)}
    yield Finding("ci/actionlint.log", text, figures, ran.command, ran.exit_status)


def act(ground: Ground) -> Iterator[Finding]:
    """Have act plan a push, and run the job `check` of it on this machine, in a copy of the checkout."""
    # A run on this machine has no containers, and act's own dry run would run its steps.
    checked, listed = _push(ground, "--validate", "--strict"), _push(ground, "--list")
    planned = _jobs(listed)
    failed = int(bool(checked.exit_status or listed.exit_status))
    yield Finding(
        "ci/act_dryrun.log", f"{checked.said}\n{listed.said}", {"jobs": len(planned), "failed": failed},
        f"{checked.command}; {listed.command}", checked.exit_status or listed.exit_status,
    )  # fmt: skip
    if failed:
        return
    if JOB not in planned:
        raise CannotRunError(
            f"no workflow runs a job `{JOB}` on a push: it is the one that is quick enough to be tried here"
        )
    ran = _job(ground, JOB)
    rest = ", ".join(job for job in planned if job != JOB) or "none"
    text = f"run here: the job {JOB}, with {Path(sys.executable).name} of the checkout; not run: {rest}\n{ran.said}"
    yield Finding("ci/act_push.log", text, _ended(ran) | {"of_jobs": len(planned)}, ran.command, ran.exit_status)


def act_database(ground: Ground) -> Iterator[Finding]:
    """Have act run the jobs that need a warehouse: they find the stack that runs here, and its rehearsal."""
    planned = _jobs(_push(ground, "--list"))
    for file, job in OF_DATABASE.items():
        if job not in planned:
            raise CannotRunError(f"no workflow runs a job `{job}` on a push")
        ran = _job(ground, job)
        yield Finding(f"ci/{file}.log", ran.said, _ended(ran), ran.command, ran.exit_status)


def _jobs(listed: Ran) -> list[str]:
    """Return the names of the jobs of a push, as act has listed them."""
    return [line.split()[1] for line in listed.said.splitlines() if re.match(r"\d+ ", line)]


def _job(ground: Ground, job: str) -> Ran:
    """Run one job on this machine, with the settings of this stack, in a copy of the checkout."""
    here = [f"--platform={label}=-self-hosted" for label in _labels(ground.settings.project)]
    with tempfile.TemporaryDirectory() as folder:
        # In a file, for addresses have passwords in them, and arguments are seen by everybody.
        variables = Path(folder) / "env"
        variables.touch(mode=0o600)
        variables.write_text(_variables(ground), encoding="utf-8")
        return _push(ground, f"--job={job}", "--env=NO_COLOR=1", f"--env-file={variables}", *here)


def _push(ground: Ground, *options: str) -> Ran:
    """Have act take a push of the checkout, in a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        return run(["act", "push", *options], {"HOME": home}, folder=ground.settings.project)


def _variables(ground: Ground) -> str:
    """Return what the platform is told by its environment, and by the file `.env`, which is not in a copy.

    But for the project: that is the copy, lest what a job measures is written over what this delivery has measured.
    """
    file = ground.settings.project / ".env"
    of_file = file.read_text(encoding="utf-8") if file.exists() else ""
    known = {name: value for name, value in os.environ.items() if name.startswith("TIDEGATE_")}
    known |= {"TIDEGATE_HOME": str(ground.settings.home.resolve()), "TIDEGATE_PROJECT": "."}
    return "\n".join([of_file, *(f"{name}={value}" for name, value in known.items())])


def _ended(ran: Ran) -> dict[str, int | float]:
    jobs = re.findall(r"🏁\s+Job (succeeded|failed)", ran.said)
    steps = re.findall(r"(✅|❌)\s+(?:Success|Failure) - Main ", ran.said)
    return {
        "jobs": len(jobs), "failed": max(jobs.count("failed"), int(ran.exit_status != 0 or not jobs)),
        "steps": len(steps), "seconds": round(ran.seconds, 1),
    }  # fmt: skip


def _workflows(root: Path) -> list[Path]:
    folder = root / _FOLDER
    return sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")])


def _labels(project: Path) -> list[str]:
    """Return the machines that the workflows ask for."""
    found = set[str]()
    for file in _workflows(project):
        try:
            jobs = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("jobs", {})
        except (yaml.YAMLError, AttributeError):
            # act says what is wrong with it, in its own words.
            continue
        for job in jobs.values():
            asked = job.get("runs-on", [])
            found.update([asked] if isinstance(asked, str) else asked)
    return sorted(found)
