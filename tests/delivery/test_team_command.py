"""`team strategy`: what it prints, and how it ends."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from tests.delivery.filling import fill
from tests.delivery.originals import ROOT

from tidegate import cli
from tidegate.strategy import draft

TEAMS = ("databaseEng", "dataEng", "pythonData")


def team(*words: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run one command of `team`: exit status, what it printed, what it complained of."""
    with pytest.raises(SystemExit) as ended:
        cli.team([str(word) for word in words])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_the_command_is_installed_with_the_package() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"tidegate": "tidegate.cli:main", "team": "tidegate.cli:team"}


def test_commands_of_one_program_are_none_of_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert team("batch", "list", capsys=capsys)[0] == 2
    with pytest.raises(SystemExit) as ended:
        cli.main(["strategy", "check", "x"])
    assert ended.value.code == 2


@pytest.mark.parametrize("name", TEAMS)
def test_a_new_strategy_asks_for_exactly_what_is_to_be_filled_in(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "folder" / "mine.md"
    assert team("strategy", "new", "--team", name, path, capsys=capsys)[0] == 0
    status, out, _ = team("strategy", "check", path, "--json", capsys=capsys)
    told = json.loads(out)
    lines = path.read_text().splitlines()
    asked = {
        number
        for number, line in enumerate(lines, 1)
        if "[FILL IN" in line and not line.startswith(">") and not re.search(r"\[FILL IN if (needed|any)", line)
    }
    assert (status, told["usable"]) == (1, False)
    assert {one["line"] for one in told["findings"] if one["fatal"]} == asked
    assert {one["kind"] for one in told["findings"] if one["fatal"]} == {"to fill in"}


@pytest.mark.parametrize("name", TEAMS)
def test_a_new_strategy_that_is_filled_in_can_be_used(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.md"
    path.write_text(fill(draft.text(name)))
    status, out, _ = team("strategy", "check", path, capsys=capsys)
    assert (status, "it can be used" in out) == (0, True)
    assert team("strategy", "show", path, capsys=capsys)[0] == 0


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.md"
    path.write_text("dear to me")
    status, _, err = team("strategy", "new", "--team", "dataEng", path, capsys=capsys)
    assert (status, err) == (1, f"team: {path} is there already: name another place for the new one\n")
    assert path.read_text() == "dear to me"


def test_a_team_that_nobody_knows_is_told_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = team("strategy", "new", "--team", "navy", tmp_path / "x.md", capsys=capsys)
    assert (status, err) == (1, "team: found the team 'navy', expected one of databaseEng, dataEng, pythonData\n")
    assert not (tmp_path / "x.md").exists()


def test_without_a_place_it_lies_among_the_strategies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIDEGATE_PROJECT", str(tmp_path))
    assert team("strategy", "new", "--team", "pythonData", capsys=capsys)[0] == 0
    assert (tmp_path / "strategies" / "python-data.md").is_file()


def test_check_prints_every_field_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "strategies" / "database.md"
    status, out, _ = team("strategy", "check", path, capsys=capsys)
    assert (status, "11\tidentity.name\ttidegate\n" in out) == (0, True)
    assert f"{path}:112: not measurable: Database uptime target >= 99.99%: " in out


def test_show_names_gate_probe_and_figure(capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "strategies" / "database.md"
    status, out, _ = team("strategy", "show", path, "--json", capsys=capsys)
    assert status == 0
    (row,) = [row for row in json.loads(out) if row["what"].startswith("Query response P95")]
    assert {key: row[key] for key in ("line", "target", "gate", "probe", "figure", "unit", "missing")} == {
        "line": 92, "target": "< 50 ms", "gate": "Query Performance Gate", "probe": "explain", "figure": "p95_ms < 50 ms", "unit": "ms",
        "missing": None,
    }  # fmt: skip
    _, table, _ = team("strategy", "show", path, capsys=capsys)
    assert "are not measurable yet:" in table


@pytest.mark.parametrize("command", ["check", "show"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", None])
def test_what_cannot_be_read_is_a_sentence_and_no_traceback(
    command: str, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "strategy.md"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    status, _, err = team("strategy", command, path, capsys=capsys)
    assert (status, err.startswith(f"team: {path}"), err.count("\n")) == (1, True, 1)


def test_a_broken_document_is_shown_as_far_as_it_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "strategy.md"
    path.write_text(fill(draft.text("dataEng")).replace("< 1 hour for the daily batch", "< 1 moon"))
    status, out, _ = team("strategy", "check", path, capsys=capsys)
    assert (status, "malformed: found the unit 'moon'" in out, "identity.name" in out) == (1, True, True)
    status, _, err = team("strategy", "show", path, capsys=capsys)
    assert (status, "found the unit 'moon' in '< 1 moon', expected one of" in err) == (1, True)


def test_what_is_written_in_a_document_is_no_command_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "strategy.md"
    path.write_text(fill(draft.text("dataEng")).replace("- [ ] Data lineage", "- [ ] \x1b[2JThe lighthouse"))
    for command in ("check", "show"):
        out = team("strategy", command, path, capsys=capsys)[1]
        assert ("\x1b" in out, "\\x1b[2JThe lighthouse" in out) == (False, True)
