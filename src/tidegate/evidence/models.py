"""Whether dbt's checks hold on the marts that readers see at this moment, whether each model has one, and has lost none.

The same checks judge every build before it is published; what became of those is in the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from tidegate import dbt
from tidegate.evidence import checks
from tidegate.evidence.probe import Finding, Ground


def dbt_results(ground: Ground) -> Iterator[Finding]:
    """Run every data test of the dbt project on the published marts; name those that models had at the last release, and lost."""
    results, manifest = dbt.test(ground.settings)
    nodes = json.loads(manifest.read_text(encoding="utf-8"))["nodes"].values()
    models = {node["unique_id"]: node["name"] for node in nodes if node["resource_type"] == "model"}
    tested = {of for node in nodes if node["resource_type"] == "test" for of in node["depends_on"]["nodes"]}
    untested = sorted(name for known, name in models.items() if known not in tested)
    bad = [result for result in results if result.status not in ("pass", "warn")]
    figures = {
        "tests": len(results), "failed": len(bad), "warned": sum(result.status == "warn" for result in results),
        "models": len(models), "models_untested": len(untested),
        "tested_percent": round(100 * (len(models) - len(untested)) / len(models), 2) if models else 0.0,
    }  # fmt: skip
    lost = checks.lost_tests(ground.settings.project)
    if lost is not None:
        figures["tests_lost"] = len(lost)
    lines = [
        f"{one.status:5} {one.seconds:6.2f} s {one.name}" + (f": {one.message}" if one in bad else "")
        for one in results
    ]
    lines += [*(f"no test: {name}" for name in untested), *(f"lost: {told}" for told in lost or ())]
    yield Finding(
        "tests/quality/dbt_results.log", "\n".join(lines), figures, "dbt test", int(bool(bad or untested or lost))
    )
