"""Figures of a delivery's evidence as its artifacts cite them: with the file that each was read in, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tidegate.delivery.ledger import Exhibit
from tidegate.delivery.markdown import link, table
from tidegate.delivery.work import Work


class Asked(NamedTuple):
    """A figure that a table is to show: what it is to readers, which probe has it under which name, in which unit."""

    told: str
    probe: str
    figure: str
    unit: str = ""


def why_not(work: Work, probe: str) -> str:
    """Say why there is no evidence of a probe in this delivery, or who will take it."""
    if reason := next((one.reason for one in work.exhibits if one.probe == probe and one.reason), None):
        return f"not measured: {reason}"
    takers = work.team.takers(probe)
    later = [f"{code} in wave {wave}" for code, wave in takers if (wave, code) != (work.wave, work.role.code)]
    return f"not measured yet: {later[0]} runs {probe}" if later else f"not measured: nobody has run the probe {probe}"


def holding(work: Work, probe: str, figure: str) -> list[Exhibit]:
    """Return the files of a probe that have the figure, by path; a probe may write the same one twice."""
    found = {one.sha256: one for one in work.taken_by(probe) if one.figures.get(figure) is not None}
    return sorted(found.values(), key=lambda one: one.path)


def value(work: Work, probe: str, figure: str) -> Any:
    """Return a figure of a probe's first file that has it; None where there is none."""
    return next((one.figures[figure] for one in holding(work, probe, figure)), None)


def cite(work: Work, probe: str, figure: str, unit: str = "") -> str:
    """Return a figure with the link to its file, or why it was not measured; of several files the highest speaks."""
    found = holding(work, probe, figure)
    if not found:
        return why_not(work, probe)
    one = max(found, key=lambda exhibit: _height(exhibit.figures[figure]))
    return f"{shown(one.figures[figure], unit)} ({link(one)})"


def _height(figure: Any) -> float:
    return float(figure) if isinstance(figure, int | float) else 0.0


def figures(work: Work, asked: Sequence[Asked]) -> list[str]:
    """Return a table of figures, each with the file that says it; what one probe has not measured is one row."""
    rows, missing = [], dict[str, list[str]]()
    for one in asked:
        if found := holding(work, one.probe, one.figure):
            rows.append([one.told, shown(found[0].figures[one.figure], one.unit), link(found[0])])
        else:
            missing.setdefault(one.probe, []).append(one.told)
    rows += [
        [", ".join(told), why_not(work, probe), f"`tidegate probe run {probe}`"] for probe, told in missing.items()
    ]
    return table(["what", "measured", "evidence"], rows)


def shown(number: Any, unit: str = "") -> str:
    """Return a figure for people to read: thousands apart, a few digits, its unit behind it."""
    if isinstance(number, bool):
        return "yes" if number else "no"
    if isinstance(number, int):
        return f"{number:,} {unit}".rstrip()
    if isinstance(number, float):
        return f"{number:,.4g} {unit}".rstrip()
    if isinstance(number, Sequence) and not isinstance(number, str):
        return ", ".join(map(str, number)) or "none"
    return f"{number} {unit}".rstrip()


def file(work: Work, path: str, name: str = "") -> str:
    """Return a link to a file of the checkout from an artifact; its path alone where the checkout has none."""
    return f"[{name or path}](../../{path})" if (work.settings.project / path).exists() else f"`{name or path}`"


def beside(work: Work, path: Path) -> str:
    """Return a link to a file of the checkout that is known by its whole path."""
    return file(work, str(path.relative_to(work.settings.project)))
