"""Tools of a machine: what is there says its version, and what is not is told of without failing anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.evidence import environment
from tidegate.evidence.probe import Ground
from tidegate.settings import Settings


def test_a_machine_without_any_tool_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {
        one.file: one for one in environment.tools(Ground(Settings(project=tmp_path, postgres_bin=tmp_path / "none")))
    }
    assert len(found) == 5
    assert {one.figures["found"] for one in found.values()} == {0}
    assert {one.exit_status for one in found.values()} == {0}
    assert found["env_psql.txt"].text == "psql --version: not found\n"
    assert found["env_docker.txt"].text.splitlines()[1] == "docker compose version: not found"


def test_a_tool_says_its_version_and_a_part_that_it_lacks_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Docker version 28" && exit 0\necho unknown\nexit 1\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    (one,) = [one for one in environment.tools(Ground(Settings(project=tmp_path))) if one.file == "env_docker.txt"]
    assert one.text == "Docker version 28\ndocker compose version: not found\n"
    assert one.figures == {"asked": 2, "found": 1}
