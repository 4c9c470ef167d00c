"""The report as one page: light and dark, narrow and wide, without script and network; what it says comes from the sections."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from tidegate.delivery.report import charts
from tidegate.delivery.report.model import Chart, Report


def printed(report: Report) -> bytes:
    """Return the page; its links are relative to the folder of reports."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tidegate.delivery.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"link": link, "when": when, "slug": slug}
    environment.globals["svg"] = _svg
    page: str = environment.get_template("report.html.j2").render(report=report, css=_css())
    return page.encode()


def link(path: str) -> str:
    """Return how a file of the team is reached from the folder of reports."""
    return f"../{quote(path)}"


def when(instant: datetime) -> str:
    """Return a moment, to the minute."""
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def slug(title: str) -> str:
    """Return a title as the name of a place on the page."""
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


def _svg(chart: Chart) -> Any:
    from markupsafe import Markup

    return Markup(charts.svg(chart))  # noqa: S704 - drawn here; its texts were escaped when it was drawn


def _css() -> Any:
    """Return the house's style sheet, which stands with the other report, and what this one needs beside it."""
    from importlib.resources import files

    from markupsafe import Markup

    house = files("tidegate.observe").joinpath("templates/report.css").read_text(encoding="utf-8")
    own = files("tidegate.delivery.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    return Markup(house + own)  # noqa: S704 - both are files of this package
