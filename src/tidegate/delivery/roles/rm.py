"""What the release manager writes: what goes in, in which order, how it comes back out, and what a person signs."""

from __future__ import annotations

import re
from collections import defaultdict

from tidegate.delivery import checkout
from tidegate.delivery.judge import is_waived
from tidegate.delivery.markdown import code, head, link, table
from tidegate.delivery.work import Work
from tidegate.migrate import door, steps
from tidegate.stores.postgres import warehouse_url

_SUBJECT = re.compile(r"(?P<kind>[a-z]+)(\((?P<scope>[^)]+)\))?(?P<breaking>!)?: (?P<told>.+)")
_KINDS = {
    "feat": "Added", "fix": "Mended", "perf": "Faster", "security": "Safer", "refactor": "Rearranged", "docs": "Documented",
    "test": "Tested", "build": "Built", "ci": "Checked", "chore": "Kept in order",
}  # fmt: skip


def release_checklist(work: Work) -> str:
    """RELEASE_CHECKLIST.md: every gate with what it has said so far, and the steps of the release that follow."""
    rows = []
    for gate in work.team.gates:
        said = [one for one in work.verdicts if one.gate == gate.value]
        refused = [one for one in said if one.verdict == "FAIL"]
        state = "to come" if not said else f"refuses {len(refused)}" if refused else "passed"
        rows.append((f"[{'x' if said and not refused else ' '}]", gate.value, state, len(said)))
    pending = [one.step.revision for one in _standing(work) if not one.applied]
    return "\n".join(
        [
            *head(work, "Release checklist"),
            *table(("", "gate", "state", "rules"), rows),
            f"Then, once a person has approved: a backup, the migrations {', '.join(pending) or '(none is pending)'}, the marts built and "
            "judged beside the published ones, the swap, a look at the health, the tag.",
        ]
    )


def changelog(work: Work) -> str:
    """CHANGELOG.md: the commits since the last version, by what they did and where."""
    tag = checkout.last_tag(work.settings.project)
    found = checkout.commits(work.settings.project, tag)
    groups: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for commit in found:
        read = _SUBJECT.match(commit.subject)
        kind = _KINDS.get(read["kind"], "Other") if read else "Other"
        groups["Breaking" if read and read["breaking"] else kind].append(
            (read["scope"] or "" if read else "", read["told"] if read else commit.subject, commit.sha[:8])
        )
    lines = head(work, f"{len(found)} commits since {tag or 'the beginning'}")
    for kind in ("Breaking", *_KINDS.values(), "Other"):
        if groups[kind]:
            lines += [f"## {kind}", *table(("where", "what", "commit"), sorted(groups[kind]))]
    return "\n".join(lines)


def rollback_plan(work: Work) -> str:
    """ROLLBACK_PLAN.md: the way back of each migration that goes in, how long it took on the rehearsal, and the restore behind it."""
    took = {one.path: one.figures for one in work.taken_by("migration_each")}
    rows = []
    for one in _standing(work):
        if one.applied:
            continue
        down = next((f for path, f in took.items() if path.endswith(f"migration_{one.step.revision}_down.log")), {})
        rows.append((one.step.revision, one.step.phase, down.get("seconds", "not measured"), one.step.title))
    restored = work.taken_by("backup_restore")
    lines = [
        *head(work, f"Way back: {len(rows)} migrations"),
        *table(("migration", "runs", "seconds back on the rehearsal", "what it is"), rows),
        "What held rows is set aside on the way back, and taken up again on the way forth. The marts are swapped back by "
        "`tidegate marts undo`, the migrations by:",
        "",
        *code(f"tidegate migrate down --to {_last_applied(work)}", "sh"),
    ]
    for taken in restored:
        lines += [
            f"Behind that stands the backup: restored in {taken.figures.get('rto_seconds')} s with {taken.figures.get('tables_that_differ')} "
            f"of {taken.figures.get('tables')} tables differing, losing at most {taken.figures.get('rpo_seconds')} s ({link(taken)}).",
        ]
    return "\n".join(lines)


def release_notes(work: Work) -> str:
    """RELEASE_NOTES.md: what people who use the warehouse notice, with the figures that were measured."""
    tag = checkout.last_tag(work.settings.project)
    news = [
        c
        for c in checkout.commits(work.settings.project, tag)
        if c.subject.startswith(("feat", "fix", "perf", "security"))
    ]
    measured = [v for v in work.verdicts if v.evidence_sha256 and v.target_source.startswith(work.delivery.strategy)]
    waived = [(v.gate, v.rule, v.value, v.target_source) for v in work.verdicts if is_waived(v)]
    return "\n".join(
        [
            *head(work, f"Release notes: {len(news)} changes that are noticed"),
            *(f"- {commit.subject} (`{commit.sha[:8]}`)" for commit in news[:60]),
            *([f"- and {len(news) - 60} more: see CHANGELOG.md beside this"] if len(news) > 60 else []),
            "",
            "## Measured against the strategy",
            *table(("target", "required", "measured", "verdict", "written in"), [(v.rule, v.target, v.value, v.verdict, v.target_source) for v in measured]),
            *(["## Let pass unmet", *table(("gate", "rule", "found, by whom it was let pass, and why", "written in"), waived)] if waived else []),
        ]
    )  # fmt: skip


def migration_order(work: Work) -> str:
    """MIGRATION_ORDER.md: which migrations run before and after the code, on what stands in the warehouse now."""
    rows = [
        (
            one.step.revision,
            one.step.phase,
            "applied" if one.applied else "to be applied",
            one.changed_at and f"{one.changed_at:%Y-%m-%d %H:%M}",
            one.step.title,
        )
        for one in _standing(work)
    ]
    pending = [row for row in rows if row[2] != "applied"]
    return "\n".join(
        [
            *head(work, f"Migrations: {len(rows) - len(pending)} applied, {len(pending)} to go"),
            *table(("migration", "before or after the code", "state", "applied at", "what it is"), rows),
        ]
    )


def deployment_signoff(work: Work) -> str:
    """DEPLOYMENT_SIGNOFF.md: exactly what a person approves: the commit, the SQL, the targets, the evidence, by their hashes."""
    refused = [one for one in work.verdicts if one.verdict == "FAIL"]
    waived = [one for one in work.verdicts if one.verdict == "WARN"]
    pending = [one.step for one in _standing(work) if not one.applied]
    lines = [
        *head(work, "Deployment sign-off"),
        f"Asked for: {len(pending)} migrations, the marts of commit `{checkout.version(work.settings.project)[:12]}`, under the strategy "
        f"`{work.delivery.strategy_sha256[:12]}`.",
        "",
        f"Gates: {sum(v.verdict == 'PASS' for v in work.verdicts)} rules passed, {len(waived)} with a warning, {len(refused)} refused.",
        "",
        "## What is not as it should be",
        *table(("gate", "rule", "value", "target", "written in"), [(v.gate, v.rule, v.value, v.target, v.target_source) for v in (*refused, *waived)]),
        "## Evidence",
        *table(("file", "probe", "SHA-256"), [(link(one), one.probe, f"`{one.sha256}`") for one in work.exhibits if one.sha256]),
    ]  # fmt: skip
    for step in pending:
        lines += [f"## {step.revision}: {step.title}", *code(step.up, "sql")]
    return "\n".join(lines)


def _standing(work: Work) -> list[door.Standing]:
    return door.standing(warehouse_url(work.settings), work.settings.project)


def _last_applied(work: Work) -> str:
    applied = [one.step.revision for one in _standing(work) if one.applied]
    return applied[-1] if applied else steps.read(work.settings.project)[0].revision
