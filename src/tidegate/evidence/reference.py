"""Pages that follow from the warehouse's own catalog: written to docs/, and held against what is there.

The pages of datasets follow from contracts alone (`contracts.derived`).
"""

from __future__ import annotations

from tidegate.contracts import load_all
from tidegate.contracts.dictionary import page_of
from tidegate.contracts.house import Finding
from tidegate.evidence import guide, index_strategy, indexes, queries
from tidegate.migrate import steps
from tidegate.observe import catalog, diagram, dictionary
from tidegate.observe.catalog import Table
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection

MARK = (
    "<!-- Derived from the warehouse's catalog by `tidegate database docs`: change what it tells of, not this page. -->"
)
GUIDE = "docs/DATABASE.md"
_FOLDER = "docs/reference"


def tables(settings: Settings, connection: Connection) -> list[Table]:
    """Return every table of the warehouse: datasets, marts, ledger.

    Raises:
        TerminalError: no marts are published yet.
    """
    contracts = load_all(settings)
    return [*catalog.datasets(contracts), *catalog.marts(connection, settings.project), *catalog.ledger(connection)]


def erd(found: list[Table]) -> str:
    """Return the page of diagrams."""
    return page_of(
        "# How tables relate",
        "A picture for each part of the warehouse. They show keys and what points at other tables; every column is in the "
        "[catalog of datasets](index.md), and for the [marts](marts.md) and the [ledger](ledger.md). A solid line is a foreign "
        "key; a dotted one is kept by the gates, which look before rows are published: PostgreSQL would look again at each row of "
        "tables that are attached whole.",
        *diagram.page(found),
        mark=MARK,
    )


def ledger(found: list[Table]) -> str:
    """Return the dictionary of the ledger."""
    return page_of(
        "# The ledger",
        "What the platform knows of itself: `ops`, and the rows that contracts refused. `→` is a foreign key, `⇢` is kept by the "
        "programs that write.",
        *dictionary.page([table for table in found if table.schema in catalog.LEDGER]),
        mark=MARK,
    )


def marts(found: list[Table]) -> str:
    """Return the dictionary of the marts."""
    return page_of(
        "# The marts",
        "What people read: tables that dbt builds from what is published, swapped in whole. Their keys are held by checks "
        "of each build, `unique_grain`.",
        *dictionary.page([table for table in found if table.schema == catalog.MARTS]),
        mark=MARK,
    )


def derive(settings: Settings, connection: Connection) -> dict[str, str]:
    """Return each page's path in the checkout with the text that it should have; figures of the guide stay as they are."""
    found = tables(settings, connection)
    asked = queries.read(settings.project)
    there = index_strategy.told(indexes.of_warehouse(connection), load_all(settings))
    blocks = guide.structure(found, steps.read(settings.project), there, asked)
    written = (settings.project / GUIDE).read_text(encoding="utf-8")
    return {
        f"{_FOLDER}/erd.md": erd(found),
        f"{_FOLDER}/ledger.md": ledger(found),
        f"{_FOLDER}/marts.md": marts(found),
        f"{_FOLDER}/indexes.md": page_of(
            "# Index strategy",
            "Every index, why it is there, and which of the [important queries](../../queries) it serves. An index costs each "
            "write, so there is none without a reason: keys and guarantees, foreign keys, and what an important query needs. "
            "Large tables have no others; columns are read whole by Great Expectations, Spark and dbt, which no index helps. An "
            "index of the ledger says its reason in a comment that its migration makes. Tests fail on one without a reason, on a "
            "foreign key without an index, and on an important query that reads a large table whole without meaning to. "
            "`tidegate queries` shows sizes, scans, and indexes that nobody uses.",
            *index_strategy.page(there, asked),
            mark=MARK,
        ),
        GUIDE: guide.fill(written, blocks, "structure"),
    }


def stale(settings: Settings, connection: Connection) -> list[Finding]:
    """Return a finding for each page that is missing, or not as the warehouse says."""
    found = []
    for name, text in derive(settings, connection).items():
        path = settings.project / name
        there = path.read_text(encoding="utf-8") if path.is_file() else ""
        if there != text:
            pairs = zip(there.splitlines(), text.splitlines(), strict=False)
            line = next((n for n, (a, b) in enumerate(pairs, 1) if a != b), 1)
            found.append(
                Finding(f"{name}:{line}", "not as the warehouse says; `tidegate database docs` writes it anew")
            )
    return found


def write(settings: Settings, connection: Connection, *, measured: bool = True) -> list[str]:
    """Write every page, with the guide's figures measured anew or left as they are; return the paths."""
    texts = derive(settings, connection)
    if measured:
        texts[GUIDE] = guide.fill(texts[GUIDE], guide.figures(connection, queries.read(settings.project)), "figures")
    for name, text in texts.items():
        path = settings.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return sorted(texts)
