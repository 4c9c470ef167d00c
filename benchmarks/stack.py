"""A stack of a measurement's own: the environment in which commands and servers know of no other."""

from __future__ import annotations

import os
from pathlib import Path

#: Names a folder in which the demo year's warehouse is kept for the next measurement (`warehouse.py`).
KEPT_YEAR = "BENCH_YEAR"


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a stack that lives in `home`, with what a measurement adds."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "AIRFLOW_"))}
    return {**inherited, "PYTHONWARNINGS": "ignore", "TIDEGATE_HOME": str(home), **more}
