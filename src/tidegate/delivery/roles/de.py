"""What the data engineer writes: whether every DAG can be read, and whether deliveries arrive in time."""

from __future__ import annotations

import ast

from tidegate.contracts import load_all
from tidegate.contracts.model import in_words
from tidegate.delivery.cited import Asked, beside, figures
from tidegate.delivery.markdown import head, table
from tidegate.delivery.work import Work
from tidegate.stores.postgres import connect


def dag_validation(work: Work) -> str:
    """Return what Airflow could import, and what each file of DAGs is for in its own words."""
    files = sorted((work.settings.project / "dags").glob("*.py"))
    return "\n".join([
        *head(work, "Every DAG, as Airflow reads it"),
        *figures(work, [
            Asked("DAGs", "dag_validation", "dags"), Asked("files that could not be imported", "dag_validation", "errors"),
            Asked("DAGs that wait for themselves", "dag_validation", "cycles"), Asked("tasks", "dag_validation", "tasks"),
            Asked("slowest file", "dag_validation", "slowest_seconds", "s"),
        ]),
        f"{len(files)} files; those of `ingest_…` and `transform_…` make a DAG for each contract:",
        "",
        *table(
            ["file", "what it says of itself"],
            [[beside(work, path), (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]] for path in files],
        ),
    ])  # fmt: skip


def sla_compliance(work: Work) -> str:
    """Return how long deliveries took from landing to their readers, and how old what readers see may be."""
    with connect(work.settings) as connection:
        took = {row["dataset"]: row for row in connection.execute(_TOOK).fetchall()}
    return "\n".join([
        *head(work, "Deadlines, and what was needed"),
        *figures(work, [
            Asked("batches that went all the way", "pipeline_sla", "batches"),
            Asked("longest", "pipeline_sla", "longest_seconds", "s"), Asked("in 95 of 100", "pipeline_sla", "p95_seconds", "s"),
            Asked("rows a second", "pipeline_sla", "rows_per_second"),
            Asked("deliveries begun", "success_rate", "deliveries"), Asked("left behind", "success_rate", "left_behind"),
            Asked("share of successes that this proves", "success_rate", "proven_share"),
            Asked("datasets older than their contract promises", "freshness", "stale"),
        ]),
        "## Dataset by dataset",
        "",
        *table(
            ["dataset", "promised: at the latest after", "batches timed", "longest, s", "rows of it"],
            [
                [c.dataset, in_words(c.freshness), row["batches"] if row else 0, f"{row['longest']:.2f}" if row else "none yet", f"{row['rows']:,}" if row else ""]
                for c in load_all(work.settings) for row in [took.get(c.dataset)]
            ],
        ),
    ])  # fmt: skip


_TOOK = """
SELECT dataset, count(*) AS batches, max(seconds) AS longest, sum(accepted_count) AS rows
FROM (SELECT b.dataset, b.batch_id, b.accepted_count, sum(s.seconds) AS seconds FROM ops.batch AS b JOIN ops.step AS s ON s.subject = b.batch_id
      GROUP BY 1, 2, 3) AS way GROUP BY 1
"""
