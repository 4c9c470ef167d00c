"""What the analytics engineer writes: every model with its checks, and what these said of the marts that readers see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tidegate.delivery.cited import Asked, figures, file
from tidegate.delivery.markdown import head, table
from tidegate.delivery.work import Work


def dbt_results(work: Work) -> str:
    """Return what dbt's tests found, and how many each model has."""
    models = list(_models(work.settings.project))
    units = sum(units for *_, units in models)
    return "\n".join([
        *head(work, "Models and their checks"),
        f"{len(models)} models with {sum(checks for _, _, checks, _ in models)} checks of their rows and {units} unit tests of their SQL.",
        "",
        *figures(work, [
            Asked("checks run on what is published", "dbt_results", "tests"), Asked("failed", "dbt_results", "failed"),
            Asked("warned", "dbt_results", "warned"), Asked("models without a check", "dbt_results", "models_untested"),
            Asked("models with one", "dbt_results", "tested_percent", "%"),
            Asked("datasets that dbt finds stale", "freshness", "stale"),
        ]),
        "## Model by model",
        "",
        *table(
            ["model", "written in", "checks", "unit tests"],
            [[f"`{name}`", file(work, path), checks, units] for name, path, checks, units in models],
        ),
    ])  # fmt: skip


def _models(project: Path) -> Iterator[tuple[str, str, int, int]]:
    """Yield each model: its name, its file, how many checks it and its columns have, how many unit tests."""
    for path in sorted((project / "models").rglob("*.yml")):
        told: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for model in told.get("models", []):
            own = len(model.get("data_tests", []))
            of_columns = sum(len(column.get("data_tests", [])) for column in model.get("columns", []))
            units = sum(unit.get("model") == model["name"] for unit in told.get("unit_tests", []))
            yield model["name"], str(path.relative_to(project)), own + of_columns, units
