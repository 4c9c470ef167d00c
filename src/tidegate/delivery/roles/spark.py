"""What the Spark engineer writes: which transforms ran, on what, for how long, over how many rows."""

from __future__ import annotations

from tidegate.contracts import load_all
from tidegate.contracts.lineage import Lineage
from tidegate.delivery.cited import Asked, figures, file
from tidegate.delivery.markdown import head, table
from tidegate.delivery.work import Work
from tidegate.stores.postgres import connect


def spark_job_logs(work: Work) -> str:
    """Return each run of a transform as the ledger has it, step by step."""
    lineage = Lineage(work.settings.project)
    derived = {c.dataset: lineage.inputs(c.dataset) for c in load_all(work.settings) if lineage.inputs(c.dataset)}
    with connect(work.settings) as connection:
        rows = connection.execute(_RUNS, [list(derived)]).fetchall()
    settings = work.settings
    where = (
        "a Spark Connect server of your own"
        if settings.spark_remote
        else f"Spark master {settings.spark_master}"
        if settings.spark_master
        else "the embedded Sail"
    )
    return "\n".join([
        *head(work, "Transforms that ran"),
        f"{len(derived)} transforms, run on {where}; {len(rows)} steps of their batches are in the ledger.",
        "",
        *table(
            ["transform", "makes", "from", "written in"],
            [[f"`{name}`", f"core.{name}", ", ".join(inputs), file(work, f"transforms/{name}.py")] for name, inputs in derived.items()],
        ),
        "## Steps, the newest first",
        "",
        *table(
            ["dataset", "batch", "step", "seconds", "rows", "note", "at"],
            [[r["dataset"], f"`{r['batch_id']}`", r["step"], f"{r['seconds']:.2f}", r["row_count"], r["note"], f"{r['started_at']:%Y-%m-%d %H:%M}"] for r in rows],
        ),
        "## Batches that were left behind",
        "",
        *figures(work, [Asked("deliveries and derivations left behind", "success_rate", "left_behind")]),
    ])  # fmt: skip


_RUNS = """
SELECT b.dataset, b.batch_id, s.step, s.seconds, s.row_count, s.note, s.started_at
FROM ops.step AS s JOIN ops.batch AS b ON b.batch_id = s.subject WHERE b.dataset = ANY (%s) ORDER BY s.step_id DESC LIMIT 50
"""
