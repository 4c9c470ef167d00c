"""What the README tells a newcomer to type does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from tidegate import cli
from tidegate.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text()


def example(name: str) -> str:
    """Return the block under `<!-- example: NAME -->`."""
    found = re.search(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no example {name}"
    return found[1]


def tidegate(words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words.split())
    assert ended.value.code in (0, None), words


def test_the_readmes_dataset_is_ingested_as_it_says(
    settings: Settings, warehouse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/tide_level.odcs.yaml").write_text(example("schemas/tide_level.odcs.yaml"))
    (tmp_path / "2026-03.csv").write_text(example("2026-03.csv"))
    monkeypatch.setenv("TIDEGATE_PROJECT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tidegate("ingest tide_level --partition 2026-03 --file 2026-03.csv")
    with psycopg.connect(warehouse) as connection:
        rows = connection.execute("SELECT level_metres::text FROM raw.tide_level ORDER BY 1").fetchall()
    assert rows == [("2.113",), ("2.118",)]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_the_readme_links_to_what_is_there(path: str) -> None:
    assert (CHECKOUT / path).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^\$ make (\w+)", README, re.MULTILINE))))
def test_the_readmes_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:.*##", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
