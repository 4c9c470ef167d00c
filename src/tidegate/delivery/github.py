"""What GitHub shows of a delivery: labels, milestones, a board, an issue for each card, the release; made by `gh`.

There is one script, that may be run again and again: by us where that is possible and allowed, by a person everywhere else.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import PurePosixPath

import structlog

from tidegate.delivery import board, checkout, ledger, sync
from tidegate.delivery.board import Card
from tidegate.delivery.ledger import Delivery, Release
from tidegate.delivery.markdown import code, head
from tidegate.delivery.team import Team
from tidegate.delivery.work import Work, folder, out_of_work
from tidegate.errors import StackError, UnavailableError
from tidegate.evidence.probes import ALL
from tidegate.settings import Settings
from tidegate.stores.postgres import connect
from tidegate.strategy.gate import Gate
from tidegate.strategy.model import Milestone, Strategy

log = structlog.get_logger(__name__)

NOTES = "releases/RELEASE_NOTES.md"
_GITHUB = re.compile(r"github\.com[:/](?P<owner>[\w.-]+)/(?P<name>[\w.-]+?)(?:\.git)?/?$")
_DATABASES = {"DBA": "cross-db", "PG": "postgresql", "MIG": "postgresql", "NOSQL": "mongodb", "CACHE": "redis"}
_FIELDS = {"Agent": "TEXT", "Evidence": "TEXT"}
_KINDS = ("PostgreSQL", "MongoDB", "Redis", "Cross-DB", "Migration")
_PRIORITIES = {"P0:critical": "b60205", "P1:high": "d93f0b"}
_STATES = {
    "Backlog": "cccccc", "Sprint Ready": "c5def5", "In Progress": "d93f0b", "In Review": "fbca04", "Testing": "bfd4f2",
    "Done": "0e8a16", "Blocked": "000000",
}  # fmt: skip
_PROOF = {"evidence:verified": "00c853", "evidence:missing": "ff1744"}
#: `number LIST TITLE [STATE]` finds what is there already, so that nothing is made twice.
_FUNCTIONS = (
    "set -eu",
    'number() { printf \'%s\\n\' "$1" | TITLE="$2" STATE="${3-}" awk -F "\\t" '
    '\'$3 == ENVIRON["TITLE"] && (ENVIRON["STATE"] == "" || $2 == ENVIRON["STATE"]) {print $1; exit}\'; }',
)
_LIST = "--jq '.[] | \"\\(.number)\\t\\(.state | ascii_downcase)\\t\\(.title)\"'"
_MILESTONES = f"MILESTONES=$(gh api --paginate 'repos/{{owner}}/{{repo}}/milestones?state=all&per_page=100' {_LIST})"
_ISSUES = f"ISSUES=$(gh issue list --state all --limit 1000 --json number,state,title {_LIST})"


def issues(work: Work) -> str:
    """GITHUB_ISSUES.md: one script of `gh` commands for all that GitHub is to show, run where that is possible and allowed."""
    with connect(work.settings) as connection:
        released = [one for one in ledger.releases(connection, work.delivery.delivery_id) if one.state == "released"]
    cards = board.cards(work.team, work.done, work.verdicts, work.delivery)
    script = plan(work.settings, work.team, work.strategy, cards, released[0] if released else None)
    reason = out_of_reach(work.settings)
    if reason is None:
        try:
            _run(work.settings, script)
        except UnavailableError as error:
            reason = str(error)
    told = f"Not run: {reason}." if reason else "Run: GitHub shows what stands here."
    lines = [f"{told} What is there already is not made again.", "", *code(script, "sh")]
    return "\n".join([*head(work, f"GitHub: {len(cards)} issues of {work.delivery.delivery_id}"), *lines])


def publish_release(settings: Settings, team: Team, delivery: Delivery, release: Release) -> str:
    """Make the GitHub release of a released version, once; return what came of it, in a sentence.

    Raises:
        UnavailableError: `gh` does not get through.
    """
    script = "\n".join([*_FUNCTIONS, *_release(release)])
    if reason := out_of_reach(settings):
        return f"release {release.version} is not on GitHub: {reason}; .team/GITHUB_ISSUES.md has the commands"
    _run(settings, script)
    log.info("release is on GitHub", version=release.version, team=team.name, delivery=delivery.delivery_id)
    return f"release {release.version} is on GitHub"


def out_of_reach(settings: Settings) -> str | None:
    """Say why `gh` is not run here; None where it is installed, logged in, allowed, and a remote is on GitHub."""
    if not settings.team_push:
        return "TIDEGATE_TEAM_PUSH is not true, and without it nothing leaves this machine"
    if shutil.which("gh") is None:
        return "gh is not installed"
    if _owner(settings) is None:
        return "no remote of this repository is on github.com"
    if _gh(settings, ["gh", "auth", "status"]).returncode:
        return "gh is not logged in (`gh auth login`)"
    return None


def plan(settings: Settings, team: Team, strategy: Strategy, cards: list[Card], release: Release | None) -> str:
    """Return the script: labels, milestones, project with its fields, an issue for each card, the release if there is one."""
    cards = [
        one for one in cards if out_of_work(team.roles[one.role], strategy) is None and (one.makes or one.measures)
    ]
    owner, title = _owner(settings) or "@me", f"{strategy.identity.name.text}: {team.title}"
    return "\n".join(
        [
            *_FUNCTIONS,
            *_labels(team),
            "",
            _MILESTONES,
            *(_milestone(one) for one in strategy.timeline.milestones),
            "",
            *_project(team, owner, title),
            "",
            _ISSUES,
            *(_issue(team, strategy, card, title) for card in cards),
            "",
            *_closed(strategy, cards, release),
            *(_release(release) if release else []),
        ]
    )


def _labels(team: Team) -> Iterator[str]:
    labels = dict.fromkeys((f"role:{code.lower()}" for code in team.roles), "0052cc")
    labels |= {_wave_label(wave.wave, wave.name): "5319e7" for wave in team.waves}
    labels |= {f"status:{_slug(name)}": colour for name, colour in _STATES.items()}
    labels |= _PRIORITIES | _PROOF
    labels |= {f"db:{_DATABASES[code]}": "336791" for code in team.roles if code in _DATABASES}
    for name, colour in labels.items():
        yield shlex.join(["gh", "label", "create", name, "--color", colour, "--force"])


def _milestone(one: Milestone) -> str:
    title = _titled(one)
    words = [
        "gh",
        "api",
        "--silent",
        "--method",
        "POST",
        "repos/{owner}/{repo}/milestones",
        "--raw-field",
        f"title={title}",
    ]
    words += ["--raw-field", f"description={one.deliverables.text} — {one.verified_by.text}"]
    if one.day is not None:
        words += ["--raw-field", f"due_on={one.day.isoformat()}T00:00:00Z"]
    return f'[ -n "$(number "$MILESTONES" {shlex.quote(title)})" ] || {shlex.join(words)}'


def _project(team: Team, owner: str, title: str) -> Iterator[str]:
    mine, asked = (
        shlex.join(["--owner", owner]),
        shlex.quote(f".projects[] | select(.title == {json.dumps(title)}) | .number"),
    )
    yield f"PROJECT=$(gh project list {mine} --limit 1000 --format json --jq {asked} | head -n 1)"
    yield (
        f'[ -n "$PROJECT" ] || PROJECT=$(gh project create {mine} --title {shlex.quote(title)} --format json --jq .number)'
    )
    yield f"FIELDS=$(gh project field-list \"$PROJECT\" {mine} --limit 100 --format json --jq '.fields[].name')"
    choices = {"Wave": [f"Wave {wave.wave}" for wave in team.waves], "Stage": list(_STATES)}
    if set(team.roles) & set(_DATABASES):
        choices["Database"] = list(_KINDS)
    made = {name: ["--data-type", kind] for name, kind in _FIELDS.items()}
    made |= {
        name: ["--data-type", "SINGLE_SELECT", "--single-select-options", ",".join(values)]
        for name, values in choices.items()
    }
    for name, words in made.items():
        there = f"printf '%s\\n' \"$FIELDS\" | grep -Fqx {shlex.quote(name)}"
        yield f'{there} || gh project field-create "$PROJECT" {mine} {shlex.join(["--name", name, *words])}'


def _issue(team: Team, strategy: Strategy, card: Card, project: str) -> str:
    words = ["gh", "issue", "create", "--title", _title(card), "--body", _body(team, card), "--project", project]
    labels = [f"role:{card.role.lower()}", _priority(team, card), _wave_label(card.wave, card.wave_name)]
    labels += [f"db:{_DATABASES[card.role]}"] if card.role in _DATABASES else []
    words += ["--label", ",".join([*labels, f"status:{_slug(card.column)}"])]
    if milestone := milestone_of(team, strategy, card.wave):
        words += ["--milestone", milestone]
    return f'[ -n "$(number "$ISSUES" {shlex.quote(_title(card))})" ] || {shlex.join(words)}'


def _title(card: Card) -> str:
    return f"docs({card.role.lower()}): {sync.in_words(card.makes or card.measures)} (wave {card.wave})"


def _body(team: Team, card: Card) -> str:
    files = {probe.name: probe.files for probe in ALL}
    passed = [f"- [ ] {gate.value}{_asks(team, gate, card)}" for gate in card.gates]
    lines = [
        "## Acceptance Criteria",
        *(f"- [ ] `.team/{path}`, made from the repository and the warehouse" for path in card.makes),
    ]
    lines += [*passed, "", "## Evidence Required"]
    for probe in card.measures:
        lines.append(
            f"- [ ] {probe}: {', '.join(f'`.team/evidence/{path}`' for path in files.get(probe, ())) or 'its files'}"
        )
    lines += [] if card.measures else [f"- [ ] `.team/evidence/manifests/{card.role}_manifest.md`"]
    return "\n".join([*lines, "", f"## Assigned Agent: {card.role_name} (Wave {card.wave})"])


def _asks(team: Team, gate: Gate, card: Card) -> str:
    told = [text for text in team.gates[gate].demands if text.split(" ", 1)[0] in card.measures]
    return f" ({', '.join(told)})" if told else ""


def milestone_of(team: Team, strategy: Strategy, wave: str) -> str | None:
    """Return the milestone that the work of a wave belongs to: waves are spread over milestones in order."""
    known, waves = strategy.timeline.milestones, [wave.wave for wave in team.waves]
    if not known:
        return None
    return _titled(known[waves.index(wave) * len(known) // len(waves)])


def _closed(strategy: Strategy, cards: list[Card], release: Release | None) -> Iterator[str]:
    done = [card for card in cards if card.column == "Done"]
    if done:
        yield _ISSUES
    for card in done:
        asked = f'$(number "$ISSUES" {shlex.quote(_title(card))} open)'
        passed = ", ".join(gate.value for gate in card.gates) or "its manifest is verified"
        words = shlex.join(["--comment", f"Done: {passed}."])
        yield f'[ -z "{asked}" ] || gh issue close "{asked}" {words}'
    if release:
        yield _MILESTONES
        for one in strategy.timeline.milestones:
            asked = f'$(number "$MILESTONES" {shlex.quote(_titled(one))} open)'
            path = '"repos/{owner}/{repo}/milestones/' + asked + '"'
            yield f'[ -z "{asked}" ] || gh api --silent --method PATCH {path} --raw-field state=closed'


def _release(release: Release) -> Iterator[str]:
    tag = shlex.quote(f"v{release.version}")
    words = ["--title", f"v{release.version}", "--notes-file", f".team/{NOTES}", "--target", release.code_version]
    yield f"gh release view {tag} --json tagName >/dev/null 2>&1 || gh release create {tag} {shlex.join(words)}"


def _priority(team: Team, card: Card) -> str:
    blocks = any(card.role in (*rules.again, *rules.artifacts_of) for rules in team.gates.values())
    return "P0:critical" if blocks else "P1:high"


def _titled(one: Milestone) -> str:
    return f"{one.number.text}: {one.name.text}"


def _wave_label(wave: str, name: str) -> str:
    return f"wave:{wave}-{_slug(name)}"


def _slug(words: str) -> str:
    return words.lower().replace(" ", "-")


def _owner(settings: Settings) -> str | None:
    """Return whose repository the remote is that is pushed to; None where it is not on GitHub."""
    name = checkout.remote(settings.project)
    if name is None:
        return None
    found = _GITHUB.search(checkout.git(settings.project, "remote", "get-url", name))
    return found["owner"] if found else None


def _run(settings: Settings, script: str) -> None:
    if script.find(NOTES) > 0 and not (folder(settings) / PurePosixPath(NOTES)).exists():
        raise StackError(f".team/{NOTES} is not there, and a release without notes is none")
    done = _gh(settings, ["sh", "-c", script])
    if done.returncode:
        raise UnavailableError(f"gh does not get through: {' '.join(done.stderr.split())[-400:] or 'no reason given'}")


def _gh(settings: Settings, words: list[str]) -> subprocess.CompletedProcess[str]:
    # It asks nobody: there is nobody at the terminal.
    environment = {**os.environ, "GH_PROMPT_DISABLED": "1", "GH_NO_UPDATE_NOTIFIER": "1", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        words,
        cwd=settings.project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
