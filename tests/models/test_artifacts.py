"""Every artifact of the roles that engineer, test, document and look after the law, made over a real warehouse."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import CHECKOUT, KEYS, OWNER, PASSWORD
from tests.models.conftest import Build
from tests.models.delivered import MONTH, REHEARSED, Delivered, begun

from tidegate.delivery import team
from tidegate.delivery.roles import qa
from tidegate.evidence.probes import ALL
from tidegate.gates.verdict import Verdict
from tidegate.stack import postgres_tuning
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.roles import ROLES
from tidegate.stores.postgres import connect
from tidegate.strategy.gate import Gate

#: Whose artifacts are made of a delivery, not of the warehouse.
LEADING = ("TL", "PM", "RM")
MAKERS = ("DBA", "PG", "CACHE", "MIG", "QA", "MKT", "LEGAL")
GATES = (
    "Schema Validation Gate", "Migration Reversibility Gate", "Query Performance Gate", "pgTAP Test Gate", "Evidence Complete",
    "Load Test Gate", "Failover Gate", "CI Validation Gate", "No Secrets Gate", "Data Compliance Gate",
)  # fmt: skip


@pytest.fixture(scope="module")
def delivered(postgres: PostgresServer, built: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivered]:
    """All artifacts, made once."""
    assert built.status == 0, built.output
    folder = tmp_path_factory.mktemp("delivered")
    passwords = folder / "pgpass"
    passwords.write_text("".join(f"*:*:*:{role}:{PASSWORD}\n" for role in (*ROLES, OWNER)))
    passwords.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch, begun(postgres, folder) as found:
        patch.setenv("PGPASSFILE", str(passwords))
        for code in MAKERS:
            found.make(code)
        yield found


@pytest.fixture(scope="module")
def all_teams(delivered: Delivered) -> dict[str, Delivered]:
    """The artifacts of every team but those of planning and release, by the team's name."""
    found = {"database": delivered}
    for name in team.names(delivered.settings.project):
        if name not in found:
            found[name] = Delivered(delivered.settings, team.load(delivered.settings.project, name), delivered.delivery)
            for code in found[name].team.roles:
                if code not in LEADING:
                    found[name].make(code)
    return found


def prose(text: str) -> str:
    """What somebody has written to be read: no heading, table, diagram or code, and not the line of where it comes from."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    lines = [
        line for line in text.splitlines() if not line.startswith(("#", "|", "- ")) and " · delivery `" not in line
    ]
    return "\n".join(lines)


def test_every_team_has_all_gates_and_its_roles_artifacts_are_made(all_teams: dict[str, Delivered]) -> None:
    assert all_teams.keys() == {"database", "data", "python"}
    for one in all_teams.values():
        assert set(one.team.gates) == set(Gate)
        asked = [
            p
            for code, role in one.team.roles.items()
            if code not in LEADING
            for ps in role.artifacts.values()
            for p in ps
        ]
        needed = {path for path in asked if one.team.roles.get("NOSQL") is None or "mongodb" not in path}
        assert set(one.made) == needed
        known = {probe.name for probe in ALL}
        assert {p for role in one.team.roles.values() for ps in role.evidence.values() for p in ps} <= known


def test_every_artifact_of_these_roles_is_made(delivered: Delivered) -> None:
    asked = [path for code in MAKERS for paths in delivered.team.roles[code].artifacts.values() for path in paths]
    assert len(asked) >= 30
    assert set(delivered.made) == set(asked)


def test_no_section_is_empty(all_teams: dict[str, Delivered]) -> None:
    empty = []
    made = [(path, text) for one in all_teams.values() for path, text in one.made.items() if path.endswith(".md")]
    for path, text in made:
        parts = re.split(r"^(#+ .*)$", re.sub(r"```.*?```", "code", text, flags=re.S), flags=re.M)[1:]
        sections = list(zip(parts[::2], parts[1::2], strict=True))
        for (title, body), (following, _) in itertools.pairwise([*sections, ("# end", "")]):
            goes_deeper = following.count("#", 0, 4) > title.count("#", 0, 4)
            if not body.strip() and not goes_deeper:
                empty.append(f"{path}: {title}")
    assert empty == []


def test_links_lead_to_files_that_are_there(all_teams: dict[str, Delivered]) -> None:
    links = [
        (path, target)
        for one in all_teams.values()
        for path, text in one.made.items()
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text)
    ]
    assert len(links) > 300
    folder = all_teams["database"].settings.project / ".team"
    assert [(path, target) for path, target in links if not (folder / Path(path).parent / target).exists()] == []


@pytest.mark.parametrize("name", ["database", "data", "python"])
def test_no_sentence_stands_in_two_artifacts(all_teams: dict[str, Delivered], name: str) -> None:
    where = defaultdict(set)
    for path, text in all_teams[name].made.items():
        for sentence in re.split(r"(?<=[.:;?!])\s+", prose(text)):
            words = " ".join(re.findall(r"\w+", sentence.lower()))
            if len(words.split()) > 8:
                where[words].add(path)
    assert len(where) > 30
    assert {words: paths for words, paths in where.items() if len(paths) > 1} == {}


def test_neither_secrets_nor_classified_values_get_into_artifacts(
    delivered: Delivered, all_teams: dict[str, Delivered]
) -> None:
    settings = delivered.settings
    columns = ("passenger_name", "email", "phone", "document_number")
    text = "\n".join(text for one in all_teams.values() for text in one.made.values())
    with connect(settings) as connection:
        connection.execute("SELECT ops.enter_all()")
        names = {
            row["passenger_name"] for row in connection.execute("SELECT passenger_name FROM raw.bookings").fetchall()
        }
    values = set(names)
    for line in _delivered_lines(settings.inbox_path):
        values |= {value for value in line.split(",") if "@" in value}
    assert len(values) > 200
    assert [value for value in values if value in text] == []
    assert PASSWORD not in text
    assert KEYS.partition(":")[2] not in text
    assert all(column in text for column in columns), "they are told of by name"


def _delivered_lines(inbox: Path) -> list[str]:
    import gzip

    (file,) = inbox.rglob(f"bookings-{MONTH}.csv.gz")
    return gzip.decompress(file.read_bytes()).decode().splitlines()


def test_a_figure_is_that_of_the_file_it_links_to(delivered: Delivered) -> None:
    rows = REHEARSED["migration_full_chain"]["tests/integration/migration_full_chain.log"]["rows"]
    assert (
        f"| {rows:,} | [tests/integration/migration_full_chain.log]("
        in delivered.made["migrations/MIGRATION_STRATEGY.md"]
    )
    assert "BCNF" in delivered.made["data-architecture/NORMALIZATION_DECISIONS.md"]


def test_the_workflow_of_a_delivery_is_the_checkouts_and_says_of_which(delivered: Delivered) -> None:
    told, _, workflow = delivered.made["ci/.github/workflows/database.yml"].partition("\n")
    assert delivered.delivery.delivery_id in told
    assert workflow == (CHECKOUT / ".github/workflows/database.yml").read_text()


def test_what_was_not_measured_is_said_with_its_reason(delivered: Delivered) -> None:
    text = delivered.made["redis/CACHING_STRATEGY.md"]
    assert "not measured yet: QA in wave 3 runs" in text
    # QA's sign-off was made before any gate has judged.
    assert "has not judged" in delivered.made["qa/QA_SIGNOFF.md"]


def test_every_setting_of_the_stack_has_its_reason(delivered: Delivered) -> None:
    assert [name for name in postgres_tuning.TUNING if not postgres_tuning.why(name)] == []
    text = delivered.made["postgresql/PG_CONFIG_TUNING.md"]
    # Those that the tests' own server sets, to be fast and lossy.
    assert set(re.findall(r"^\| `(\w+)` .*\| not said \|$", text, re.M)) <= {
        "fsync",
        "full_page_writes",
        "synchronous_commit",
    }


def test_the_queries_of_the_cookbook_ran_as_whoever_may_least(delivered: Delivered) -> None:
    text = delivered.made["marketing/QUERY_COOKBOOK.md"]
    ran = dict(re.findall(r"^### (\w+)\n\n.* As `(\w+)`: [\d,]+ rows in [\d.,]+ ms", text, re.M))
    folder = delivered.settings.project / "queries"
    assert ran.keys() == {path.stem for path in (*folder.glob("*.sql"), *folder.glob("cookbook/*.sql"))}
    assert ran["flights_of_aircraft"] == "analyst"
    assert ran["flight_by_key"] == "readonly"
    assert ran["open_refused_rows"] == "admin"
    marts = re.findall(r"^## ((?:dim|fct|mart)_\w+)$", text, re.M)
    assert len(marts) == 10
    assert all(sum(name.startswith(mart) for name in ran) >= 2 for mart in marts)


def test_an_index_of_a_mart_is_explained_by_the_query_that_it_serves(delivered: Delivered) -> None:
    text = delivered.made["postgresql/INDEXES.md"]
    told = re.findall(r"^\| `marts_current\.fct_flight` \| `\w+` \|.*\| (.*) \|$", text, re.M)
    assert sorted(told) == ["For `departures_of_a_day`.", "For `flights_of_aircraft`."]
    assert "| indexes without a reason | 0 |" in text


def test_the_guide_tells_what_each_login_really_sees(delivered: Delivered) -> None:
    text = delivered.made["marketing/DATA_ACCESS_GUIDE.md"]
    assert "| bookings | `raw.bookings` | refused | refused | 0 rows |" in text
    assert "| bookings | `masked.bookings` | 0 rows | 0 rows | refused |" in text
    assert "| airlines | `raw.airlines` | refused | 16 rows | 16 rows |" in text


def test_a_demand_without_a_figure_or_a_test_is_left_to_a_person(delivered: Delivered) -> None:
    text = delivered.made["legal/GDPR_CHECKLIST.md"]
    states = dict(re.findall(r"^\| (Art\.[^|]+?) \|.*\| ([\w ]+) \|$", text.partition("## What is left")[0], re.M))
    assert states["Art. 32(1)(a)"] == "met"
    assert states["Art. 6"] == "a person must answer"
    assert set(states.values()) <= {"met", "not met", "not measured", "a person must answer"}
    assert not re.search(r"\bcertif", "\n".join(delivered.made.values()), re.I)


def test_the_sign_off_is_computed_from_what_gates_have_said(
    delivered: Delivered, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = delivered.work("QA", "3")
    own: list[Verdict] = []
    monkeypatch.setattr(qa, "evident", lambda gate, _: [one for one in own if one.gate == gate.value])
    passing = tuple(Verdict(gate, "a rule", "PASS", "0", "= 0", "teams/database.yaml:1", "1") for gate in GATES)

    def text(*verdicts: Verdict) -> str:
        found = replace(work)
        vars(found)["verdicts"] = list(verdicts)
        return qa.qa_signoff(found)

    assert qa.signed(text(*passing))
    assert not qa.signed(text(*passing[1:])), "one has not judged"
    failing = replace(
        passing[2], verdict="FAIL", value="812 ms", target="< 50 ms", target_source="strategies/database.md:92"
    )
    refused = text(*passing, failing)
    assert not qa.signed(refused)
    assert "| Query Performance Gate | a rule | 812 ms | < 50 ms | `strategies/database.md:92` | PG |" in refused
    waived = text(*passing, replace(failing, verdict="WARN"))
    assert qa.signed(waived)
    assert "812 ms" in waived.partition("## What passes with a warning")[2]
    own.append(replace(failing, gate="QA Pass", rule="dbt_results failed"))
    refused = text(*passing)
    assert not qa.signed(refused), "the gate that it is signed for would refuse"
    assert "| QA Pass | dbt_results failed | 812 ms |" in refused


@pytest.mark.parametrize(
    "text", ["", "status: FAIL", "status: PASS\nstatus: FAIL", "the status: PASS", "status: PASSED"]
)
def test_nothing_else_than_one_line_signs(text: str) -> None:
    assert not qa.signed(text)
