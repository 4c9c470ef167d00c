"""Which files of the checkout are derived from contracts: writes them, and tells which are not current."""

from __future__ import annotations

from pathlib import Path

from tidegate.contracts import dictionary
from tidegate.contracts.dbt_sources import sources_yaml
from tidegate.contracts.house import Finding
from tidegate.contracts.lineage import Lineage
from tidegate.contracts.read import load_all
from tidegate.settings import Settings

#: Where the pages stand in the checkout, the catalog among them as `index.md`.
REFERENCE = "docs/reference"


def derive(settings: Settings) -> dict[str, str]:
    """Return every derived file's path in the checkout with the text that it should have.

    Raises:
        ContractError: a contract is invalid.
    """
    contracts, lineage = load_all(settings), Lineage(settings.project)
    pages = {f"{REFERENCE}/{c.dataset}.md": dictionary.page(c, lineage) for c in contracts}
    return {
        "models/staging/_sources.yml": sources_yaml(contracts, lineage),
        f"{REFERENCE}/index.md": dictionary.index(contracts, lineage),
        **pages,
    }


def stale(settings: Settings) -> list[Finding]:
    """Return a finding for each derived file that is missing, not current, or left over."""
    found = []
    for name, text in derive(settings).items():
        path = settings.project / name
        if not path.is_file():
            found.append(Finding(f"{name}:1", f"missing; {_ADVICE}"))
        elif (there := path.read_text(encoding="utf-8")) != text:
            found.append(Finding(f"{name}:{_first_difference(there, text)}", f"not as the contracts say; {_ADVICE}"))
    return found + [Finding(f"{name}:1", f"no contract has this page; {_ADVICE}") for name in _left_over(settings)]


_ADVICE = "`tidegate contract docs` writes it anew"


def write(settings: Settings) -> list[str]:
    """Write what is not current, take away pages of datasets that are gone; return the paths of both."""
    changed = sorted({finding.place.rpartition(":")[0] for finding in stale(settings)})
    texts = derive(settings)
    for name in changed:
        path = settings.project / name
        if name in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[name], encoding="utf-8")
        else:
            path.unlink()
    return changed


def _left_over(settings: Settings) -> list[str]:
    wanted = derive(settings)
    pages: list[Path] = sorted((settings.project / REFERENCE).glob("*.md"))
    names = {page.relative_to(settings.project).as_posix(): page for page in pages}
    return [
        name
        for name, page in names.items()
        if name not in wanted and page.read_text(encoding="utf-8").startswith(dictionary.MARK)
    ]


def _first_difference(there: str, wanted: str) -> int:
    lines, others = there.splitlines(), wanted.splitlines()
    pairs = enumerate(zip(lines, others, strict=False), start=1)
    return next((number for number, (a, b) in pairs if a != b), min(len(lines), len(others)) + 1)
