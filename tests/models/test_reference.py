"""The committed pages about the database are what its catalog says, and figures say when and where they were taken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import CHECKOUT

from tidegate.errors import TerminalError
from tidegate.evidence import architecture, guide, index_strategy, queries, reference
from tidegate.evidence.probe import Ground
from tidegate.observe import catalog, diagram
from tidegate.observe.catalog import Table
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect


@pytest.fixture
def warehouse_of_models(scratch: Settings) -> Iterator[tuple[Settings, Connection]]:
    """The models of two months, as published."""
    with connect(scratch, autocommit=True) as connection:
        connection.execute("ALTER SCHEMA marts_next RENAME TO marts_current")
        yield scratch, connection


def test_the_committed_pages_are_what_the_catalog_and_the_contracts_say(
    warehouse_of_models: tuple[Settings, Connection],
) -> None:
    assert [str(finding) for finding in reference.stale(*warehouse_of_models)] == []


def test_a_changed_table_makes_its_pages_stale(warehouse_of_models: tuple[Settings, Connection]) -> None:
    settings, connection = warehouse_of_models
    connection.execute("ALTER TABLE ops.step ADD COLUMN worker text, ADD FOREIGN KEY (worker) REFERENCES ops.batch")
    connection.execute("CREATE INDEX step_by_worker ON ops.step (worker)")
    stale = {finding.place.rpartition(":")[0] for finding in reference.stale(settings, connection)}
    assert stale == {"docs/reference/erd.md", "docs/reference/ledger.md", "docs/reference/indexes.md"}


def test_every_table_has_a_key_descriptions_and_a_place_in_one_picture(
    warehouse_of_models: tuple[Settings, Connection],
) -> None:
    found = reference.tables(*warehouse_of_models)
    assert {table.schema for table in found} == {"raw", "core", "marts", "ops", "quarantine"}
    assert [str(table) for table in found if not table.told or not table.key] == []
    assert [f"{table}.{column.name}" for table in found for column in table.columns if not column.told] == []
    pictured = [str(table) for members in diagram.parts(found).values() for table in members]
    assert sorted(pictured) == sorted(map(str, found))


def test_a_picture_tells_foreign_keys_from_what_programs_keep() -> None:
    columns = tuple(catalog.Column(name, "text", True, "") for name in ("id", "other", "free", "note"))
    pointing = Table(
        "a", "child", "", columns, ("id",),
        (catalog.Reference(("other",), "a.parent", True), catalog.Reference(("free",), "a.friend", False)),
    )  # fmt: skip
    assert diagram.mermaid([pointing]).splitlines() == [
        "erDiagram", '  "a.child" {', "    text id PK", "    text other FK", "    text free FK", "  }",
        '  "a.parent" ||--o{ "a.child" : "other"', '  "a.friend" ||..o{ "a.child" : "free"',
    ]  # fmt: skip


def test_a_query_is_served_by_the_index_that_knows_most_of_its_parameters(tmp_path: Path) -> None:
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries/one.sql").write_text(
        "-- One.\n-- target: P95 < 50 ms\n-- sample: SELECT 1\nselect 1 from ops.batch where dataset = %(d)s and partition = %(p)s\n"
    )
    (query,) = queries.read(tmp_path)
    indexes = [
        index_strategy.Told("ops.batch", columns, "", False, "")
        for columns in (("batch_id",), ("dataset",), ("dataset", "partition", "created_at"), ("dataset", "partition"))
    ]
    assert index_strategy.serving(indexes, query) == [indexes[3]]
    assert index_strategy.serving(indexes[:1], query) == []


def test_every_important_query_is_served_or_means_to_read_a_small_table(
    warehouse_of_models: tuple[Settings, Connection],
) -> None:
    page = reference.derive(*warehouse_of_models)["docs/reference/indexes.md"]
    rows = [line for line in page.partition("## The important queries")[2].splitlines() if line.startswith("| [")]
    assert len(rows) == len(queries.read(CHECKOUT))
    assert [row for row in rows if "none:  is small" in row] == []


def test_figures_say_when_and_where_they_were_taken() -> None:
    text = (CHECKOUT / reference.GUIDE).read_text(encoding="utf-8")
    blocks = {found["name"]: found["text"] for found in guide.BLOCK.finditer(text) if found["kind"] == "figures"}
    assert set(blocks) == {"sizes", "timings", "server", "recovery"}
    for name, block in blocks.items():
        assert guide.MEASURED.match(block), name
        head, rule, *rows = block.split("\n\n", 1)[1].strip().splitlines()
        assert re.fullmatch(r"\| (--- \| )*---\s\|", rule), name
        assert rows
        assert {row.count("|") for row in (head, *rows)} == {rule.count("|")}, name
    assert len(blocks["timings"].strip().splitlines()) - 4 == len(queries.read(CHECKOUT))


def test_filling_touches_blocks_of_its_kind_alone_and_refuses_a_block_that_nothing_fills() -> None:
    text = "by hand\n<!-- structure: a -->\nold\n<!-- end -->\n<!-- figures: b -->\nmeasured\n<!-- end -->\n"
    assert guide.fill(text, {"a": "new"}, "structure") == text.replace("old", "new")
    with pytest.raises(TerminalError, match=r"has the blocks \['a'\] of structure, expected \['c'\]"):
        guide.fill(text, {"c": "new"}, "structure")


def test_the_guide_has_the_headings_of_the_template() -> None:
    heads = re.findall(r"^## (.*)$", (CHECKOUT / reference.GUIDE).read_text(encoding="utf-8"), re.M)
    assert heads == [
        "🗄️ Database Overview", "📊 Schema Overview", "🔄 Migrations", "🔍 Query Patterns", "🚀 Performance & Optimization",
        "📝 Data Management", "🔒 Security & Access Control", "🧪 Testing Database", "📈 Monitoring & Alerts",
        "📝 Configuration Guide",
    ]  # fmt: skip


def test_the_probes_write_the_diagram_and_the_dictionary_and_count_what_is_in_them(
    warehouse_of_models: tuple[Settings, Connection],
) -> None:
    settings, connection = warehouse_of_models
    (drawn,) = architecture.erd(Ground(settings))
    (told,) = architecture.data_dictionary(Ground(settings))
    assert (drawn.file, told.file) == ("architecture/erd_diagram.md", "architecture/data_dictionary.md")
    assert drawn.figures["tables"] == drawn.figures["with_key"] == told.figures["tables"] == told.text.count("\n## ")
    assert drawn.text.count("||--o{") == drawn.figures["foreign_keys"]
    assert told.figures["columns"] == len(re.findall(r"^\| `", told.text, re.M))
    assert told.figures["tables_without_description"] == 0
    connection.execute("ALTER SCHEMA marts_current RENAME TO marts_next")
    with pytest.raises(TerminalError, match="no marts are published yet"):
        list(architecture.erd(Ground(settings)))
