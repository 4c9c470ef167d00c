"""The report as slides: a sentence on top, figures, charts, native tables; each a link; nothing that its place cannot hold.

Texts are measured before they are set, in Arial's widths, so that none runs out of its box; what was cut stands on paper.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from tidegate.delivery.report import charts
from tidegate.delivery.report.html import when
from tidegate.delivery.report.model import Absent, Cell, Chart, Figure, GateLook, Report, Section, Table, widths
from tidegate.gates.verdict import Decision

_INK, _MUTED, _LINE, _ACCENT, _SOFT, _WHITE = "14212B", "566472", "DCE3E8", "0B5F7D", "F4F6F7", "FFFFFF"
_COLOURS: dict[str, str] = {"PASS": "17663F", "WARN": "7D5200", "FAIL": "A1212A", "NONE": _MUTED}
_WORDS: dict[Decision, str] = {"PASS": "passed", "WARN": "remark", "FAIL": "failed"}
_OF_STATE = {"passed": "PASS", "failed": "FAIL", "not yet": "NONE"}
_OF_DELIVERY = {"success": "PASS", "failed": "FAIL", "blocked": "FAIL", "waiting": "WARN", "paused": "WARN"}
_FONT = "Arial"
#: In points, of which an inch has 72.
_WIDE, _HIGH, _MARGIN = 960, 540, 42
_SPAN = _WIDE - 2 * _MARGIN
_BOTTOM = _HIGH - 40
#: PowerPoint's own style without colours and lines.
_PLAIN_TABLE = "{2D5ABB26-0587-4C30-8999-92F81FD0307C}"
#: How many tables of a section are worth a slide; the others are on paper.
_TABLES = 3
#: What a chart or a table needs at least; where there is less, it has a slide of its own.
_ROOM = 170
#: Of letters: in tables, and behind a figure.
_SIZE, _SMALL = 11.0, 10.5
#: A line of text is this much higher than its letters.
_LEADING = 1.22


def printed(report: Report) -> bytes:
    """Return the presentation; its links are relative to the folder of reports."""
    deck = _Deck(report)
    deck.cover()
    deck.gates()
    deck.waiting()
    for section in report.sections:
        deck.section(section)
    return deck.saved()


class _Deck:
    """Slides under way; places are in points from the upper left corner."""

    def __init__(self, report: Report) -> None:
        from pptx import Presentation
        from pptx.util import Pt

        self.report = report
        self.top = 0.0
        self.made: Any = Presentation()
        self.made.slide_width, self.made.slide_height = Pt(_WIDE), Pt(_HIGH)
        self.made.core_properties.title = report.headline
        self.made.core_properties.author = report.team
        for relation in self.made.slide_master.part.rels.values():
            if relation.reltype.endswith("/theme"):
                # Links take the theme's colour, whatever colour a run has.
                part = relation.target_part
                part._blob = part.blob.replace(
                    b'<a:hlink><a:srgbClr val="0000FF"/>', f'<a:hlink><a:srgbClr val="{_ACCENT}"/>'.encode()
                )

    def saved(self) -> bytes:
        out = io.BytesIO()
        self.made.save(out)
        return out.getvalue()

    def cover(self) -> None:
        report = self.report
        slide = self.slide(f"{report.team} · report {report.number:03}", report.headline, 34, lines=3)
        told = f"Delivery {report.delivery_id} of {report.strategy}, commit {report.commit[:12]}, begun by {report.started_by} on {when(report.began_at)}"
        self.text(slide, told, (_MARGIN, 232, _SPAN, 40), 14, _MUTED, lines=2)
        failed = report.counted("failed")
        tiles = [
            ("State", report.state, f"{report.age} since it began", _COLOURS[_OF_DELIVERY.get(report.state, "NONE")], ""),
            ("Wave", report.wave, report.wave_name, _INK, ""),
            (
                "Gates passed", f"{report.counted('passed')} of {len(report.gates)}", f"{failed} failed, {report.counted('not yet')} not yet",
                _COLOURS["FAIL"] if failed else _INK, report.source,
            ),
            ("Cards done", f"{report.done} of {report.cards}", "on the board", _INK, report.source),
        ]  # fmt: skip
        wide = (_SPAN - 3 * 14) / 4
        for place, (label, value, note, colour, link) in enumerate(tiles):
            left = _MARGIN + place * (wide + 14)
            self.box(slide, (left, 300, wide, 130), link)
            self.text(slide, label, (left + 14, 312, wide - 28, 20), 13, _MUTED)
            self.text(slide, value, (left + 14, 336, wide - 28, 46), 32, colour, bold=True)
            self.text(slide, note, (left + 14, 392, wide - 28, 34), 12, _MUTED, lines=2)

    def gates(self) -> None:
        report = self.report
        failed = report.counted("failed")
        sentence = f"{report.counted('passed')} of {len(report.gates)} gates passed" + (
            f", {failed} failed" if failed else ""
        )
        slide = self.slide("Gates in one look", sentence)
        gap = 10
        wide, high = (_SPAN - 4 * gap) / 5, (_BOTTOM - self.top - 2 * gap) / 3
        for place, gate in enumerate(report.gates[:15]):
            row, column = divmod(place, 5)
            self.gate(slide, gate, (_MARGIN + column * (wide + gap), self.top + row * (high + gap), wide, high))

    def gate(self, slide: Any, gate: GateLook, where: tuple[float, float, float, float]) -> None:
        left, top, wide, high = where
        colour = _COLOURS[_OF_STATE[gate.state]]
        self.box(slide, where, self.report.source)
        self.box(slide, (left, top, 5, high), fill=colour, line=colour)
        self.text(slide, gate.name, (left + 14, top + 7, wide - 20, 32), 12.5, _INK, bold=True, lines=2)
        self.text(slide, gate.state, (left + 14, top + 40, wide - 20, 18), 12, colour, bold=True)
        self.text(slide, gate.told, (left + 14, top + 59, wide - 20, 54), 10, _MUTED, lines=4)

    def waiting(self) -> None:
        found = self.report.waiting
        if not found:
            return
        many = "One thing waits" if len(found) == 1 else f"{len(found)} things wait"
        slide = self.slide("Who is waited for", f"{many}; the first turn is with {found[0].whom}")
        rows = tuple((Cell(one.what, self.report.source), Cell(one.whom), Cell(one.told)) for one in found)
        self.table(
            slide, Table("", ("What", "Whose turn", "Why"), rows), (_MARGIN, self.top, _SPAN, _BOTTOM - self.top)
        )

    def section(self, section: Section) -> None:
        """Draw a section: its figures and what is missing on the first slide; charts, and tables beside them, as there is room."""
        name = f"{section.number} · {section.title}"
        slide = self.slide(name, section.sentence)
        top = self.figures(slide, section.figures, self.top)
        listed, drawn = list(section.tables[:_TABLES]), list(section.charts)
        floor = _BOTTOM - self.absent(slide, section.absent, top, alone=not drawn and not listed)
        if (drawn or listed) and floor - top < _ROOM:
            slide, top, floor = (
                self.slide(f"{name} · {(drawn or listed)[0].title}", section.sentence),
                self.top,
                _BOTTOM,
            )
        while drawn or listed:
            if drawn and listed and self.fits(listed[0], floor - top):
                wide = max(sum(_asked(listed[0], _SIZE)), _wide(listed[0].title, 13, bold=True) + 12)
                self.pictures(slide, [drawn.pop(0)], (_MARGIN, top, _SPAN - wide - 36, floor - top))
                self.named(slide, listed.pop(0), (_WIDE - _MARGIN - wide, top, wide, floor - top))
            elif drawn:
                self.pictures(slide, drawn[:2], (_MARGIN, top, _SPAN, floor - top))
                drawn = drawn[2:]
            else:
                under = self.named(slide, listed.pop(0), (_MARGIN, top, _SPAN, floor - top))
                while listed and under + sum(self.heights(listed[0], self.columns(listed[0], _SPAN))) + 60 < floor:
                    under = self.named(slide, listed.pop(0), (_MARGIN, under, _SPAN, floor - under))
            if drawn or listed:
                title = (drawn or listed)[0].title
                slide, top, floor = self.slide(f"{name} · {title}", section.sentence), self.top, _BOTTOM

    def fits(self, table: Table, high: float) -> bool:
        """Say whether a table has room beside a chart, with all of its rows on one line each."""
        return sum(_asked(table, _SIZE)) <= 0.54 * _SPAN and len(table.rows) * (_SIZE * _LEADING + 8) + 50 <= high

    def named(self, slide: Any, table: Table, where: tuple[float, float, float, float]) -> float:
        """Draw a table below its title; return where the next one may stand."""
        left, top, wide, high = where
        self.text(slide, table.title, (left, top, wide, 18), 13, _INK, bold=True)
        return self.table(slide, table, (left, top + 22, wide, high - 22)) + 18

    def columns(self, table: Table, room: float) -> list[float]:
        """Return how wide a table's columns are; a narrow one may breathe, but they stay in sight of each other."""
        asked = _asked(table, _SIZE)
        return [one * min(room / sum(asked), 1.9) for one in asked] if sum(asked) < room else widths(asked, room)

    def heights(self, table: Table, columns: list[float]) -> list[float]:
        """Return how high each row of a table is, folded to two lines at most."""
        return [
            max(
                min(2, len(_folded(cell.text, 0.97 * (wide - 12), _SIZE, bold=cell.verdict is not None)))
                for cell, wide in zip(row, columns, strict=True)
            )
            * _SIZE * _LEADING + 8
            for row in table.rows
        ]  # fmt: skip

    def slide(self, eyebrow: str, title: str, size: float = 24, lines: int = 2) -> Any:
        """Begin a slide: what it is about, and what it says in a sentence."""
        from pptx.util import Pt

        slide = self.made.slides.add_slide(self.made.slide_layouts[5])
        self.text(slide, eyebrow, (_MARGIN, 26, _SPAN, 18), 12, _MUTED)
        high = size * _LEADING * lines + 4
        head = slide.shapes.title
        head.left, head.top, head.width, head.height = Pt(_MARGIN), Pt(44 if lines == 2 else 90), Pt(_SPAN), Pt(high)
        self.fill(head.text_frame, title, _SPAN, size, _INK, bold=True, lines=lines)
        taken = min(lines, len(_folded(title, 0.97 * _SPAN, size, bold=True)))
        self.top = 44 + taken * size * _LEADING + 22
        report = self.report
        number = len(self.made.slides)
        self.text(
            slide,
            f"{report.team} · report {report.number:03} · {when(report.made_at)}",
            (_MARGIN, _HIGH - 30, 600, 16),
            9,
            _MUTED,
        )
        self.text(slide, str(number), (_WIDE - _MARGIN - 60, _HIGH - 30, 60, 16), 9, _MUTED, right=True)
        return slide

    def figures(self, slide: Any, found: Sequence[Figure], top: float) -> float:
        """Draw figures in rows of up to five; return where the next thing may stand."""
        if not found:
            return top
        columns = {6: 6, 7: 4, 8: 4}.get(len(found), min(5, len(found)))
        wide, high, gap = (_SPAN - (columns - 1) * 10) / columns, 82, 8
        for place, one in enumerate(found):
            row, column = divmod(place, columns)
            left, up = _MARGIN + column * (wide + 10), top + row * (high + gap)
            self.box(slide, (left, up, wide, high), one.link)
            self.text(slide, one.label, (left + 10, up + 5, wide - 16, 26), 10, _MUTED, lines=2)
            self.text(
                slide,
                one.value,
                (left + 10, up + 33, wide - 16, 26),
                18,
                _INK,
                bold=True,
                link=one.link,
                behind=one.measure,
                whole=True,
            )
            told = [_WORDS[one.verdict]] if one.verdict else []
            told += [f"target {one.target}"] if one.target else []
            told += [one.note] if one.note else []
            self.text(
                slide,
                ", ".join(told),
                (left + 10, up + 62, wide - 16, 16),
                10,
                _COLOURS[one.verdict or "NONE"],
                bold=bool(one.verdict),
            )
        return top + (-(-len(found) // columns)) * (high + gap) + 8

    def pictures(self, slide: Any, found: Sequence[Chart], where: tuple[float, float, float, float]) -> None:
        """Draw charts side by side, as high as there is room."""
        from pptx.util import Pt

        start, top, room, high = where
        wide, high = (room - 24 * (len(found) - 1)) / len(found), high - 44
        for place, chart in enumerate(found):
            left = start + place * (wide + 24)
            self.text(slide, chart.title, (left, top, wide, 18), 13, _INK, bold=True, link=chart.link)
            self.text(slide, chart.sentence, (left, top + 18, wide, 16), 10.5, _MUTED)
            picture = slide.shapes.add_picture(
                io.BytesIO(charts.png(chart, round(wide * 1.1), round(high * 1.1))), Pt(left), Pt(top + 40)
            )
            shrunk = min(Pt(wide) / picture.width, Pt(high) / picture.height)
            picture.width, picture.height = round(picture.width * shrunk), round(picture.height * shrunk)
            picture.click_action.hyperlink.address = _to(chart.link)
            picture._element.nvPicPr.cNvPr.set("descr", f"{chart.title}: {chart.sentence}")

    def absent(self, slide: Any, found: Sequence[Absent], top: float, *, alone: bool) -> float:
        """Say at the foot what is not there and why, in the middle where nothing else is; return how high that is."""
        if not found:
            return 0
        shown = found[: 8 if alone else 3]
        size, lines = (13, 3) if alone else (10, 2)
        told = [_cut(f"{one.what}: {one.why}", _SPAN - 24, size, lines) for one in shown]
        if len(found) > len(shown):
            told.append(f"and {len(found) - len(shown)} more: activity_{self.report.number:03}.pdf")
        needed = sum(len(_folded(one, _SPAN - 24, size)) for one in told) * size * _LEADING + 14 + 20
        up = top if alone else _BOTTOM - needed
        self.box(slide, (_MARGIN, up, _SPAN, needed), fill=_SOFT)
        self.text(slide, "What is not shown, and why", (_MARGIN + 12, up + 6, _SPAN - 24, 16), 11, _INK, bold=True)
        self.text(slide, "\n".join(told), (_MARGIN + 12, up + 24, _SPAN - 24, needed - 28), size, _MUTED, lines=40)
        return needed + 10

    def table(self, slide: Any, table: Table, where: tuple[float, float, float, float]) -> float:
        """Draw a native table, as many rows as there is room for, and say how many more there are; return where it ends."""
        from pptx.util import Pt

        start, top, room, high = where
        columns = self.columns(table, room)
        heights = self.heights(table, columns)
        if sum(heights) > high - 24:
            # The sentence that says how many more there are needs room, too.
            while sum(heights) > high - 24 - 18:
                heights.pop()
        size = (Pt(start), Pt(top), Pt(sum(columns)), Pt(24 + sum(heights)))
        made = slide.shapes.add_table(len(heights) + 1, len(columns), *size).table
        made._tbl.tblPr.find(f"{{{_A}}}tableStyleId").text = _PLAIN_TABLE
        made.horz_banding = False
        head = [Cell(name, number=cell.number) for name, cell in zip(table.columns, table.rows[0], strict=True)]
        for number, (row, tall) in enumerate(zip([head, *table.rows], [24.0, *heights], strict=False)):
            made.rows[number].height = Pt(tall)
            for column, (cell, wide) in enumerate(zip(row, columns, strict=True)):
                made.columns[column].width = Pt(wide)
                colour = _MUTED if number == 0 else _COLOURS[cell.verdict] if cell.verdict else _INK
                self.cell(made.cell(number, column), cell, wide, colour)
        end = top + 24 + sum(heights)
        if len(heights) == len(table.rows):
            return end
        more = (
            f"and {len(table.rows) - len(heights)} more: activity_{self.report.number:03}.pdf has all {len(table.rows)}"
        )
        self.text(slide, more, (start, end + 4, room, 14), 10, _MUTED)
        return end + 18

    def cell(self, place: Any, cell: Cell, wide: float, colour: str) -> None:
        from pptx.util import Pt

        place.margin_left, place.margin_right, place.margin_top, place.margin_bottom = Pt(0), Pt(12), Pt(3), Pt(3)
        bold = cell.verdict is not None
        self.fill(
            place.text_frame, cell.text, wide - 12, _SIZE, colour, bold=bold, lines=2, right=cell.number, link=cell.link
        )
        _underline(place, _LINE)

    def box(
        self, slide: Any, where: tuple[float, ...], link: str = "", *, fill: str = _WHITE, line: str = _LINE
    ) -> None:
        from pptx.dml.color import RGBColor
        from pptx.enum.shapes import MSO_SHAPE
        from pptx.util import Pt

        shape = slide.shapes.add_shape(MSO_SHAPE.RECTANGLE, *(Pt(one) for one in where))
        shape.fill.solid()
        shape.fill.fore_color.rgb = RGBColor.from_string(fill)
        shape.line.color.rgb = RGBColor.from_string(line)
        shape.line.width = Pt(0.75)
        # The theme's style would throw a shadow.
        shape._element.remove(shape._element.find(f"{{{_P}}}style"))
        if link:
            shape.click_action.hyperlink.address = _to(link)

    def text(
        self, slide: Any, text: str, where: tuple[float, float, float, float], size: float, colour: str, *,
        bold: bool = False, lines: int = 1, right: bool = False, link: str = "", behind: str = "", whole: bool = False,
    ) -> None:  # fmt: skip
        """Set a text somewhere; a link is that of its letters, or of the `whole` place, which leaves them their colour."""
        from pptx.util import Pt

        if text:
            box = slide.shapes.add_textbox(*(Pt(one) for one in where))
            inside = "" if whole else link
            self.fill(
                box.text_frame,
                text,
                where[2],
                size,
                colour,
                bold=bold,
                lines=lines,
                right=right,
                link=inside,
                behind=behind,
            )
            if link and whole:
                box.click_action.hyperlink.address = _to(link)

    def fill(
        self, frame: Any, text: str, wide: float, size: float, colour: str, *,
        bold: bool = False, lines: int = 1, right: bool = False, link: str = "", behind: str = "",
    ) -> None:  # fmt: skip
        """Set a text as far as its place can hold it."""
        from pptx.dml.color import RGBColor
        from pptx.enum.text import MSO_ANCHOR, MSO_AUTO_SIZE, PP_ALIGN
        from pptx.util import Pt

        frame.word_wrap, frame.auto_size, frame.vertical_anchor = True, MSO_AUTO_SIZE.NONE, MSO_ANCHOR.TOP
        if frame._parent.__class__.__name__ != "_Cell":
            frame.margin_left = frame.margin_right = frame.margin_top = frame.margin_bottom = 0
        parts = text.split("\n") if lines > 1 else [text]
        for number, part in enumerate(parts):
            paragraph = frame.paragraphs[0] if number == 0 else frame.add_paragraph()
            paragraph.alignment = PP_ALIGN.RIGHT if right else PP_ALIGN.LEFT
            run = paragraph.add_run()
            run.text = _cut(part, wide, size, lines, bold=bold)
            run.font.name, run.font.size, run.font.bold = _FONT, Pt(size), bold
            run.font.color.rgb = RGBColor.from_string(colour)
            if link:
                run.hyperlink.address = _to(link)
        if behind:
            rest = wide - _wide(f"{text} ", size, bold=bold)
            run = frame.paragraphs[0].add_run()
            run.text = f" {_cut(behind, rest, _SMALL, 1)}"
            run.font.name, run.font.size, run.font.bold = _FONT, Pt(_SMALL), False
            run.font.color.rgb = RGBColor.from_string(_MUTED)


_P = "http://schemas.openxmlformats.org/presentationml/2006/main"
_A = "http://schemas.openxmlformats.org/drawingml/2006/main"


def _underline(place: Any, colour: str) -> None:
    """Draw a line below a cell; python-pptx knows no borders."""
    from pptx.oxml import parse_xml

    line = f'<a:lnB xmlns:a="{_A}" w="9525"><a:solidFill><a:srgbClr val="{colour}"/></a:solidFill></a:lnB>'
    place._tc.get_or_add_tcPr().append(parse_xml(line))


def _to(link: str) -> str:
    return f"../{quote(link)}"


def _wide(text: str, size: float, *, bold: bool = False) -> float:
    """Return how many points wide a text is in Arial, which is as wide as Helvetica."""
    from reportlab.pdfbase.pdfmetrics import stringWidth

    return float(
        stringWidth(text.encode("cp1252", "replace").decode("cp1252"), "Helvetica-Bold" if bold else "Helvetica", size)
    )


def _folded(text: str, wide: float, size: float, *, bold: bool = False) -> list[str]:
    """Return the lines that a text takes in a column."""
    lines: list[str] = []
    for word in _pieces(text, wide, size, bold):
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and _wide(joined, size, bold=bold) <= wide:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines or [""]


def _pieces(text: str, wide: float, size: float, bold: bool) -> Iterator[str]:
    """Yield a text's words; one that is wider than its column comes in pieces, as programs break it there."""
    for word in text.split():
        rest = word
        while _wide(rest, size, bold=bold) > wide:
            fits = max(1, next((n for n in range(len(rest), 0, -1) if _wide(rest[:n], size, bold=bold) <= wide), 1))
            yield rest[:fits]
            rest = rest[fits:]
        yield rest


def _cut(text: str, wide: float, size: float, lines: int, *, bold: bool = False) -> str:
    """Return a text that takes no more than so many lines, with an ellipsis where it was cut."""
    # Programs measure a little differently: what would fill a line to the last point counts as too long.
    wide *= 0.97
    if len(_folded(text, wide, size, bold=bold)) <= lines:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if len(_folded(f"{text[:middle].rstrip()}…", wide, size, bold=bold)) <= lines:
            low = middle
        else:
            high = middle - 1
    return f"{text[:low].rstrip()}…"


def _asked(table: Table, size: float) -> list[float]:
    """Return how wide the columns of a table would be if nothing was folded."""
    columns = zip(table.columns, zip(*table.rows, strict=True), strict=True)
    return [
        max(_wide(head, size), *(_wide(cell.text, size, bold=True) for cell in column)) + 22 for head, column in columns
    ]
