"""Plots of the marts as inline SVG; which rows they show and what they say stands in `insight`.

Colours are names of CSS variables, so that one drawing serves the light, the dark and the printed page.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]

#: Percentage points from the mean of all, at which the heat map's colour changes; seven classes.
STEPS = (-15, -8, -3, 3, 8, 15)
CLASSES = ("lo3", "lo2", "lo1", "mid", "hi1", "hi2", "hi3")

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
_CONFIG: Row = {
    "background": "transparent",
    "aria": False,  # the drawing has one title and one description; its table holds the figures
    "font": _FONT,
    # The reader's system font may be wider than the one that the renderer measures with.
    "padding": {"left": 28, "top": 5, "right": 28, "bottom": 5},
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelPadding": 6,
    },
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--muted)",
        "labelFontSize": 13,
        "symbolSize": 90,
    },
}
_BARE = {"domain": False, "ticks": False}
_NAMES = {"labelLimit": 190, "labelFontSize": 13, "labelColor": "var(--ink)"}


def heat_map(rows: Sequence[Row], carriers: Sequence[str], months: Sequence[str], title: str, description: str) -> str:
    """Draw one cell per carrier and month.

    Args:
        rows: carrier_name, month, label (text in the cell), points (percentage points from the mean of all;
            None leaves the cell uncoloured).
        carriers: their names, from top to bottom.
        months: their labels, from left to right.
        title: what a screen reader says first.
        description: what the plot shows, in a sentence.
    """
    import altair as alt

    data = [{**row, "class": _class(row["points"])} for row in rows]
    names = [*CLASSES, "none"]
    base = alt.Chart(alt.Data(values=data)).encode(
        x=alt.X("month:N", sort=list(months), title=None, axis=alt.Axis(orient="top", labelAngle=0, **_BARE)),
        y=alt.Y("carrier_name:N", sort=list(carriers), title=None, axis=alt.Axis(**_BARE, **_NAMES)),
    )
    fill = alt.Scale(domain=names, range=[f"var(--{name})" for name in names])
    ink = alt.Scale(domain=names, range=[f"var(--{name}-ink)" for name in names])
    cells = base.mark_rect(cornerRadius=3, stroke="var(--card)", strokeWidth=2).encode(
        color=alt.Color("class:N", scale=fill, legend=None)
    )
    labels = base.mark_text(fontSize=12).encode(text="label:N", color=alt.Color("class:N", scale=ink, legend=None))
    chart = (
        (cells + labels)
        .resolve_scale(color="independent")
        .properties(width=max(60 * len(months), 320), height=26 * len(carriers))
    )
    return _svg(chart, title, description)


def _class(points: float | None) -> str:
    return "none" if points is None else CLASSES[sum(points >= step for step in STEPS)]


def lines(rows: Sequence[Row], title: str, description: str) -> str:
    """Draw one line per origin over the scheduled hours of a day.

    Args:
        rows: origin, scheduled_hour, mean_dep_delay_minutes.
        title: what a screen reader says first.
        description: what the plot shows, in a sentence.
    """
    import altair as alt

    origins = sorted({row["origin"] for row in rows})
    colours = [f"var(--series{1 + n % 4})" for n in range(len(origins))]
    shapes = [("circle", "square", "triangle-up", "diamond")[n % 4] for n in range(len(origins))]
    hours = sorted({row["scheduled_hour"] for row in rows})
    legend = alt.Legend(title=None, orient="top", symbolStrokeWidth=2)
    base = alt.Chart(alt.Data(values=list(rows))).encode(
        x=alt.X(
            "scheduled_hour:Q",
            title="scheduled hour of departure, local time",
            scale=alt.Scale(domain=[hours[0], hours[-1]], nice=False),
            axis=alt.Axis(values=hours, format="02d", grid=False, labelOverlap=True),
        ),
        y=alt.Y(
            "mean_dep_delay_minutes:Q",
            title="mean departure delay, minutes",
            axis=alt.Axis(tickCount=6, **_BARE),
        ),
        color=alt.Color("origin:N", scale=alt.Scale(domain=origins, range=colours), legend=legend),
    )
    points = base.mark_point(filled=True, size=46, opacity=1).encode(
        shape=alt.Shape("origin:N", scale=alt.Scale(domain=origins, range=shapes), legend=legend)
    )
    return _svg((base.mark_line(strokeWidth=2) + points).properties(width=860, height=280), title, description)


def bars(rows: Sequence[Row], title: str, description: str) -> str:
    """Draw one bar per carrier, in the order given.

    Args:
        rows: carrier_name, inherited_share (0 to 1), label.
        title: what a screen reader says first.
        description: what the plot shows, in a sentence.
    """
    import altair as alt

    carriers = [row["carrier_name"] for row in rows]
    base = alt.Chart(alt.Data(values=list(rows))).encode(
        x=alt.X("inherited_share:Q", title=None, axis=None, scale=alt.Scale(domain=[0, _ceiling(rows)])),
        y=alt.Y("carrier_name:N", sort=carriers, title=None, axis=alt.Axis(**_BARE, **_NAMES)),
    )
    drawn = base.mark_bar(cornerRadiusEnd=3, color="var(--series1)", height=16)
    labels = base.mark_text(align="left", dx=6, fontSize=12, color="var(--ink)").encode(text="label:N")
    return _svg((drawn + labels).properties(width=640, height=26 * len(carriers)), title, description)


def _ceiling(rows: Sequence[Row]) -> float:
    return max((row["inherited_share"] for row in rows), default=0) * 1.02 or 1.0


def _svg(chart: Any, title: str, description: str) -> str:
    """Render a chart as a named image that fits its column."""
    import vl_convert

    return standalone(vl_convert.vegalite_to_svg({**chart.to_dict(), "config": _CONFIG}), title, description)


def standalone(drawn: str, title: str, description: str) -> str:
    """Return a drawing as it stands inside HTML: without namespaces, with a name and a description."""
    root = ET.fromstring(drawn)  # noqa: S314 - what the renderer next to us has just written
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    width, height = root.get("width"), root.get("height")
    root.attrib.clear()
    root.attrib.update({"role": "img", "viewBox": f"0 0 {width} {height}", "width": f"{width}", "height": f"{height}"})
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        child = ET.Element(tag)
        child.text = text
        root.insert(position, child)
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)
