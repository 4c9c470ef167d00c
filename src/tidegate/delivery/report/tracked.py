"""The sections that tell of the work itself: evidence by role, commits, the board's pace, what stands in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from tidegate.delivery import board, manifest
from tidegate.delivery.report.facts import Commit, Facts, cells, duration, many, shown
from tidegate.delivery.report.model import Absent, Cell, Chart, Figure, Row, Section, Table
from tidegate.gates.verdict import Decision
from tidegate.strategy.gate import Gate

#: What is called a reporting period, as long as reports are apart in a long run.
PERIOD = timedelta(hours=6)
_DAYS = 14
_NEWEST = 15


def evidence(facts: Facts) -> Section:
    """Evidence Dashboard: how much each role has shown, and whether it still is what it was."""
    rows, chart, verified, due = [], list[Row](), 0, 0
    for code, role in facts.team.roles.items():
        mine = [one for one in facts.exhibits if one.role == code]
        taken, absent = sum(one.sha256 is not None for one in mine), sum(one.sha256 is None for one in mine)
        made = {path for one in facts.work if one.role == code for path in one.artifacts}
        path = manifest.place(facts.root, code)
        skipped = next((one.reason for one in facts.work if one.role == code and one.state == "skipped"), None)
        decision: Decision | None = None
        if skipped is not None:
            status = f"skipped: {skipped}"
        elif not path.exists():
            status = "not yet"
        else:
            status, decision = "VERIFIED", "PASS"
            # As the gate has it: what could not be measured is a warning, what was changed is not.
            if worst := min(facts.findings(code), key=lambda one: one.missing, default=None):
                word, decision = ("VERIFIED, but", "WARN") if worst.missing else ("UNVERIFIED", "FAIL")
                status = f"{word}: {worst.path} {worst.told}".replace("  ", " ")
            due, verified = due + 1, verified + (decision != "FAIL")
        link = str(path.relative_to(facts.root)) if path.exists() else facts.source
        rows.append(cells([code, role.name, len(made), taken, absent, Cell(status, "", decision)], link))
        chart += [
            {"name": code, "value": number, "series": series}
            for series, number in (("artifacts", len(made)), ("evidence files", taken), ("not measured", absent))
            if number
        ]
    files = [one for one in facts.exhibits if one.sha256]
    reasons = [one for one in facts.exhibits if one.reason is not None]
    changed = [one for one in files if facts.doubt(one)]
    figures = (
        Figure("Evidence files", shown(len(files)), "files", facts.source),
        Figure("Artifacts", shown(sum(len(one.artifacts) for one in facts.work)), "files", facts.source),
        Figure(
            "Manifests verified",
            f"{verified} of {due}",
            "roles",
            facts.source,
            "all",
            None if not due else "PASS" if verified == due else "FAIL",
        ),
        Figure("Probes that left nothing", shown(len(reasons)), "probes", facts.source),
        Figure(
            "Files gone or changed", shown(len(changed)), "files", facts.source, "= 0", "FAIL" if changed else "PASS"
        ),
    )
    charts = (
        Chart("stack", "Artifacts and evidence by role", "How many files each role has left for this delivery", "files",
              tuple(chart), facts.source, ("artifacts", "evidence files", "not measured")),
    ) if chart else ()  # fmt: skip
    absent_ones = tuple(Absent(one.probe, one.reason or "") for one in reasons)
    table = Table(
        "Evidence by role", ("Role", "Name", "Artifacts", "Evidence", "Not measured", "Manifest"), tuple(rows)
    )
    if not files:
        sentence = "No role has left any evidence yet"
    elif changed:
        sentence = f"{len(changed)} of {len(files)} evidence files are not what was measured: {changed[0].path}"
    else:
        sentence = f"{len(files)} evidence files are there and unchanged; {verified} of {due} manifests are verified"
    if not files and not reasons:
        absent_ones = (
            Absent("Evidence", f"no role has ended its measuring: the delivery is in wave {facts.delivery.wave}"),
        )
    return Section(2, "Evidence Dashboard", sentence, figures, charts, (table,), absent_ones)


def commits(facts: Facts) -> Section:
    """Commit Activity: what is delivered, and what roles have written meanwhile, with the issues that they name."""
    tables: list[Table] = []
    charts: list[Chart] = []
    absent: list[Absent] = []
    figures: list[Figure] = []
    delivered, written = facts.delivered, facts.written
    if isinstance(delivered, str):
        absent.append(Absent("Commits delivered", delivered))
        delivered = []
    else:
        people = {one.author for one in delivered}
        figures += [
            Figure("Commits delivered", shown(len(delivered)), "commits", facts.source, note="since the last version"),
            Figure("Authors", shown(len(people)), "people", facts.source),
        ]
        kinds = Counter(
            one.subject.partition(":")[0].partition("(")[0].rstrip("!") for one in delivered if ":" in one.subject
        )
        tables.append(
            Table(
                "Delivered, by type",
                ("Type", "Commits"),
                tuple(cells([kind, many], facts.source) for kind, many in kinds.most_common(8)),
            )
        )
        days = Counter(one.at[:10] for one in delivered)
        charts.append(
            Chart(
                "columns", "Commits by day", f"Delivered commits of the last {min(len(days), _DAYS)} days on which there were any", "commits",
                tuple({"name": day, "value": many} for day, many in sorted(days.items())[-_DAYS:]), facts.source,
            )
        )  # fmt: skip
    if isinstance(written, str):
        absent.append(Absent("Commits by wave and agent", f"no role has committed anything yet: {written}"))
        written = []
    elif not written:
        absent.append(Absent("Commits by wave and agent", "no role has committed anything since this delivery began"))
    if written:
        by_both = Counter((one.wave or "?", one.agent or one.author) for one in written)
        rows = [
            cells([f"wave {wave}", agent, many, _issues([c for c in written if (c.wave or "?", c.agent or c.author) == (wave, agent)])], facts.source)
            for (wave, agent), many in sorted(by_both.items())
        ]  # fmt: skip
        tables.append(Table("Written by roles", ("Wave", "Agent", "Commits", "Issues"), tuple(rows)))
        charts.append(
            Chart(
                "stack", "Commits by agent and wave", "What roles have committed while this delivery ran", "commits",
                tuple({"name": agent, "value": many, "series": f"wave {wave}"} for (wave, agent), many in sorted(by_both.items())), facts.source,
            )
        )  # fmt: skip
        figures.append(
            Figure("Commits by roles", shown(len(written)), "commits", facts.source, note="while this delivery ran")
        )
    both = [*written, *delivered]
    if both:
        figures.append(
            Figure("Issues named", shown(len({issue for one in both for issue in one.issues})), "issues", facts.source)
        )
        newest = [
            cells(
                [
                    Cell(one.sha[:10], facts.source),
                    one.at[:16].replace("T", " "),
                    one.agent or one.author,
                    one.subject,
                    _issues([one]),
                ]
            )
            for one in both[:_NEWEST]
        ]
        tables.append(Table("The newest", ("Commit", "When", "Who", "Subject", "Issues"), tuple(newest)))
    told = [
        f"{shown(len(delivered))} commits are delivered" if delivered else "",
        f"roles have written {shown(len(written))}" if written else "",
    ]
    sentence = "; ".join(filter(None, told)) or "Git names no commit of this delivery"
    return Section(
        4,
        "Commit Activity",
        sentence,
        tuple(figures),
        tuple(charts),
        tuple(one for one in tables if one.rows),
        tuple(absent),
    )


def kanban(facts: Facts) -> Section:
    """Kanban Velocity: where the cards stand, how many were done in each period, how they burned down."""
    seen, history = facts.cards, facts.moves
    by_column = Counter(card.column for card in seen)
    done = by_column["Done"]
    pace = board.velocity(history, PERIOD, facts.until)
    steps = board.burn_down(history)
    figures = (
        Figure("Cards done", f"{done} of {len(seen)}", "cards", facts.source),
        Figure(
            "Done in this period",
            shown(pace[-1][1] if pace else 0),
            "cards",
            facts.source,
            note=f"of {duration(PERIOD.total_seconds())}",
        ),
        Figure("Moves", shown(len(history)), "moves", facts.source, note="of all cards so far"),
        Figure("In progress", shown(by_column["In Progress"]), "cards", facts.source),
        Figure(
            "Blocked",
            shown(by_column["Blocked"]),
            "cards",
            facts.source,
            "= 0",
            "FAIL" if by_column["Blocked"] else "PASS",
        ),
    )
    charts = (
        Chart("steps", "Burn-down", "Cards that were not done, whenever one moved", "cards",
              tuple({"name": one.at.isoformat(), "value": one.left} for one in steps), facts.source),
        Chart("bars", "Cards by column", "Where the cards stand", "cards",
              tuple({"name": column, "value": by_column[column]} for column in board.COLUMNS), facts.source),
    )  # fmt: skip
    tables = [
        Table(
            "Cards",
            ("Card", "Role", "Makes", "Column"),
            tuple(
                cells([card.name, card.role_name, _made(card), Cell(card.column, "", _grave(card))], facts.source)
                for card in seen
            ),
        ),
        Table(
            "Blocked cards",
            ("Card", "Why"),
            tuple(cells([card.name, card.reason], facts.source) for card in seen if card.column == "Blocked"),
        ),
        Table(
            f"Cards done by period of {duration(PERIOD.total_seconds())}",
            ("From", "Done"),
            tuple(cells([f"{at:%Y-%m-%d %H:%M} UTC", many], facts.source) for at, many in pace),
        ),
    ]
    sentence = f"{done} of {len(seen)} cards are done"
    sentence += f", {by_column['Blocked']} are blocked" if by_column["Blocked"] else " and none is blocked"
    return Section(10, "Kanban Velocity", sentence, figures, charts, tuple(one for one in tables if one.rows))


def blocking(facts: Facts) -> Section:
    """Blocking Issues: how long what stood still, what gates refuse and who can change that, what people were asked."""
    spent = board.time_in("Blocked", facts.moves, facts.until)
    failed = [one for one in facts.verdicts if one.verdict == "FAIL"]
    waived = [one for one in facts.approvals if one.kind == "waiver" and one.decision == "approve"]
    refused = [one for one in facts.approvals if one.decision == "reject"]
    again = [one for one in facts.work if one.attempt > 1]
    total = sum(spent.values(), timedelta()).total_seconds()
    figures = (
        Figure("Rules that fail now", shown(len(failed)), "rules", facts.source, "= 0", "FAIL" if failed else "PASS"),
        Figure("Time blocked, all cards", duration(total), "", facts.source),
        Figure("Work done again", shown(len(again)), "attempts", facts.source),
        Figure("Escalated to people", shown(len(facts.approvals)), "decisions", facts.source),
        Figure("Waivers", shown(len(waived)), "rules", facts.source),
        Figure("Rejections", shown(len(refused)), "decisions", facts.source),
    )
    files = {one.sha256: facts.link(one) for one in facts.exhibits if one.sha256}
    tables = [
        Table(
            "What gates refuse",
            ("Gate", "Rule", "Found", "Expected", "Written in", "Whose turn"),
            tuple(
                cells([one.gate, one.rule, one.value, one.target, facts.written_in(one.target_source), whose(facts, one.gate)], files.get(one.evidence_sha256 or "", facts.source), "FAIL")
                for one in failed
            ),
        ),
        Table(
            "Time blocked",
            ("Card", "Blocked for", "Now", "Why"),
            tuple(
                cells([card.name, duration(spent[card.name].total_seconds()), card.column, card.reason if card.column == "Blocked" else "resolved"], facts.source)
                for card in facts.cards if card.name in spent
            ),
        ),
        Table(
            "What people decided",
            ("Asked", "About", "Decision", "By", "Why", "When"),
            tuple(
                cells([one.kind, one.subject, one.decision, one.decided_by, one.why, f"{one.decided_at:%Y-%m-%d %H:%M} UTC"], facts.source)
                for one in facts.approvals
            ),
        ),
        Table(
            "Releases",
            ("Version", "State", "From", "To", "Backup", "Why"),
            tuple(
                cells([one.version, one.state, one.from_revision, one.to_revision, one.backup_id or "none", one.reason or ""], facts.source)
                for one in facts.releases
            ),
        ),
    ]  # fmt: skip
    longest = sorted(
        ((name, time) for name, time in spent.items() if time.total_seconds() >= 1), key=lambda pair: -pair[1]
    )[:10]
    charts = (
        Chart("bars", "Minutes blocked", "How long each card could not go on", "min",
              tuple({"name": name, "value": round(time.total_seconds() / 60, 2)} for name, time in longest), facts.source),
    ) if longest else ()  # fmt: skip
    stuck = sum(card.column == "Blocked" for card in facts.cards)
    if failed or stuck:
        told = [
            f"{len(failed)} rules of {len({one.gate for one in failed})} gates fail" if failed else "",
            f"{stuck} cards are blocked" if stuck else "",
        ]
        sentence = " and ".join(filter(None, told))
    elif facts.delivery.state in ("waiting", "paused"):
        sentence = f"The delivery is {facts.delivery.state}: {facts.delivery.reason or 'no reason is written down'}"
    else:
        sentence = "Nothing stands in the way"
    return Section(11, "Blocking Issues", sentence, figures, charts, tuple(one for one in tables if one.rows))


def whose(facts: Facts, gate: str) -> str:
    """Return who can change what a gate says."""
    rules = facts.team.gates.get(Gate(gate))
    if rules is None:
        return "nobody of this team"
    if rules.hard_stop:
        return "a person: the delivery stops here"
    return ", ".join(rules.again) or ", ".join(dict.fromkeys(rules.artifacts_of)) or "a person"


def _issues(found: Sequence[Commit]) -> str:
    return ", ".join(dict.fromkeys(issue for one in found for issue in one.issues)) or "none"


def _made(card: board.Card) -> str:
    told = [
        many(len(card.makes), "files") if card.makes else "",
        many(len(card.measures), "probes") if card.measures else "",
    ]
    return ", ".join(filter(None, told)) or card.wave_name


def _grave(card: board.Card) -> Decision | None:
    return "PASS" if card.column == "Done" else "FAIL" if card.column == "Blocked" else None
