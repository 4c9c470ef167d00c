"""What who looks after quality writes: what the gates found in deliveries, rule by rule, and what was refused."""

from __future__ import annotations

from tidegate.contracts import load_all
from tidegate.delivery.cited import Asked, beside, figures, file
from tidegate.delivery.markdown import head, table
from tidegate.delivery.work import Work
from tidegate.stores.postgres import connect


def gx_reports(work: Work) -> str:
    """Return what Great Expectations and the other gates said of what is published."""
    with connect(work.settings) as connection:
        gates = connection.execute(_GATES).fetchall()
        bad = connection.execute(_BAD).fetchall()
    suites = sorted((work.settings.project / "expectations").glob("*.yaml"))
    return "\n".join([
        *head(work, "What gates found in the data"),
        f"{len(suites)} suites of rules across columns and tables; what a contract says of one column becomes a suite by itself.",
        "",
        *figures(work, [
            Asked("published batches", "expectations", "batches"), Asked("rules that judged them", "expectations", "rules"),
            Asked("failed", "expectations", "failed"), Asked("batches that nothing judged", "expectations", "unjudged"),
            Asked("released by a person all the same", "expectations", "released"),
        ]),
        "## By dataset and gate",
        "",
        *table(
            ["dataset", "gate", "rules", "pass", "warn", "fail"],
            [[g["dataset"], g["gate"], g["rules"], g["passed"], g["warned"], g["failed"]] for g in gates],
        ),
        "## What did not pass",
        "",
        *table(["dataset", "partition", "rule", "found", "expected", "written in"],
               [[b["dataset"], b["partition"], b["rule"], b["value"], b["target"], f"`{b['target_source']}`"] for b in bad]),
        "## The suites",
        "",
        *table(["suite"], [[file(work, f"expectations/{path.name}")] for path in suites]),
    ])  # fmt: skip


def validation_report(work: Work) -> str:
    """Return what was refused of each dataset, by which rule, and what became of it."""
    with connect(work.settings) as connection:
        refused = connection.execute(
            "SELECT dataset, expected, state, count(*) AS rows FROM quarantine.refused_row GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1 LIMIT 30"
        ).fetchall()
        counts = connection.execute(
            "SELECT dataset, sum(delivered_count) AS delivered, sum(accepted_count) AS accepted, sum(refused_count) AS refused "
            "FROM ops.batch WHERE state = 'published' GROUP BY 1"
        ).fetchall()
    by_dataset = {row["dataset"]: row for row in counts}
    return "\n".join([
        *head(work, "Rows that were let in, and rows that were not"),
        *figures(work, [Asked("rules that judged what is published", "expectations", "rules"), Asked("of these, failed", "expectations", "failed")]),
        "## By dataset",
        "",
        *table(
            ["dataset", "rules of its contract", "delivered", "accepted", "refused", "contract"],
            [
                [c.dataset, len(c.rules), *((row["delivered"], row["accepted"], row["refused"]) if row else ("nothing yet", "", "")), beside(work, c.path)]
                for c in load_all(work.settings) for row in [by_dataset.get(c.dataset)]
            ],
        ),
        "## What was refused, by rule",
        "",
        *table(["dataset", "expected", "state", "rows"], [[r["dataset"], r["expected"], r["state"], r["rows"]] for r in refused]),
    ])  # fmt: skip


_NEWEST = """
SELECT DISTINCT ON (v.subject, v.gate, v.rule) b.dataset, b.partition, v.gate, v.rule, v.verdict, v.value, v.target, v.target_source
FROM ops.verdict AS v JOIN ops.batch AS b ON b.batch_id = v.subject AND b.state = 'published' ORDER BY v.subject, v.gate, v.rule, v.verdict_id DESC
"""
_GATES = f"""
SELECT dataset, gate, count(*) AS rules, count(*) FILTER (WHERE verdict = 'PASS') AS passed, count(*) FILTER (WHERE verdict = 'WARN') AS warned,
    count(*) FILTER (WHERE verdict = 'FAIL') AS failed FROM ({_NEWEST}) AS newest GROUP BY 1, 2 ORDER BY 1, 2
"""
_BAD = f"SELECT * FROM ({_NEWEST}) AS newest WHERE verdict <> 'PASS' ORDER BY verdict, dataset, partition LIMIT 50"
