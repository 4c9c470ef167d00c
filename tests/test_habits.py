"""The repository's own promises: self-explaining commands, one lock, one version, no trace of a machine."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
LOCK = (ROOT / "requirements.txt").read_text()
PROMISED_TARGETS = {"run", "test", "stop", "lint", "bench", "docs", "clean"}


def tracked_files() -> list[Path]:
    # The clone may belong to another user than the one who tests it.
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def locked_blocks() -> dict[str, str]:
    """Return the lock's text of each package by its name."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    return {re.split(r"[=\[ ;]", block)[0].lower(): block for block in blocks}


def test_make_alone_lists_every_target() -> None:
    # Nested in `make test`, make would announce its folders.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    listed = subprocess.run(
        ["make"], cwd=ROOT, check=True, capture_output=True, text=True, env=environment
    ).stdout.splitlines()
    shown = {words[1]: words[2] for line in listed if (words := line.split(maxsplit=2))}
    assert set(shown) >= PROMISED_TARGETS
    assert set(shown) == set(re.findall(r"^([a-z-]+):(?!=)", MAKEFILE, flags=re.MULTILINE))
    assert all(len(explanation) > 10 for explanation in shown.values())


def test_ci_runs_make_test_and_nothing_else() -> None:
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line and line[0] != "#"]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "${BASH_SOURCE[0]}")/.."', "make test"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_ci_pins_each_action_by_its_commit() -> None:
    used = []
    for workflow in sorted((ROOT / ".github/workflows").glob("*.yml")):
        jobs = yaml.safe_load(workflow.read_text())["jobs"]
        used += [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)] == []


def test_every_locked_package_has_a_version_and_hashes() -> None:
    blocks = locked_blocks()
    assert len(blocks) > 100
    assert [name for name, block in blocks.items() if "==" not in block.split("\n")[0]] == []
    assert [name for name, block in blocks.items() if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", block)] == []


def test_the_lock_names_no_host_and_no_folder() -> None:
    assert re.findall(r"\w+://\S*|--(?:extra-)?index-url.*|--find-links.*|-i\s\S+| @ \S+", LOCK) == []
    assert re.findall(r"(?<![\w.])/\w+/\S*", LOCK) == []


def test_the_lock_holds_every_dependency() -> None:
    project = PYPROJECT["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["dev"],
        *PYPROJECT["build-system"]["requires"],
    ]
    names = {re.split(r"[=<>!~\[ ;]", requirement)[0].lower() for requirement in wanted}
    assert names - set(locked_blocks()) == set()


def test_one_version_everywhere() -> None:
    declared = PYPROJECT["project"]["version"]
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest is not None
    assert {newest.group(1), version("tidegate")} == {declared}
    assert f"image: tidegate:{declared}\n" in (ROOT / "docker-compose.yml").read_text()


def test_no_tracked_file_names_a_folder_of_this_machine() -> None:
    # Anybody's home folder, and the place of this checkout wherever it is deep enough to be told from a word.
    patterns = [r"/(?:root|(?:home|Users)/\w+)/"]
    patterns += [re.escape(str(place)) for place in (ROOT, Path.home()) if len(place.parts) > 2]
    telling = re.compile(rf"(?<![\w.}}])(?:{'|'.join(patterns)})")
    files = tracked_files()
    found = []
    for file in files:
        text = file.read_bytes().decode(errors="replace")
        found += [f"{file.relative_to(ROOT)}: {match.group()}" for match in telling.finditer(text)]
    assert len(files) > 20
    assert found == []


def test_no_tracked_file_names_a_package_registry() -> None:
    hosts = re.compile("|".join(map(re.escape, ("files.pythonhosted" + ".org", "pypi" + ".org/simple"))))
    assert [file.name for file in tracked_files() if hosts.search(file.read_bytes().decode(errors="replace"))] == []


def test_the_example_environment_names_nothing_twice() -> None:
    named = re.findall(r"^# ([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    assert len(named) == len(set(named)) > 10


def test_bootstrap_says_which_words_it_knows() -> None:
    answer = subprocess.run([ROOT / "bin/bootstrap", "nonsense"], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "found 'nonsense', expected env, run or test" in answer.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout, with a space in its path, whose stack has run and is stopped."""
    root = tmp_path / "my checkout"
    (root / "bin").mkdir(parents=True)
    (root / "bin/archive").write_bytes((ROOT / "bin/archive").read_bytes())
    (root / "bin/archive").chmod(0o755)
    (root / ".tidegate/landing").mkdir(parents=True)
    (root / ".tidegate/landing/part.parquet").write_text("rows")
    (root / ".tidegate/env").write_text("TIDEGATE_AIRFLOW_URL=x")
    return root


def archived(checkout: Path) -> Path:
    subprocess.run([checkout / "bin/archive"], check=True, capture_output=True)
    (only,) = (checkout / ".tidegate/archive").iterdir()
    return only


def test_clean_moves_everything_and_deletes_nothing(checkout: Path) -> None:
    archive = archived(checkout)
    assert (archive / "landing/part.parquet").read_text() == "rows"
    assert (archive / "env").exists()
    assert [path.name for path in (checkout / ".tidegate").iterdir()] == ["archive"]
    assert archived(checkout) == archive, "a second one finds nothing to move"


def test_clean_moves_a_data_directory_that_lies_elsewhere(checkout: Path, tmp_path: Path) -> None:
    data = tmp_path / "elsewhere/postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15")
    (checkout / ".tidegate/postgres").symlink_to(data)
    archive = archived(checkout)
    assert not data.exists(), "the next start would find it"
    assert (archive / "postgres/PG_VERSION").read_text() == "15"
