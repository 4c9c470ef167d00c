"""What continuous integration will run: whether its workflows are well written, and whether their quick job succeeds here."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from tidegate.evidence.probe import CannotRunError, Finding, Ground, run

#: The job that a probe may run: minutes of servers and tests are the matter of `make test`.
JOB = "check"
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
    project = ground.settings.project
    labels = _labels(project)
    with tempfile.TemporaryDirectory() as home:
        # A run on this machine has no containers, and act's own dry run would run its steps.
        checked = run(["act", "push", "--validate", "--strict"], {"HOME": home}, folder=project)
        listed = run(["act", "push", "--list"], {"HOME": home}, folder=project)
        planned = [line.split()[1] for line in listed.said.splitlines() if re.match(r"\d+ ", line)]
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
        here = [f"--platform={label}=-self-hosted" for label in labels]
        ran = run(["act", "push", f"--job={JOB}", "--env=NO_COLOR=1", *here], {"HOME": home}, folder=project)
    ended = re.findall(r"🏁\s+Job (succeeded|failed)", ran.said)
    steps = re.findall(r"(✅|❌)\s+(?:Success|Failure) - Main ", ran.said)
    figures = {
        "jobs": len(ended), "failed": max(ended.count("failed"), int(ran.exit_status != 0 or not ended)),
        "steps": len(steps), "of_jobs": len(planned), "seconds": round(ran.seconds, 1),
    }  # fmt: skip
    rest = ", ".join(job for job in planned if job != JOB) or "none"
    text = f"run here: the job {JOB}, with {Path(sys.executable).name} of the checkout; not run: {rest}\n{ran.said}"
    yield Finding("ci/act_push.log", text, figures, ran.command, ran.exit_status)


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
