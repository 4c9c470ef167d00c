"""The report on paper: A4 across, selectable text, tables that go on over pages, each number a link; what it says stands elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any, override
from urllib.parse import quote
from xml.sax.saxutils import escape

from tidegate.delivery.report import charts
from tidegate.delivery.report.html import when
from tidegate.delivery.report.model import Absent, Cell, Chart, Figure, Report, Section, Table, Waiting, widths
from tidegate.gates.verdict import Decision

_INK, _MUTED, _LINE, _ACCENT, _SOFT = "#14212b", "#566472", "#dce3e8", "#0b5f7d", "#f4f6f7"
_COLOURS: dict[str, str] = {"PASS": "#17663f", "WARN": "#7d5200", "FAIL": "#a1212a", "NONE": _MUTED}
_WORDS: dict[Decision, str] = {"PASS": "passed", "WARN": "remark", "FAIL": "failed"}
_OF_STATE = {"passed": "PASS", "failed": "FAIL", "not yet": "NONE"}
_OF_DELIVERY = {"success": "PASS", "failed": "FAIL", "blocked": "FAIL", "waiting": "WARN", "paused": "WARN"}
#: Of links, until they are drawn: what has no scheme would be taken for a place in the document.
_TEAM = "team:"
_ACROSS, _MARGIN = 842, 42
_WIDTH = _ACROSS - 2 * _MARGIN
#: Rows of a table that stays on one page.
_WHOLE = 14
#: Characters of a cell; the page shows the rest.
_CUT = 320


def printed(report: Report) -> bytes:
    """Return the document; its links are relative to the folder of reports."""
    from reportlab.lib.pagesizes import A4, landscape
    from reportlab.pdfgen.canvas import Canvas
    from reportlab.platypus import BaseDocTemplate, Frame, PageTemplate

    class Linked(Canvas):  # type: ignore[misc]
        """Links to files, not to places: relative, so that the folder may go elsewhere."""

        @override
        def linkURL(self, url: str, *rest: Any, **named: Any) -> None:
            super().linkURL(url.removeprefix(_TEAM), *rest, **named)

    def frame_of_page(canvas: Any, document: Any) -> None:
        canvas.setStrokeColor(_LINE)
        canvas.line(_MARGIN, 34, _ACROSS - _MARGIN, 34)
        canvas.setFillColor(_MUTED)
        canvas.setFont("Helvetica", 8)
        canvas.drawString(_MARGIN, 22, _plain(f"{report.team} · report {report.number:03} · {when(report.made_at)}"))
        canvas.drawRightString(_ACROSS - _MARGIN, 22, f"{document.page}")

    out = io.BytesIO()
    document = BaseDocTemplate(
        out, pagesize=landscape(A4), title=_plain(report.headline), author=_plain(report.team), lang="en",
        leftMargin=_MARGIN, rightMargin=_MARGIN, topMargin=36, bottomMargin=44, invariant=0,
    )  # fmt: skip
    frame = Frame(_MARGIN, 44, _WIDTH, 595 - 36 - 44, leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0)
    document.addPageTemplates(PageTemplate(frames=[frame], onPage=frame_of_page))
    document.build(
        [*_cover(report), *(part for section in report.sections for part in _section(section)), *_files(report)],
        canvasmaker=Linked,
    )
    return out.getvalue()


def _cover(report: Report) -> list[Any]:
    from reportlab.platypus import Spacer

    tiles = [
        ("State", report.state, f"{report.age} since it began", _COLOURS[_OF_DELIVERY.get(report.state, "NONE")], ""),
        ("Wave", report.wave, report.wave_name, _INK, ""),
        (
            "Gates passed", f"{report.counted('passed')} of {len(report.gates)}",
            f"{report.counted('failed')} failed, {report.counted('not yet')} not yet", _COLOURS["FAIL"] if report.counted("failed") else _INK, report.source,
        ),
        ("Cards done", f"{report.done} of {report.cards}", "on the board", _INK, report.source),
    ]  # fmt: skip
    told = (
        f"Delivery {report.delivery_id} of {report.strategy}, commit {report.commit[:12]}, begun by {report.started_by} on "
        f"{when(report.began_at)}{f', ended {when(report.ended_at)}' if report.ended_at else ''}"
    )
    gates = [
        _text(f'<b>{_safe(gate.name)}</b> <font color="{_COLOURS[_OF_STATE[gate.state]]}"><b>{gate.state}</b></font><br/>'
              f'<font size="7.5" color="{_MUTED}">{_safe(gate.told, 92)}</font>', 9, leading=11)
        for gate in report.gates
    ]  # fmt: skip
    return [
        _text(_safe(f"{report.team} · report {report.number:03} · {when(report.made_at)}"), 9, _MUTED),
        Spacer(1, 10),
        _text(f"<b>{_safe(report.headline, 200)}</b>", 22, leading=26),
        Spacer(1, 6),
        _text(_safe(told), 9, _MUTED),
        Spacer(1, 12),
        _grid([[_tile(*tile) for tile in tiles]], [_WIDTH / 4] * 4, box=True),
        Spacer(1, 12),
        _grid(_in_rows(gates, 5), [_WIDTH / 5] * 5, box=True, edges=[_COLOURS[_OF_STATE[gate.state]] for gate in report.gates]),
        Spacer(1, 14),
        *_waiting(report.waiting),
    ]  # fmt: skip


def _waiting(found: Sequence[Waiting]) -> list[Any]:
    if not found:
        return [_text("<b>Who is waited for</b>: nobody; nothing is held up, and no role is at work.", 10)]
    rows = tuple((Cell(one.what), Cell(one.whom), Cell(_cut(one.told, 125))) for one in found)
    return [*_table(Table("Who is waited for", ("What", "Whose turn", "Why"), rows))]


def _section(section: Section) -> list[Any]:
    from reportlab.platypus import Image, PageBreak, Spacer

    parts: list[Any] = [
        PageBreak(),
        _text(_safe(f"{section.number} · {section.title}"), 9, _MUTED),
        Spacer(1, 2),
        _text(f"<b>{_safe(section.sentence, 220)}</b>", 16, leading=20),
        Spacer(1, 10),
    ]
    if section.figures:
        columns = min(len(section.figures), 5)
        tiles = [_figure(one) for one in section.figures]
        parts += [_grid(_in_rows(tiles, columns), [_WIDTH / columns] * columns, box=True), Spacer(1, 12)]
    wide = _WIDTH / 2 - 8 if len(section.charts) > 1 else _WIDTH
    drawn = [
        [
            _text(f"<b>{_linked(chart.title, chart.link)}</b>", 10),
            _text(_safe(chart.sentence), 8, _MUTED),
            _image(Image, chart, wide),
        ]
        for chart in section.charts
    ]
    if drawn:
        columns = min(len(drawn), 2)
        parts += [_grid(_in_rows(drawn, columns), [_WIDTH / columns] * columns), Spacer(1, 10)]
    for table in section.tables:
        parts += _table(table)
    return [*parts, *_absent(section.absent)]


def _absent(found: Sequence[Absent]) -> list[Any]:
    from reportlab.platypus import KeepTogether, Spacer

    if not found:
        return []
    lines = [
        _text(f'<b>{_safe(one.what)}</b>: <font color="{_MUTED}">{_safe(one.why, _CUT)}</font>', 8.5, leading=11.5)
        for one in found
    ]
    return [Spacer(1, 4), KeepTogether([_text("<b>What is not shown, and why</b>", 10), Spacer(1, 3), *lines])]


def _files(report: Report) -> list[Any]:
    from reportlab.platypus import PageBreak

    found = [part for table in report.evidence for part in _table(table, 6.5)]
    return (
        [PageBreak(), _text("<b>Every file that a figure was read in, with its hash</b>", 16), *found] if found else []
    )


def _tile(label: str, value: str, note: str, colour: str, link: str) -> list[Any]:
    shown = _linked(value, link, colour) if link else f'<font color="{colour}">{_safe(value)}</font>'
    return [_text(_safe(label), 8, _MUTED), _text(f"<b>{shown}</b>", 18, leading=22), _text(_safe(note), 8, _MUTED)]


def _figure(one: Figure) -> list[Any]:
    unit = f' <font size="9" color="{_MUTED}">{_safe(one.measure)}</font>' if one.unit else ""
    told = [f'<font color="{_COLOURS[one.verdict]}"><b>{_WORDS[one.verdict]}</b></font>'] if one.verdict else []
    told += [f"target {_safe(one.target)}"] if one.target else []
    told += [_safe(one.note)] if one.note else []
    return [
        _text(_safe(one.label), 8, _MUTED),
        _text(f"<b>{_linked(one.value, one.link, _INK)}</b>{unit}", 15, leading=19),
        _text(", ".join(told) or "&nbsp;", 8, _MUTED),
    ]


def _image(kind: Any, chart: Chart, wide: float) -> Any:
    height = 150
    shape = (round(wide * 1.25), round(height * 1.25))
    drawn = charts.png(chart, *shape)
    picture = kind(io.BytesIO(drawn))
    scale = wide / picture.imageWidth
    if picture.imageHeight * scale > height:
        scale = height / picture.imageHeight
    picture.drawWidth, picture.drawHeight = picture.imageWidth * scale, picture.imageHeight * scale
    picture.hAlign = "LEFT"
    return picture


def _table(table: Table, size: float = 8) -> list[Any]:
    from reportlab.platypus import KeepTogether, LongTable, Spacer, TableStyle

    numbers = [place for place, cell in enumerate(table.rows[0]) if cell.number]
    head = [
        _text(f'<font color="{_MUTED}">{_safe(column)}</font>', size, right=place in numbers)
        for place, column in enumerate(table.columns)
    ]
    body = [[_cell(cell, size) for cell in row] for row in table.rows]
    made = LongTable([head, *body], colWidths=_widths(table, size), repeatRows=1, hAlign="LEFT")
    made.setStyle(
        TableStyle([
            ("VALIGN", (0, 0), (-1, -1), "TOP"), ("LINEBELOW", (0, 0), (-1, 0), 0.8, _MUTED), ("LINEBELOW", (0, 1), (-1, -2), 0.4, _LINE),
            ("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 10), ("TOPPADDING", (0, 0), (-1, -1), 2.5),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
        ])
    )  # fmt: skip
    parts = [_text(f"<b>{_safe(table.title)}</b>", 10), Spacer(1, 3), made, Spacer(1, 10)]
    # A short one is not torn; one that is longer than a page goes on with its head again.
    return [KeepTogether(parts)] if len(table.rows) <= _WHOLE else parts


def _cell(cell: Cell, size: float) -> Any:
    colour = _COLOURS[cell.verdict] if cell.verdict else _INK
    shown = (
        _linked(_cut(cell.text), cell.link) if cell.link else f'<font color="{colour}">{_safe(cell.text, _CUT)}</font>'
    )
    return _text(f"<b>{shown}</b>" if cell.verdict else shown, size, right=cell.number)


def _widths(table: Table, size: float) -> list[float]:
    """Return how wide columns are: as their longest texts ask, none less than it needs, all of them within the page."""
    from reportlab.pdfbase.pdfmetrics import stringWidth

    def asked(text: str) -> float:
        return float(stringWidth(_plain(text), "Helvetica-Bold", size)) + 14

    columns = list(zip(*table.rows, strict=True))
    wanted = [
        max(asked(head), *(asked(_cut(cell.text)) for cell in column))
        for head, column in zip(table.columns, columns, strict=True)
    ]
    return widths(wanted, _WIDTH)


def _grid(rows: list[list[Any]], widths: list[float], *, box: bool = False, edges: Sequence[str] = ()) -> Any:
    from reportlab.platypus import Table as Grid
    from reportlab.platypus import TableStyle

    padding = 7 if box else 0
    style: list[Any] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), padding), ("RIGHTPADDING", (0, 0), (-1, -1), 7),
        ("TOPPADDING", (0, 0), (-1, -1), 5 if box else 0), ("BOTTOMPADDING", (0, 0), (-1, -1), 6 if box else 0),
    ]  # fmt: skip
    if box:
        style += [("BOX", (0, 0), (-1, -1), 0.6, _LINE), ("INNERGRID", (0, 0), (-1, -1), 0.6, _LINE)]
    for place, colour in enumerate(edges):
        row, column = divmod(place, len(widths))
        style.append(("LINEBEFORE", (column, row), (column, row), 3, colour))
    made = Grid(rows, colWidths=widths, hAlign="LEFT")
    made.setStyle(TableStyle(style))
    return made


def _in_rows(parts: Iterable[Any], columns: int) -> list[list[Any]]:
    found = list(parts)
    found += [""] * (-len(found) % columns)
    return [found[start : start + columns] for start in range(0, len(found), columns)]


def _text(markup: str, size: float, colour: str = _INK, *, leading: float = 0, right: bool = False) -> Any:
    from reportlab.lib.enums import TA_LEFT, TA_RIGHT
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph

    style = ParagraphStyle(
        "text", fontName="Helvetica", fontSize=size, leading=leading or size * 1.3, textColor=colour, alignment=TA_RIGHT if right else TA_LEFT,
        splitLongWords=True, allowWidows=0, allowOrphans=0,
    )  # fmt: skip
    return Paragraph(markup, style)


def _linked(text: str, link: str, colour: str = _ACCENT) -> str:
    return f'<a href="{_TEAM}../{quote(link)}" color="{colour}">{_safe(text)}</a>'


def _safe(text: str, most: int = 0) -> str:
    return escape(_plain(_cut(text, most) if most else text))


def _cut(text: str, most: int = _CUT) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def _plain(text: str) -> str:
    """Return a text in the letters that every reader of PDF has: others are spelled or left out."""
    for sign, spelled in (("≤", "<="), ("≥", ">="), ("→", "->"), ("✓", "yes")):
        text = text.replace(sign, spelled)
    return text.encode("cp1252", "replace").decode("cp1252")
