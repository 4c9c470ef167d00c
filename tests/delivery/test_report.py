"""Reports of a delivery: all sections in all forms, every number with a file that is there, and nothing that was not measured."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from tests.conftest import CHECKOUT, OWNER, PASSWORD
from tests.delivery.delivered import Delivered, begun, measured, rehearse, warehouse
from tests.delivery.originals import original
from tests.observe.browser import render

from tidegate.delivery import checkout, ledger, team
from tidegate.delivery.report import charts, facts, pdf, pptx, press
from tidegate.delivery.report.content import report
from tidegate.delivery.report.model import Chart, Figure, Report
from tidegate.errors import UsageError
from tidegate.evidence.probe import run
from tidegate.stack.postgres import PostgresServer
from tidegate.stores.postgres import connect

SECTIONS = (
    "Query Performance Dashboard", "Evidence Dashboard", "Migration Status", "Commit Activity", "EXPLAIN ANALYZE Summary", "Load Test Trends",
    "Replication Health", "Cache Performance", "CI/CD Status", "Kanban Velocity", "Blocking Issues",
)  # fmt: skip
HOSTILE = "<script>alert(1)</script>"


@dataclass
class Printed:
    """A delivery that is blocked after others of its team, with its report in all forms."""

    one: Delivered
    written: press.Written
    report: Report

    @property
    def folder(self) -> Path:
        return self.one.root / "reports"

    def read(self, ending: str) -> bytes:
        (path,) = [path for path in self.written.files if path.endswith(ending)]
        return (self.one.root / path).read_bytes()


@pytest.fixture(scope="module")
def printed(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Printed]:
    """Four deliveries: two that failed, one that is blocked with a slow query and without a probe, one that has only begun."""
    with warehouse(postgres, tmp_path_factory.mktemp("reported")) as settings:
        for days, slower in ((6, 1.6), (3, 1.2)):
            before = begun(settings, f"before_{days}", ago=timedelta(days=days), probes=measured(slower))
            before.wave("2")
            before.end("failed", "nobody approved it")
        probes = measured()
        del probes["redis"]
        probes["explain"]["pg/explain_query_route_reliability.json"] |= {"p95_ms": 61.2, "p50_ms": 44.0, "p99_ms": 80.9}
        probes["pgbench"]["tests/performance/pgbench_100c.log"] = {"clients": 100}
        one = begun(settings, "team_database__2026-11-21", probes=probes)
        rehearse(one, until="3")
        one.work(
            "3.5", "PG", 1, probes=(), failed=f"{HOSTILE} cannot reach {postgres.dsn('elsewhere', OWNER, PASSWORD)}"
        )
        with connect(settings) as connection_of_ledger:
            ledger.go_on(connection_of_ledger, one.delivery_id, "3.5")
            ledger.record_approval(
                connection_of_ledger, one.delivery_id,
                {"kind": "cost", "subject": "COST_ESTIMATION.md", "sha256": "a" * 64, "decision": "approve", "decided_by": "Adaeze", "why": "nothing is paid for"},
            )  # fmt: skip
        one.end("blocked", "three attempts, and a query is still slow")
        written = press.write(settings, one.delivery_id)
        source = f"reports/ledger_{written.number:03}.json"
        then = datetime.fromisoformat(json.loads((one.root / source).read_text())["read_at"])
        found = report(replace(facts.read(settings, one.delivery_id, source), now=then), written.number)
        yield Printed(one, written, found)


def slides(printed: Printed) -> object:
    from pptx import Presentation

    return Presentation(io.BytesIO(printed.read(".pptx")))


def texts_of(slide: object) -> Iterator[str]:
    for shape in slide.shapes:  # type: ignore[attr-defined]
        if shape.has_text_frame:
            yield shape.text_frame.text
        if shape.has_table:
            yield from (cell.text for row in shape.table.rows for cell in row.cells)


def paper(printed: Printed) -> object:
    from pypdf import PdfReader

    return PdfReader(io.BytesIO(printed.read(".pdf")))


def flat(text: str) -> str:
    return " ".join(text.split())


class Page(HTMLParser):
    """A page's links, the places they may lead to, its text and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        told = dict(attrs)
        if tag == "a":
            self.links.append(told["href"] or "")
        if told.get("id"):
            self.ids.add(told["id"] or "")

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def leads_to(printed: Printed, links: list[str]) -> None:
    assert links
    for link in links:
        assert link.startswith("../"), link
        assert (printed.folder / unquote(link)).resolve().is_file(), link


def test_the_sections_are_those_of_the_team_document_in_its_order(printed: Printed) -> None:
    section = (
        original("database-team.md").read_text().partition("### Enhanced Report Contents")[2].partition("\n## 16.")[0]
    )
    assert tuple(re.findall(r"^\d+\. \*\*(.+?)\*\*", section, re.M)) == SECTIONS
    assert tuple(one.title for one in printed.report.sections) == SECTIONS
    assert [one.number for one in printed.report.sections] == list(range(1, 12))


def test_no_section_is_empty_and_what_is_missing_has_its_reason(printed: Printed) -> None:
    for section in printed.report.sections:
        assert section.sentence
        assert section.figures or section.absent
        assert all(len(one.why) > 15 for one in section.absent), section.title
    cache = printed.report.sections[7]
    assert cache.sentence == "Nobody has asked the cache for its figures in this delivery"
    assert not cache.figures
    assert cache.absent[0].why.endswith(
        "no program for redis is installed on this machine: `bin/bootstrap test` installs it"
    )
    load = printed.report.sections[5]
    assert {one.what: one.why for one in load.absent}["TPS with 100 clients"].startswith(
        "the probe pgbench left no figure tps"
    )


def test_figures_are_those_of_the_evidence_with_what_their_gate_said(printed: Printed) -> None:
    def figure(number: int, label: str) -> Figure:
        (found,) = [one for one in printed.report.sections[number - 1].figures if one.label == label]
        return found

    slowest = figure(1, "P95, slowest query")
    assert (slowest.value, slowest.unit, slowest.target, slowest.verdict) == ("61.2", "ms", "< 50 ms", "FAIL")
    assert slowest.link == "evidence/pg/explain_query_route_reliability.json"
    assert printed.report.sections[0].sentence == "1 of 8 important queries miss their targets: route_reliability"
    pool = figure(6, "Pool in use, normal load")
    assert (pool.value, pool.unit, pool.target, pool.verdict) == ("33.3", "%", "< 80%", "PASS")
    assert figure(3, "Rows compared").value == "1,383,038"
    assert figure(3, "Schema version").value == max(
        path.name[:4] for path in (CHECKOUT / "migrations" / "versions").glob("*.py")
    )
    assert figure(7, "Failover: rows lost").value == "0"
    assert (figure(4, "Commits delivered").value, figure(4, "Commits by roles").value) == ("5", "4")
    (agents,) = [one for one in printed.report.sections[3].tables if one.title == "Written by roles"]
    assert [[cell.text for cell in row] for row in agents.rows] == [
        ["wave 1", "PM", "1", "#40"], ["wave 2", "DBA", "1", "#41"], ["wave 2", "PG", "2", "#42"],
    ]  # fmt: skip
    (trend,) = [one for one in printed.report.sections[5].charts if one.kind == "line"]
    assert [row["value"] for row in trend.rows] == [377.451, 503.268, 603.922]


def test_the_first_page_tells_state_wave_gates_and_whose_turn_it_is(printed: Printed) -> None:
    found = printed.report
    assert found.headline == "The delivery is blocked in wave 3.5: three attempts, and a query is still slow"
    assert (found.state, found.wave, found.wave_name, len(found.gates)) == ("blocked", "3.5", "Bug fix loop", 15)
    states = {gate.name: gate.state for gate in found.gates}
    assert states["Query Performance Gate"] == "failed"
    assert states["pgTAP Test Gate"] == "passed"
    assert states["Deployment Approved"] == "not yet"
    assert (found.waiting[0].whom, {one.what: one.whom for one in found.waiting}["Query Performance Gate"]) == (
        "a person other than Ingrid",
        "PG",
    )


def test_the_page_says_it_all_and_its_links_lead_somewhere(printed: Printed) -> None:
    text = printed.read(".html").decode()
    page = Page(text)
    shown = flat(page.text)
    for section in printed.report.sections:
        assert f"{section.number} · {section.title}" in shown
        assert section.sentence in shown
        for figure in section.figures:
            assert figure.value in shown
        for one in section.absent:
            assert flat(one.why) in shown
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    leads_to(printed, [link for link in page.links if not link.startswith("#")])
    assert not page.tags & {"script", "img", "link rel=stylesheet", "iframe"}
    assert "http://" not in text
    assert "https://" not in text


@pytest.mark.parametrize("width", [420, 1400])
def test_the_page_fits_its_window_and_nothing_of_it_is_refused(printed: Printed, width: int, tmp_path: Path) -> None:
    (path,) = [path for path in printed.written.files if path.endswith(".html")]
    found = render(printed.one.root / path, width, tmp_path)
    assert found.needed <= found.width
    assert found.complaints == []


def test_slides_have_a_sentence_each_hold_their_texts_and_lead_to_files(printed: Printed) -> None:
    from pptx.util import Pt

    deck = slides(printed)
    found = [flat(" ".join(texts_of(slide))) for slide in deck.slides]  # type: ignore[attr-defined]
    whole = " ".join(found)
    titles = [slide.shapes.title.text for slide in deck.slides]  # type: ignore[attr-defined]
    assert all(len(title.split()) > 2 for title in titles)
    assert titles[0] == printed.report.headline
    for section in printed.report.sections:
        assert f"{section.number} · {section.title}" in whole
        assert section.sentence in titles
        assert all(figure.value in whole for figure in section.figures)
    assert "What is not shown, and why" in whole
    links = []
    for slide in deck.slides:  # type: ignore[attr-defined]
        for shape in slide.shapes:
            assert 0 <= shape.left <= shape.left + shape.width <= deck.slide_width  # type: ignore[attr-defined]
            assert 0 <= shape.top <= shape.top + shape.height <= deck.slide_height, (
                slide.shapes.title.text,
                shape.name,
            )  # type: ignore[attr-defined]
            if shape.has_text_frame and shape.text_frame.text:
                assert lines_of(shape.text_frame, shape.width / Pt(1)) <= shape.height / Pt(1) + 1, (
                    shape.text_frame.text
                )
            links += [one.address for one in links_of(shape) if one.address]
    leads_to(printed, links)


def lines_of(frame: object, wide: float) -> float:
    """Return how high a text is in its place."""
    high = 0.0
    for paragraph in frame.paragraphs:  # type: ignore[attr-defined]
        size = max((run.font.size.pt for run in paragraph.runs), default=0)
        bold = any(run.font.bold for run in paragraph.runs)
        if len(paragraph.runs) == 1:
            high += len(pptx._folded(paragraph.text, wide, size, bold=bold)) * size * 1.2
        else:
            high += size * 1.2
    return high


def links_of(shape: object) -> Iterator[object]:
    if shape.has_table:  # type: ignore[attr-defined]
        frames = [cell.text_frame for row in shape.table.rows for cell in row.cells]  # type: ignore[attr-defined]
    else:
        yield from [shape.click_action.hyperlink] if hasattr(shape, "click_action") else []
        frames = [shape.text_frame] if shape.has_text_frame else []  # type: ignore[attr-defined]
    for frame in frames:
        yield from (run.hyperlink for paragraph in frame.paragraphs for run in paragraph.runs)


def test_paper_says_it_all_and_its_links_lead_to_files(printed: Printed) -> None:
    document = paper(printed)
    text = flat(" ".join(page.extract_text() for page in document.pages))  # type: ignore[attr-defined]
    together = text.replace(" ", "")
    for section in printed.report.sections:
        assert f"{section.number} · {section.title}" in text
        for figure in section.figures:
            assert figure.value in text
        for one in section.absent:
            assert pdf._plain(one.why[:60]).replace(" ", "") in together
    links = [
        annotation.get_object()["/A"]["/URI"]
        for page in document.pages  # type: ignore[attr-defined]
        for annotation in page.get("/Annots", ())
    ]
    leads_to(printed, links)


def test_no_secret_is_printed_and_no_text_becomes_markup(printed: Printed) -> None:
    printed_texts = {
        "html": printed.read(".html").decode(),
        "json": printed.read(".json").decode(),
        "pptx": " ".join(text for slide in slides(printed).slides for text in texts_of(slide)),  # type: ignore[attr-defined]
        "pdf": " ".join(page.extract_text() for page in paper(printed).pages),  # type: ignore[attr-defined]
    }
    for form, text in printed_texts.items():
        assert PASSWORD not in text, form
        if form != "json":
            assert str(printed.one.settings.project) not in text, form
        assert "cannot reach" in flat(text), form
    assert HOSTILE not in printed_texts["html"]
    assert "&lt;script&gt;alert(1)" in printed_texts["html"]


def test_who_looks_for_secrets_finds_none_in_a_report(printed: Printed) -> None:
    found = run(["gitleaks", "dir", str(printed.folder), "--no-banner", "--no-color", "--redact", "--verbose"])
    assert found.exit_status == 0, found.said


def test_numbers_go_on_and_a_broken_run_leaves_nothing(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, folder = printed.one.settings, printed.folder
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    # What a run that was killed has left.
    (folder / ".report-killed").mkdir()

    def breaks(chart: Chart, *size: int) -> bytes:
        raise RuntimeError("no picture today")

    with monkeypatch.context() as patch:
        patch.setattr(pdf.charts, "png", breaks)
        with pytest.raises(RuntimeError, match="no picture today"):
            press.write(settings, printed.one.delivery_id)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "status_041.pptx").write_bytes(b"somebody's own")
    again = press.write(settings, printed.one.delivery_id)
    assert again.number == 42
    assert set(again.files) == {
        f"reports/{name}_042.{end}"
        for name, end in (("status", "pptx"), ("activity", "pdf"), ("report", "html"), ("ledger", "json"))
    }


def test_a_report_is_due_when_the_last_one_is_old_enough(printed: Printed) -> None:
    settings, one = printed.one.settings, printed.one
    newest = max(printed.folder.glob("ledger_*.json"), key=lambda path: path.stat().st_mtime)
    assert not press.due(settings, one.delivery_id)
    assert press.due(settings, one.delivery_id, every=timedelta(0))
    for path in printed.folder.glob("ledger_*.json"):
        os.utime(path, (newest.stat().st_mtime - 4 * 3600,) * 2)
    assert press.due(settings, one.delivery_id, every=timedelta(hours=3))
    assert not press.due(settings, one.delivery_id, every=timedelta(hours=6))
    assert not press.due(settings, "before_6", every=timedelta(0))
    with pytest.raises(UsageError, match="there is no delivery 'nothing'"):
        press.due(settings, "nothing")


def test_no_two_series_of_a_chart_look_alike() -> None:
    waves = [f"wave {number}" for number in range(9)]
    rows = tuple({"name": "Project Manager", "value": 1, "series": wave} for wave in waves)
    drawn = charts.svg(Chart("stack", "Commits by agent and wave", "Who committed when", "commits", rows, ""))
    looks = set(re.findall(r'fill="var\(--series(\d)\)" opacity="([\d.]+)"', drawn))
    assert len(looks) == len(waves)


def test_a_manifest_that_lacks_what_could_not_be_measured_is_verified_with_a_warning_as_its_gate_has_it(
    printed: Printed,
) -> None:
    section = printed.report.sections[1]
    manifests = {row[0].text: row[-1] for row in section.tables[0].rows}
    assert (manifests["QA"].verdict, manifests["QA"].text.partition(":")[0]) == ("WARN", "VERIFIED, but")
    assert (manifests["CACHE"].verdict, manifests["CACHE"].text.partition(":")[0]) == ("FAIL", "UNVERIFIED")
    (verified,) = [one for one in section.figures if one.label == "Manifests verified"]
    judged = [one.verdict for one in manifests.values() if one.verdict is not None]
    assert verified.value == f"{sum(one != 'FAIL' for one in judged)} of {len(judged)}"


def test_the_load_that_a_team_has_put_on_the_pool_alone_is_told_of(printed: Printed) -> None:
    known = facts.read(printed.one.settings, printed.one.delivery_id, printed.report.source)
    found = report(replace(known, exhibits=[one for one in known.exhibits if one.probe != "pgbench"]), 1)
    assert found.sections[5].sentence == "200 clients at once saturate the pool, and none of their transactions failed"


def test_a_team_that_measures_pipelines_has_a_section_of_them(printed: Printed) -> None:
    known = facts.read(printed.one.settings, printed.one.delivery_id, printed.report.source)
    way = {"batches": 12, "rows": 336776, "median_seconds": 1.5, "longest_seconds": 2.25}
    ways = {"airlines": way | {"batches": 1, "rows": 16, "longest_seconds": 0.5}, "flights": way}
    told = {
        "pipeline_sla": {"batches": 13, "longest_seconds": 2.25, "p95_seconds": 2.0, "rows_per_second": 9000.5, "by_dataset": ways},
        "success_rate": {"left_behind": 0, "proven_share": 0.9951}, "freshness": {"datasets": 2, "stale": 1},
    }  # fmt: skip
    one = next(one for one in known.exhibits if one.sha256)
    taken = [replace(one, probe=probe, path=f"tests/{probe}.log", sha256=probe, figures=f) for probe, f in told.items()]
    found = report(replace(known, team=team.load(CHECKOUT, "data"), exhibits=[*known.exhibits, *taken]), 1)
    section = found.sections[11]
    assert (section.number, section.title) == (12, "Pipeline Health")
    assert section.sentence == (
        "None of 13 batches took longer than 2.25 s from landing to readers; nothing was left behind; stale: 1 dataset"
    )
    assert [[cell.text for cell in row] for row in section.tables[0].rows] == [
        ["flights", "12", "336,776", "1.50", "2.25"], ["airlines", "1", "16", "1.50", "0.500"],
    ]  # fmt: skip
    assert "dbt tests failed" in {absent.what for absent in section.absent}
    assert pptx.printed(found)
    assert pdf.printed(found)


def test_a_release_with_waived_rules_says_so_on_its_first_page(printed: Printed) -> None:
    known = facts.read(printed.one.settings, printed.one.delivery_id, printed.report.source)
    passing = [one for one in known.verdicts if one.verdict == "PASS"]
    waived = replace(passing[0], verdict="WARN", value="not measured; waived by Grace: nobody can")
    remark = replace(passing[1], verdict="WARN", value="every hash is equal")
    ended = replace(known, delivery=replace(known.delivery, state="success"), verdicts=[waived, remark, *passing[2:]])
    found = report(ended, 1)
    assert found.headline.endswith("gates passed, 1 rule waived")
    (gate,) = [one for one in found.gates if one.name == waived.gate]
    assert "1 waived" in gate.told


def test_a_report_tells_of_the_commits_of_a_release_when_it_is_tagged(printed: Printed) -> None:
    project, commit = printed.one.settings.project, printed.report.commit
    before = printed.report.sections[3]
    checkout.git(project, "tag", "v0.2.0", commit)
    try:
        found = report(facts.read(printed.one.settings, printed.one.delivery_id, printed.report.source), 1)
    finally:
        checkout.git(project, "tag", "--delete", "v0.2.0")
    after = found.sections[3]
    assert (after.title, after.figures, after.charts) == ("Commit Activity", before.figures, before.charts)


def test_a_delivery_that_has_only_begun_has_a_report_that_says_so(printed: Printed) -> None:
    settings = printed.one.settings
    printed.one.end("failed", "given up")
    new = begun(settings, "begun", ago=timedelta(minutes=2))
    (new.root / "evidence" / "manifests").rename(new.root / "aside")
    try:
        found = report(facts.read(settings, "begun", "reports/ledger_001.json"), 1)
    finally:
        (new.root / "aside").rename(new.root / "evidence" / "manifests")
    assert found.headline == "Wave 0, initialization, is under way: 0 of 15 gates passed"
    assert {gate.state for gate in found.gates} == {"not yet"}
    assert found.sections[0].absent[0].why == "the probe explain has not run yet: PG takes it in wave 2"
    for printer in (pdf.printed, pptx.printed):
        assert len(printer(found)) > 10_000
