"""Charts of a report, drawn once: as PNG for slides and paper, as SVG whose colours are CSS variables for the page.

What they show is decided in the sections; colours are told apart by the colour-blind, and shapes say the same again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tidegate.delivery.report.model import Chart, Row

_FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
_SHAPES = ("circle", "square", "triangle-up", "diamond")
_LABEL = 190
#: Series that stand beside each other in a legend.
_ABREAST = 5


@dataclass(frozen=True)
class Theme:
    """Colours, by what they are for."""

    ink: str
    muted: str
    line: str
    series: tuple[str, ...]
    target: str
    ground: str = "transparent"


PAPER = Theme("#14212b", "#566472", "#dce3e8", ("#0b6fa4", "#e08a1e", "#1b7f5c", "#7a4fa3"), "#a1212a", "#ffffff")
PAGE = Theme(
    "var(--ink)", "var(--muted)", "var(--line)", tuple(f"var(--series{n})" for n in (1, 2, 3, 4)), "var(--fail)"
)


def png(chart: Chart, width: int, height: int, scale: float = 2.5) -> bytes:
    """Return a chart as a picture; sizes are of what it shows, in pixels before scaling."""
    import vl_convert

    drawn: bytes = vl_convert.vegalite_to_png(json.dumps(_spec(chart, PAPER, width, height)), scale=scale)
    return drawn


def svg(chart: Chart, width: int = 1020, height: int = 270) -> str:
    """Return a chart for a page: with a name for those who do not see it, without namespaces."""
    import vl_convert

    from tidegate.observe.plots import standalone

    if chart.kind in ("bars", "stack"):
        height = max(height, 26 * len({row["name"] for row in chart.rows}))
    drawn: str = vl_convert.vegalite_to_svg(_spec(chart, PAGE, width, height))
    return standalone(drawn, chart.title, chart.sentence)


def _spec(chart: Chart, theme: Theme, width: int, height: int) -> Row:
    import altair as alt

    data = alt.Data(values=[{"series": "", **row} for row in chart.rows])
    drawn = _DRAWN[chart.kind](alt, alt.Chart(data), chart, theme)
    size: dict[str, Any] = {"width": width}
    # Bars that lie keep their thickness: a few leave room, many take what they are given.
    names = len({row["name"] for row in chart.rows})
    size["height"] = min(height, 34 * names + 50) if chart.kind in ("bars", "stack") else height
    spec: Row = drawn.properties(**size).to_dict()
    return {**spec, "autosize": {"type": "fit", "contains": "padding"}, "config": _config(theme)}


def _config(theme: Theme) -> Row:
    axis = {
        "labelColor": theme.muted, "titleColor": theme.muted, "gridColor": theme.line, "domainColor": theme.line,
        "tickColor": theme.line, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelPadding": 6,
    }  # fmt: skip
    legend = {"labelColor": theme.ink, "labelFontSize": 12, "symbolSize": 90, "orient": "top", "title": None}
    return {
        "background": theme.ground, "aria": False, "font": _FONT, "view": {"stroke": None}, "axis": axis, "legend": legend,
        "padding": {"left": 4, "top": 5, "right": 28, "bottom": 5},
    }  # fmt: skip


def _series(alt: Any, chart: Chart, theme: Theme) -> Any:
    found = _order(chart)
    colours = [theme.series[n % len(theme.series)] for n in range(len(found))]
    return alt.Color("series:N", sort=found, scale=alt.Scale(domain=found, range=colours), legend=_legend(alt, found))


def _shades(alt: Any, chart: Chart, theme: Theme) -> Any:
    """Return how strong each series is: one that has the colour of another is paler."""
    found = _order(chart)
    shades = [0.5 ** (n // len(theme.series)) for n in range(len(found))]
    return alt.Opacity(
        "series:N", sort=found, scale=alt.Scale(type="ordinal", domain=found, range=shades), legend=_legend(alt, found)
    )


def _order(chart: Chart) -> list[str]:
    return list(chart.order) or list(dict.fromkeys(row.get("series", "") for row in chart.rows))


def _legend(alt: Any, found: list[str]) -> Any:
    # Of many, a second line: one is cut where the picture ends.
    return alt.Legend(title=None, columns=_ABREAST if len(found) > _ABREAST else 0) if len(found) > 1 else None


def _names(chart: Chart) -> list[str]:
    return list(dict.fromkeys(row["name"] for row in chart.rows))


def _axis(alt: Any, theme: Theme) -> Any:
    return alt.Axis(domain=False, ticks=False, labelLimit=_LABEL, labelColor=theme.ink, labelFontSize=12.5)


def _bars(alt: Any, base: Any, chart: Chart, theme: Theme) -> Any:
    most = max([*(row["value"] for row in chart.rows), *(row.get("target") or 0 for row in chart.rows)]) or 1
    base = base.encode(
        x=alt.X("value:Q", title=None, axis=None, scale=alt.Scale(domain=[0, most * 1.12])),
        y=alt.Y("name:N", sort=_names(chart), title=None, axis=_axis(alt, theme)),
    )
    drawn = base.mark_bar(cornerRadiusEnd=3, color=theme.series[0], height={"band": 0.62})
    labels = base.mark_text(align="left", dx=6, fontSize=12, color=theme.ink).encode(
        text=alt.Text("value:Q", format=_format(chart))
    )
    if not any(row.get("target") for row in chart.rows):
        return drawn + labels
    # A mark on a band of its own colour would vanish: it is thick, and taller than the bar.
    target = base.mark_tick(thickness=3, color=theme.target, height={"band": 0.9}).encode(
        x=alt.X("target:Q", title=None)
    )
    return drawn + target + labels


def _columns(alt: Any, base: Any, chart: Chart, theme: Theme) -> Any:
    names = _names(chart)
    angle = -35 if max(map(len, names)) * len(names) > 70 else 0
    base = base.encode(
        x=alt.X(
            "name:N", sort=names, title=None,
            axis=alt.Axis(labelAngle=angle, domain=False, ticks=False, labelLimit=_LABEL, labelOverlap=False),
        ),
        y=alt.Y("value:Q", title=chart.unit, axis=_upright(alt, chart)),
    )  # fmt: skip
    drawn = base.mark_bar(cornerRadiusEnd=2, width={"band": 0.86 if _several(chart) else 0.6}).encode(
        color=_series(alt, chart, theme)
    )
    if _several(chart):
        return drawn.encode(xOffset=alt.XOffset("series:N", sort=_order(chart)))
    return drawn + base.mark_text(dy=-8, fontSize=12, color=theme.ink).encode(
        text=alt.Text("value:Q", format=_format(chart))
    )


def _stack(alt: Any, base: Any, chart: Chart, theme: Theme) -> Any:
    whole = {name: sum(row["value"] for row in chart.rows if row["name"] == name) for name in _names(chart)}
    drawn = base.mark_bar(height={"band": 0.62}).encode(
        x=alt.X("value:Q", title=None, stack="zero", axis=alt.Axis(tickCount=5, domain=False, ticks=False, format="d")),
        y=alt.Y("name:N", sort=list(whole), title=None, axis=_axis(alt, theme)),
        color=_series(alt, chart, theme),
        opacity=_shades(alt, chart, theme),
        order=alt.Order("place:Q"),
    )
    order = _order(chart)
    return drawn.transform_calculate(place=f"indexof({json.dumps(order)}, datum.series)")


def _steps(alt: Any, base: Any, chart: Chart, theme: Theme) -> Any:
    base = _over_time(alt, base, chart)
    area = base.mark_area(interpolate="step-after", opacity=0.16, color=theme.series[0])
    return area + base.mark_line(interpolate="step-after", strokeWidth=2.5, color=theme.series[0])


def _line(alt: Any, base: Any, chart: Chart, theme: Theme) -> Any:
    base = _over_time(alt, base, chart)
    labels = base.mark_text(dy=-13, fontSize=12, color=theme.ink).encode(
        text=alt.Text("value:Q", format=_format(chart))
    )
    points = base.mark_point(filled=True, size=70, opacity=1, color=theme.series[0])
    return base.mark_line(strokeWidth=2.5, color=theme.series[0]) + points + labels


def _over_time(alt: Any, base: Any, chart: Chart) -> Any:
    most = max(row["value"] for row in chart.rows) or 1
    times = sorted(row["name"] for row in chart.rows)
    # Within a day hours tell more than dates.
    format_ = "%H:%M" if times[0][:10] == times[-1][:10] else "%d %b"
    return base.encode(
        x=alt.X(
            "name:T", title=None, scale=alt.Scale(type="utc", padding=24 if chart.kind == "line" else 0),
            axis=alt.Axis(format=format_, grid=False, labelOverlap=True, tickCount=6),
        ),
        y=alt.Y(
            "value:Q", title=chart.unit, scale=alt.Scale(domain=[0, most * 1.18], nice=False),
            axis=_upright(alt, chart),
        ),
    )  # fmt: skip


def _upright(alt: Any, chart: Chart) -> Any:
    """Return the axis of values; of things that are counted, it counts no halves."""
    whole = {"tickMinStep": 1} if all(row["value"] == int(row["value"]) for row in chart.rows) else {}
    return alt.Axis(tickCount=5, domain=False, ticks=False, **whole)


def _several(chart: Chart) -> bool:
    return len({row.get("series", "") for row in chart.rows}) > 1


def _format(chart: Chart) -> str:
    values = [row["value"] for row in chart.rows]
    if all(value == int(value) for value in values):
        return ",.0f"
    return ",.0f" if max(values) >= 1000 else ",.1f" if max(values) >= 100 else ",.2f"


_DRAWN = {"bars": _bars, "columns": _columns, "stack": _stack, "steps": _steps, "line": _line}
