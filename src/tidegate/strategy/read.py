"""From document to strategy: which section, label and column is which value. Nothing is judged here but whether it is there.

`look` returns what can be read together with every problem; `read` insists that there is none.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import StrategyError
from tidegate.strategy import document
from tidegate.strategy.document import Block, Entry, Item, Problem, Section, key
from tidegate.strategy.form import Form
from tidegate.strategy.model import (
    Audience,
    AutoSync,
    Constraints,
    Cost,
    Feature,
    Features,
    Identity,
    Integration,
    Kpi,
    Milestone,
    OutOfScope,
    Payment,
    Persona,
    Preservation,
    Proof,
    Purpose,
    Reference,
    References,
    Risk,
    Scaling,
    Statement,
    Strategy,
    Success,
    Technical,
    Testing,
    Timeline,
)  # fmt: skip

VERSION = "v3.1"
SECTIONS = (
    "Project Identity", "Target Audience", "Core Features", "Technical Constraints", "Non-Functional Requirements",
    "Testing Requirements", "Timeline & Milestones", "Cost Approval & Payment Governance", "Success Criteria",
    "Reference & Inspiration", "Out of Scope", "Risk & Constraints", "Dynamic Agent Scaling", "Evidence & Proof Requirements",
    "Data Preservation & Uncertainty Policy", "GitHub Auto-Sync Policy", "Additional Context",
)  # fmt: skip
#: Of the requirements; those that no target is expected under may hold any prose.
GROUPS = ("Performance", "Security", "Scalability", "Availability", "Accessibility", "Observability")
_MEASURED = ("Performance", "Availability")
_EXPECTED = re.compile(r"^(expected|current)\b", re.I)
_ALERT = re.compile(r"\balert", re.I)


@dataclass(frozen=True)
class Look:
    """A strategy as far as it can be read, what cannot, and the lines of labels that nobody knows."""

    strategy: Strategy
    problems: tuple[Problem, ...]
    unread: tuple[Entry, ...]


def read(path: Path) -> Strategy:
    """Return the strategy that a file holds; what is still to be filled in is no problem here.

    Raises:
        StrategyError: it cannot be read, or not all of it; each problem is a line of the message.
    """
    found = look(path)
    if found.problems:
        raise StrategyError(
            "\n".join(f"{path}:{problem.line}: {str(problem).partition(': ')[2]}" for problem in found.problems)
        )
    return found.strategy


def look(path: Path) -> Look:
    """Return what can be read of a file, with every problem.

    Raises:
        StrategyError: it cannot be read at all.
    """
    return _Reader(document.parse(document.text_of(path))).run(path)


class _Reader(Form):
    def run(self, path: Path) -> Look:
        self._title()
        self._sections()
        strategy = Strategy(
            path, self.document.title, self._team(), self._identity(), self._audience(), self._features(), self._technical(),
            tuple(self._requirements()), self._testing(), self._timeline(), self._cost(), self._success(), self._references(),
            self._scope(), self._constraints(), self._scaling(), self._proof(), self._preservation(), self._autosync(),
            self._context(),
        )  # fmt: skip
        blocks = (block for section in self.sections.values() for block in section.blocks)
        unread = tuple(
            Entry(f"**{block.label}**", block.line) for block in blocks if block.label and id(block) not in self.seen
        )
        return Look(strategy, tuple(sorted(dict.fromkeys(self.problems), key=lambda problem: problem.line)), unread)

    def _title(self) -> None:
        title = self.document.title
        if not title.text.endswith(f"Strategy {VERSION}"):
            found = f"the title {title.text!r}" if title.text else "no title"
            self.problem(title.line, found, f"`# … — Tailored Strategy {VERSION}`", "no other form is read here")

    def _team(self) -> Entry:
        for entry in self.document.head:
            named = re.search(r"--team\s+(\w+)", entry.text)
            if named:
                return Entry(named[1], entry.line)
        self.problem(self.document.title.line, "no team above the first section", "`--team databaseEng`, say, in a remark",
                      "add the line `> Activate: --team NAME`")  # fmt: skip
        return Entry("", self.document.title.line)

    def _sections(self) -> None:
        known = {key(title): title for title in SECTIONS}
        for section in self.document.sections:
            title = known.get(key(section.title))
            if title is None:
                near = difflib.get_close_matches(key(section.title), known, 1)
                advice = (
                    f"did you mean {known[near[0]]!r}?"
                    if near
                    else "put it under one of them, or into Additional Context"
                )
                self.problem(section.line, f"the heading {section.title!r}", f"one of {', '.join(SECTIONS)}", advice)
            elif title in self.sections:
                self.problem(
                    section.line,
                    f"the section {title!r} again",
                    f"it once (line {self.sections[title].line})",
                    "join the two",
                )
            else:
                self.sections[title] = section
        for title in SECTIONS:
            if title not in self.sections:
                advice = "add it; `team strategy new` shows the form"
                self.problem(self.document.end, f"no section {title!r}", "every section of the form", advice)
                self.sections[title] = Section(title, self.document.end, [Block("", self.document.end)])
                self.absent.add(title)

    def _identity(self) -> Identity:
        labels = (
            "Project Name",
            "One-Line Vision",
            "Problem Statement",
            "Desired Outcome",
            "Project Type",
            "Repository",
        )
        return Identity(*(self.text("Project Identity", label) for label in labels))

    def _audience(self) -> Audience:
        title = "Target Audience"
        self.find(title, "User Personas", optional=True)
        rows = self.rows(title, "personas", "Persona", "Role", "Pain Points", "Goals", "Tech Savvy")
        personas = tuple(Persona(*cells) for cells in rows)
        primary, secondary = self.text(title, "Primary Users"), self.text(title, "Secondary Users")
        return Audience(primary, secondary, personas, self.text(title, "Anti-Users"))

    def _features(self) -> Features:
        title, columns = "Core Features", ("Feature", "#", "Description", "Acceptance Criteria", "Complexity")
        found: dict[str, tuple[Feature, ...]] = {}
        for priority in ("P0", "P1", "P2"):
            blocks = [
                block for block in self.sections[title].blocks if key(block.label).split(" ")[0] == priority.lower()
            ]
            self.seen.update(map(id, blocks))
            if not blocks:
                if priority == "P0" and title not in self.absent:
                    self.problem(self.sections[title].line, "no features of P0", "`### P0 — Must-Have (Launch Blockers)`",
                                  "add the heading, and a table under it")  # fmt: skip
                found[priority] = ()
                continue
            asked = columns[:3] if priority == "P2" else columns
            cells = [
                row
                for block in blocks
                for row in self.rows(title, f"{priority} features", *asked, block=block, needed=priority == "P0")
            ]
            found[priority] = tuple(Feature(number, name, *rest) for name, number, *rest in cells)
        for feature in (*found["P0"], *found["P1"]):
            if feature.complexity:
                self.one_of(feature.complexity, "complexity", "S", "M", "L", "XL")
        return Features(found["P0"], found["P1"], found["P2"])

    def _technical(self) -> Technical:
        title = "Technical Constraints"
        self.find(title, "Integrations")
        rows = self.rows(title, "integrations", "Service", "Purpose", "Auth Method", "Rate Limits")
        return Technical(
            self.named(title, "Required Tech Stack"), self.named(title, "Hosting/Infrastructure"),
            tuple(Integration(*cells) for cells in rows), self.text(title, "Existing Codebase"), self.text(title, "Package Manager"),
            self.text(title, "Repo Structure", "Monorepo or Polyrepo"), self.items(title, "Linting", optional=True),
        )  # fmt: skip

    def _requirements(self) -> Iterator[Statement]:
        title = "Non-Functional Requirements"
        for group in GROUPS:
            items = self.items(title, group, optional=group == "Accessibility")
            said = []
            for item in items:
                alert, expected = _ALERT.search(item.text), _EXPECTED.match(item.text)
                purpose: Purpose = "alert" if alert else "expected" if expected else "target"
                said.append(self.statement(group, item, purpose, strict=group in _MEASURED))
            if group in _MEASURED and said and not any(one.targets or one.entry.blank for one in said):
                self.problem(
                    items[0].line, f"no number under **{group}**", "a target such as `RTO: < 15 minutes`", "add one"
                )
            yield from said

    def _testing(self) -> Testing:
        title = "Testing Requirements"
        coverage = self.text(title, "Test Coverage Target")
        return Testing(
            self.amount(coverage, "Test Coverage Target", "target", ">= 80%"),
            tuple(self.statement("Required Test Types", item) for item in self.boxes(title, "Required Test Types")),
            self.boxes(title, "CI/CD Requirements"), self.text(title, "Testing Tools"),
        )  # fmt: skip

    def _timeline(self) -> Timeline:
        title = "Timeline & Milestones"
        self.find(title, "Milestones")
        rows = self.rows(title, "milestones", "Milestone", "#", "Target Date", "Deliverables", "Success Criteria")
        milestones = tuple(
            Milestone(number, name, due, deliverables, verified_by, self.day(due))
            for name, number, due, deliverables, verified_by in rows
        )
        deadline = self.text(title, "Hard Deadline")
        flexible = deadline.text.casefold().startswith(("flexible", "none", "n/a"))
        return Timeline(deadline, milestones, self.named(title, "Budget Constraints", money=True),
                        None if flexible else self.day(deadline))  # fmt: skip

    def _cost(self) -> Cost:
        title = "Cost Approval & Payment Governance"
        rules = self.find(title, "Payment Authorization Rules")
        self.find(title, "External Service Payments")
        rows = self.rows(title, "payments", "Service", "Expected Cost", "Payment Method", "Pre-Approved?")
        forbidden = self.item(rules, "Forbidden without user present")
        return Cost(
            self.amount(self.text(title, "Token Budget Tolerance"), "Token Budget Tolerance", "money", "< $5 per run"),
            self.amount(self.item(rules, "Auto-approve threshold"), "Auto-approve threshold", "money", "$0"),
            self.item(rules, "Requires explicit approval"),
            Statement("", "Forbidden without user present", forbidden, self.targets("", forbidden, "money")),
            tuple(Payment(*cells) for cells in rows), self.text(title, "Cost Estimation Detail Level"),
            self.text(title, "If costs exceed estimate", "What happens if actual costs exceed estimate?"),
        )  # fmt: skip

    def _success(self) -> Success:
        title = "Success Criteria"
        launch = tuple(self.statement("Launch Criteria", item) for item in self.boxes(title, "Launch Criteria"))
        if not launch and title not in self.absent:
            self.problem(
                self.sections[title].line, "no launch criteria", "`- [ ] …` under **Launch Criteria**", "add them"
            )
        self.find(title, "KPIs")
        kpis = []
        for metric, target, method in self.rows(title, "KPIs", "Metric", "Target", "How to Measure"):
            name = "" if metric.blank else metric.text
            kpis.append(Kpi(metric, target, method, self.targets(name, target, "target", counts=True)))
        return Success(launch, tuple(kpis), self.text(title, "Definition of Done"))

    def _references(self) -> References:
        title = "Reference & Inspiration"
        self.find(title, "Competitor/Reference Products")
        rows = self.rows(title, "products", "Product", "What to Learn", "What to Avoid")
        products = tuple(Reference(*cells) for cells in rows)
        internal = self.text(title, "Internal Documentation", optional=True)
        return References(products, self.text(title, "Design Inspiration"), self.text(title, "Technical References"),
                          internal if internal.text else None)  # fmt: skip

    def _scope(self) -> OutOfScope:
        return OutOfScope(
            self.items("Out of Scope", "Explicitly NOT building"),
            self.items("Out of Scope", "Deferred to future versions", optional=True),
        )

    def _constraints(self) -> Constraints:
        title = "Risk & Constraints"
        self.find(title, "Known Risks")
        risks = tuple(
            Risk(*cells) for cells in self.rows(title, "risks", "Risk", "Probability", "Impact", "Mitigation")
        )
        for risk in risks:
            self.one_of(risk.probability, "probability", "H", "M", "L")
            self.one_of(risk.impact, "impact", "H", "M", "L")
        return Constraints(
            risks, self.items(title, "Hard Constraints"), self.items(title, "Soft Constraints", optional=True)
        )

    def _scaling(self) -> Scaling:
        title = "Dynamic Agent Scaling"
        most = self.text(title, "Max concurrent agents")
        if not most.blank and not most.text.isdecimal():
            self.problem(most.line, f"{most.text!r} as the number of agents", "a whole number", "write one, such as 15")
        triggers = self.items(title, "Scaling triggers")
        return Scaling(
            self.text(title, "Allow PM to spawn extra agents?"), most,
            tuple(self.statement("Scaling triggers", item, "trigger", counts=True) for item in triggers),
            self.boxes(title, "Agent types the PM may add"), self.items(title, "Scaling constraints"),
            int(most.text) if most.text.isdecimal() else None,
        )  # fmt: skip

    def _proof(self) -> Proof:
        title = "Evidence & Proof Requirements"
        evidence = self.boxes(title, "Required evidence", "What proof do you need from the team?")
        return Proof(evidence, self.text(title, "Reporting Frequency"), self.text(title, "Final Deliverable"))

    def _preservation(self) -> Preservation:
        title = "Data Preservation & Uncertainty Policy"
        block = self.find(title, "Uncertainty Escalation")
        bare = Block(block.label, block.line, items=[_without_kind(item) for item in block.items])
        unsure = self.item(bare, "What counts as", optional=True)
        threshold = self.item(bare, "Threshold")
        return Preservation(
            self.named(title, "Data Preservation"), self.amount(threshold, "Threshold", "certainty", "< 90%"),
            self.item(bare, "Response time"), self.item(bare, "Format"), unsure if unsure.text else None,
        )  # fmt: skip

    def _autosync(self) -> AutoSync:
        title = "GitHub Auto-Sync Policy"
        strategy = self.find(title, "Branch strategy for auto-sync", optional=True)
        if strategy.label:
            branch, merge = self.item(strategy, "Working branch"), self.item(strategy, "Merge to main")
        else:
            branch, merge = self.text(title, "Branch"), self.text(title, "Merge to main")
        return AutoSync(
            self.text(title, "Auto-sync frequency"), self.text(title, "Auto-push enabled?"), branch, merge,
            self.boxes(title, "What gets auto-synced"),
        )  # fmt: skip

    def _context(self) -> Entry:
        """Return all of the last section, whatever its form."""
        told = []
        for block in self.sections["Additional Context"].blocks:
            self.seen.add(id(block))
            told += [Entry(block.label, block.line)] if block.label else []
            told += [entry for entry in block.texts if entry.text] + list(block.items)
        told.sort(key=lambda entry: entry.line)
        return Entry(
            "\n".join(entry.text for entry in told), told[0].line if told else self.sections["Additional Context"].line
        )


def _without_kind(item: Item) -> Item:
    """Return an item whose label may say what it belongs to: `Escalation threshold`, `Preferred escalation format`."""
    label = re.sub(r"^(preferred )?escalation ", "", item.label, flags=re.I)
    return Item(item.text, item.line, item.checked, label)
