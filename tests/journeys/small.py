"""The database's team made small: the same roles, waves and gates, and of its probes those that take seconds.

What is left out here is measured by tests/evidence and tests/delivery/test_sabotage.py, and by the whole team in `make soak`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tidegate.strategy.judges import judged
from tidegate.strategy.read import read

#: Each gate keeps figures to judge by, of other probes.
LEFT_OUT = {
    "act", "act_database", "backup_restore", "config_diff", "dbt_results", "ddl_syntax", "lint", "migration_each", "normalization", "pgbench",
    "pip_audit", "redis_benchmark", "schema_apply", "slow_queries",
}  # fmt: skip
WAIVED = "(waived by the tests: the small team does not measure it)"


def make_small(project: Path) -> None:
    """Write the team of a project anew, and let its strategy waive what nobody measures any more."""
    path, strategy = project / "teams/database.yaml", project / "strategies/database.md"
    path.write_text(yaml.safe_dump(_smaller(yaml.safe_load(path.read_text())), sort_keys=False))
    lines = strategy.read_text().splitlines()
    for number in {one.line for one in judged(read(strategy)) if one.judge.probe in LEFT_OUT}:
        # One waiver a line, without a name: of all that the line asks for and that was not measured.
        lines[number - 1] = f"{re.sub(r' [(][^()]*waived by [^()]*[)]', '', lines[number - 1])} {WAIVED}"
    strategy.write_text("\n".join(lines) + "\n")


def _smaller(team: dict[str, Any]) -> dict[str, Any]:
    for role in team["roles"].values():
        for wave, probes in role.get("evidence", {}).items():
            role["evidence"][wave] = [probe for probe in probes if probe not in LEFT_OUT]
    for gate in team["gates"].values():
        gate["demands"] = [one for one in gate.get("demands", ()) if one.split()[0] not in LEFT_OUT]
    for wave in team["waves"]:
        # The fewest that make a loop.
        wave["attempts"] = min(wave.get("attempts", 1), 2)
    return team
