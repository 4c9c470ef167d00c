"""The coverage that tests have left: shown while it is of the code that is there, and refused with the next step else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import CHECKOUT

from tidegate.evidence import coverage
from tidegate.evidence.probe import CannotRunError, Finding, Ground
from tidegate.settings import Settings

PYPROJECT = f'[tool.coverage.run]\nbranch = true\nsource = ["src"]\ncontext = "${{{coverage.COMMIT}-}}"\n'
SOURCE = "def sign(n):\n    if n < 0:\n        return -1\n    return 1\n\n\nsign(1)\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "src/tidegate/gates").mkdir(parents=True)
    for name in ("src/tidegate/whole.py", "src/tidegate/gates/half.py"):
        (tmp_path / name).write_text(SOURCE)
    (tmp_path / "src/tidegate/whole.py").write_text(SOURCE + "sign(-1)\n")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(project: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(["git", *who, *words], cwd=project, check=True, capture_output=True, text=True).stdout.strip()


def commit(project: Path) -> str:
    git(project, "add", "src", "pyproject.toml")
    git(project, "commit", "-q", "-m", "code")
    return git(project, "rev-parse", "HEAD")


def measure(project: Path, of: str | None = None) -> None:
    """Run both files as tests would, at the commit `of`."""
    environment = {coverage.COMMIT: of or git(project, "rev-parse", "HEAD")}
    command = Path(sys.executable).with_name("coverage")
    for name, append in (("whole.py", []), ("gates/half.py", ["--append"])):
        words = [command, "run", *append, project / "src/tidegate" / name]
        subprocess.run(words, cwd=project, env=environment, check=True)


def probed(project: Path) -> Finding:
    (found,) = coverage.of_tests(Ground(Settings(project=project, home=project / "home")))
    return found


def test_the_share_of_lines_and_branches_is_told_with_the_commit(project: Path) -> None:
    measure(project)
    found = probed(project)
    # 6 and 5 lines, 2 branches each; of the second file a line and a branch were not run.
    assert (found.figures["percent"], found.figures["critical_percent"]) == (86.66, 71.42)
    assert found.figures["commit"] == git(project, "rev-parse", "HEAD")
    assert found.figures["age_hours"] < 1
    assert found.text.splitlines()[1:] == [
        " 71.42 % src/tidegate/gates/half.py", "100.00 % src/tidegate/whole.py",
    ]  # fmt: skip


def test_coverage_of_other_code_is_refused(project: Path) -> None:
    with pytest.raises(CannotRunError, match="no run of the tests has left its coverage here: `make test` measures it"):
        probed(project)
    measure(project)
    (project / "src/tidegate/gates/half.py").write_text(SOURCE + "sign(-1)\n")
    with pytest.raises(CannotRunError, match=r"1 files have changed since \(src/tidegate/gates/half.py, …\)"):
        probed(project)
    commit(project)
    with pytest.raises(CannotRunError, match="1 files have changed since"):
        probed(project)
    measure(project)
    assert probed(project).figures["percent"] == 100
    measure(project, "0" * 40)
    with pytest.raises(CannotRunError, match="which is not known here"):
        probed(project)
    measure(project, f"{git(project, 'rev-parse', 'HEAD')}-dirty")
    with pytest.raises(CannotRunError, match="measured with changes that were not committed"):
        probed(project)
    (project / ".coverage").write_text("crooked")
    with pytest.raises(CannotRunError, match="the coverage cannot be read"):
        probed(project)


def test_make_test_names_the_commit_that_it_measures() -> None:
    assert f'context = "${{{coverage.COMMIT}-}}"' in (CHECKOUT / "pyproject.toml").read_text()
    shown = subprocess.run(
        ["make", "--no-print-directory", "-pn", "test"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    ).stdout
    assert f"export {coverage.COMMIT}" in (CHECKOUT / "Makefile").read_text()
    assert coverage.COMMIT in shown
