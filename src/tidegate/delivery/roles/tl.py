"""What the team leader writes: the decisions that a delivery rests on, and what came of it."""

from __future__ import annotations

from tidegate.delivery import checkout, ledger
from tidegate.delivery.markdown import head, table
from tidegate.delivery.work import Work, out_of_work
from tidegate.stores.postgres import connect
from tidegate.strategy.judges import judged


def decision_log(work: Work) -> str:
    """DECISION_LOG.md: the repository's decision records, what is held against which target, and which role has no work."""
    records = sorted((work.settings.project / "docs" / "decisions").glob("[0-9]*.md"))
    known = [(path.stem[:4], path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")) for path in records]
    idle = [(code, reason) for code, role in work.team.roles.items() if (reason := out_of_work(role, work.strategy))]
    with connect(work.settings) as connection:
        given = ledger.approvals(connection, work.delivery.delivery_id)
    unmeasured = [one for one in judged(work.strategy) if one.judge.missing]
    return "\n".join(
        [
            *head(work, "Decisions"),
            f"Started by {work.delivery.started_by} at {work.delivery.started_at:%Y-%m-%d %H:%M} UTC on the commit "
            f"\"{checkout.commits(work.settings.project, most=1)[0].subject}\".",
            "",
            "## People decided",
            *table(
                ("when", "what", "about", "decision", "by", "why"),
                [(f"{a.decided_at:%Y-%m-%d %H:%M:%S}", a.kind, a.subject, a.decision, a.decided_by, a.why) for a in given],
            ),
            "## The strategy decided",
            *table(("role", "has no work, because"), idle),
            *table(("line", "says", "is judged by no program, because"), [(o.line, o.text, o.judge.missing) for o in unmeasured]),
            "## The repository decided",
            *table(("record", "decision"), known),
        ]
    )  # fmt: skip


def summary(work: Work) -> str:
    """SUMMARY.md: what was released, what the gates said, how long each role took, who decided what."""
    with connect(work.settings) as connection:
        released = ledger.releases(connection, work.delivery.delivery_id)
        given = ledger.approvals(connection, work.delivery.delivery_id)
    gates = {
        gate.value: [one for one in work.verdicts if one.gate == gate.value] for gate in work.team.gates
    }  # fmt: skip
    counted = [
        (name, sum(v.verdict == "PASS" for v in said), sum(v.verdict == "WARN" for v in said), sum(v.verdict == "FAIL" for v in said))
        for name, said in gates.items()
    ]  # fmt: skip
    version = next((one.version for one in released if one.state == "released"), None)
    return "\n".join(
        [
            *head(work, f"Released as {version}" if version else "Not released"),
            *table(
                ("version", "state", "migrations", "backup before", "seconds"),
                [
                    (r.version, r.state, f"{r.from_revision} → {r.to_revision}", r.backup_id,
                     f"{(r.ended_at - r.begun_at).total_seconds():.1f}" if r.ended_at else "")
                    for r in released
                ],
            ),
            *table(("gate", "passed", "warnings", "refused"), counted),
            "## What was let pass or refused",
            *table(
                ("gate", "rule", "verdict", "value", "target", "written in"),
                [(v.gate, v.rule, v.verdict, v.value, v.target, v.target_source) for v in work.verdicts if v.verdict != "PASS"],
            ),
            "## Who worked",
            *table(
                ("wave", "role", "attempt", "state", "seconds", "artifacts"),
                [
                    (d.wave, d.role, d.attempt, d.state,
                     f"{(d.finished_at - d.started_at).total_seconds():.1f}" if d.finished_at else "", len(d.artifacts))
                    for d in work.done
                ],
            ),
            "## Who decided",
            *table(("what", "decision", "by", "why"), [(a.kind, a.decision, a.decided_by, a.why) for a in given]),
        ]
    )  # fmt: skip
