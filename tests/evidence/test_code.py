"""Probes of the checkout alone: each run on a small one in which something is wrong, and on one where nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.evidence import code
from tidegate.evidence.probe import CannotRunError, Ground
from tidegate.settings import Settings, variables

CHECKOUT = Path(__file__).resolve().parents[2]
STRICT = '[tool.mypy]\nstrict = true\nfiles = ["."]\n[tool.ruff.lint]\nselect = ["F"]\n'


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    (tmp_path / "pyproject.toml").write_text(STRICT)
    (tmp_path / "good.py").write_text("def one() -> int:\n    return 1\n")
    return Ground(Settings(project=tmp_path, home=tmp_path / "home"))


def test_style_and_types_are_counted(ground: Ground) -> None:
    assert [(found.figures, found.exit_status) for found in code.lint(ground)] == [
        ({"findings": 0, "unformatted": 0}, 0),
        ({"errors": 0}, 0),
    ]
    (ground.settings.project / "bad.py").write_text('import os\n\ndef two() -> int:\n    return "two"\n')
    style, types = code.lint(ground)
    assert (style.figures, style.exit_status) == ({"findings": 1, "unformatted": 1}, 1)
    assert style.text.startswith("bad.py:1: F401 `os` imported but unused\nbad.py:")
    assert (types.figures, types.exit_status) == ({"errors": 1}, 1)
    assert "bad.py:4: error: Incompatible return value type" in types.text


def test_a_linter_that_cannot_read_its_configuration_yields_no_figure(ground: Ground) -> None:
    (ground.settings.project / "pyproject.toml").write_text("[tool.ruff]\nline-length = 'wide'\n")
    with pytest.raises(CannotRunError, match="ruff could not do its work"):
        list(code.lint(ground))
    (ground.settings.project / "pyproject.toml").write_text("[tool.mypy]\nfiles = ['nowhere.py']\n")
    with pytest.raises(CannotRunError, match=r"mypy could not do its work: .*nowhere\.py"):
        list(code.lint(ground))


def test_a_setting_that_is_not_documented_is_named(ground: Ground) -> None:
    example = ground.settings.project / ".env.example"
    example.write_text((CHECKOUT / ".env.example").read_text())
    (well,) = code.settings(ground)
    assert well.figures == {"settings": len(variables()), "undocumented": 0, "unknown_or_twice": 0}
    example.write_text(example.read_text().replace("# TIDEGATE_INBOX=", "# TIDEGATE_OUTBOX="))
    (found,) = code.settings(ground)
    assert found.text.splitlines()[1:] == [
        "missing: TIDEGATE_INBOX",
        "no setting, or there twice: TIDEGATE_OUTBOX",
    ]
    assert (found.figures["undocumented"], found.exit_status) == (1, 1)
    example.unlink()
    (nothing,) = code.settings(ground)
    assert nothing.figures["undocumented"] == len(variables())
