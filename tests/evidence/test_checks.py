"""Checks that a model or dataset has lost are named; those of what is gone as a whole are not."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tidegate.evidence.checks import lost_rules, lost_tests

MODEL = """models:
  - name: fct
    data_tests: [{unique_grain: {arguments: {columns: [n]}}}, {holds: {name: positive, arguments: {condition: n > 0}}}]
    columns: [{name: n, data_tests: [not_null]}]
unit_tests: [{name: counts, model: fct}]
"""
RULES = "expectations: [{name: first, type: x}, {name: second, type: x}]\n"


def repository(root: Path) -> None:
    for name, text in {
        "models/fct.sql": "select 1 as n", "models/fct.yml": MODEL, "expectations/orders.yaml": RULES,
        "schemas/orders.odcs.yaml": "",
    }.items():  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "init", "--quiet")
    commit(root)


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=root, check=True)


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message=x")


def test_a_check_that_is_gone_is_named_also_when_that_was_committed(tmp_path: Path) -> None:
    repository(tmp_path)
    assert (lost_tests(tmp_path), lost_rules(tmp_path)) == ([], [])
    (tmp_path / "models/fct.yml").write_text("models:\n  - name: fct\n    data_tests: [unique_grain]\n")
    (tmp_path / "expectations/orders.yaml").unlink()
    gone = ["fct: holds positive of fct", "fct: not_null of n", "fct: unit test counts"]
    for _ in range(2):
        assert (lost_tests(tmp_path), lost_rules(tmp_path)) == (gone, ["orders: first", "orders: second"])
        commit(tmp_path)
    # Two commits on nobody would know, but for the release.
    assert lost_tests(tmp_path) == []
    git(tmp_path, "tag", "v0.1.0", "HEAD~2")
    assert lost_tests(tmp_path) == gone


def test_what_a_check_asks_may_change_and_a_model_may_go(tmp_path: Path) -> None:
    repository(tmp_path)
    (tmp_path / "models/fct.yml").write_text(MODEL.replace("n > 0", "n > 1"))
    assert lost_tests(tmp_path) == []
    for name in ("models/fct.yml", "models/fct.sql", "expectations/orders.yaml", "schemas/orders.odcs.yaml"):
        (tmp_path / name).unlink()
    assert (lost_tests(tmp_path), lost_rules(tmp_path)) == ([], [])


def test_without_a_commit_nothing_is_said(tmp_path: Path) -> None:
    assert lost_tests(tmp_path) is None
