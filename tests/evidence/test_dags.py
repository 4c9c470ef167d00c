"""DAG files as Airflow itself reads them: one that works, one that does not import, one whose tasks wait for each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.evidence import dags
from tidegate.evidence.probe import CannotRunError, Ground
from tidegate.settings import Settings

DAG = """from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

with DAG({0!r}) as dag:
    first, second = EmptyOperator(task_id="first"), EmptyOperator(task_id="second")
    first >> second
"""


def test_what_airflow_cannot_read_is_told_with_the_reason(tmp_path: Path) -> None:
    ground = Ground(Settings(project=tmp_path, home=tmp_path / "home"))
    (tmp_path / "dags").mkdir()
    with pytest.raises(CannotRunError, match="there is no DAG file"):
        list(dags.validation(ground))
    (tmp_path / "dags/works.py").write_text(DAG.format("works"))
    (tmp_path / "dags/circles.py").write_text(DAG.format("circles") + "    second >> first\n")
    (tmp_path / "dags/breaks.py").write_text(DAG.format("breaks") + "    import nowhere_at_all\n")
    (found,) = dags.validation(ground)
    slowest = found.figures.pop("slowest_seconds")
    assert found.figures == {"dags": 1, "files": 3, "errors": 2, "cycles": 1, "tasks": 2}
    assert 0 < slowest < 30
    assert found.exit_status == 1
    assert "FAIL breaks.py: " in found.text
    assert "nowhere_at_all" in found.text
    assert "FAIL circles.py: AirflowDagCycleException: Cycle detected" in found.text
