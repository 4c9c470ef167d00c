"""Whether a query reads what it need not, and whether every index can say why it is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import CHECKOUT

from tidegate.errors import StrategyError, TerminalError
from tidegate.evidence import indexes, queries
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect

BY_WORD = """-- A row by its word.
-- target: P95 < 50 ms
-- sample: SELECT word FROM raw.t LIMIT 100
select id from raw.t where word = %(word)s
"""


@pytest.fixture
def table(settings: Settings) -> Iterator[Connection]:
    with connect(settings, autocommit=True) as connection:
        connection.execute("CREATE TABLE raw.t AS SELECT n AS id, n::text AS word FROM generate_series(1, 5000) AS n")
        connection.execute("ANALYZE raw.t")
        yield connection


@pytest.fixture
def by_word(tmp_path: Path) -> queries.Query:
    return written(tmp_path, BY_WORD)


def written(project: Path, text: str) -> queries.Query:
    (project / "queries").mkdir(exist_ok=True)
    (project / "queries" / "by_word.sql").write_text(text)
    (query,) = queries.read(project)
    return query


def test_a_query_says_what_it_is_for_how_fast_it_must_be_and_what_it_is_asked(by_word: queries.Query) -> None:
    assert (by_word.name, by_word.purpose) == ("by_word", "A row by its word.")
    assert (by_word.target_ms, by_word.target_source) == (50, "queries/by_word.sql:2")
    assert by_word.sample == "SELECT word FROM raw.t LIMIT 100"
    assert by_word.statement == "select id from raw.t where word = %(word)s"


@pytest.mark.parametrize(
    "line", ["-- A row by its word.\n", "-- target: P95 < 50 ms\n", "-- sample: SELECT word FROM raw.t LIMIT 100\n"]
)
def test_a_query_without_one_of_these_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(TerminalError, match=r"by_word\.sql: expected its purpose in the first line"):
        written(tmp_path, BY_WORD.replace(line, ""))


def test_a_large_table_that_is_read_whole_is_seen_until_it_has_an_index(
    table: Connection, by_word: queries.Query
) -> None:
    plan = queries.explain(table, by_word)
    assert queries.whole_reads(plan) == [queries.Scan("t", 5000)]
    assert queries.indexes_used(plan) == set()
    table.execute("CREATE INDEX t_by_word ON raw.t (word)")
    plan = queries.explain(table, by_word)
    assert queries.whole_reads(plan) == []
    assert queries.indexes_used(plan) == {"t_by_word"}


def test_timings_are_of_so_many_runs_in_order(table: Connection, by_word: queries.Query) -> None:
    timing = queries.measure(table, by_word, 40)
    assert timing.runs == 40
    assert 0 < timing.p50_ms <= timing.p95_ms <= timing.p99_ms


def test_a_query_that_finds_nothing_to_be_asked_is_not_measured(table: Connection, by_word: queries.Query) -> None:
    table.execute("TRUNCATE raw.t")
    with pytest.raises(TerminalError, match="its sample finds no row, so it cannot be measured"):
        queries.measure(table, by_word, 1)


def test_every_index_of_the_migrations_says_why_it_is_there(settings: Settings) -> None:
    with connect(settings) as connection:
        assert [index.name for index in indexes.of_warehouse(connection) if not index.reason] == []


def test_no_foreign_key_is_without_an_index(table: Connection) -> None:
    assert indexes.foreign_keys_without(table) == []
    table.execute("ALTER TABLE raw.t ADD PRIMARY KEY (id), ADD COLUMN other int REFERENCES raw.t")
    (told,) = indexes.foreign_keys_without(table)
    assert told.startswith("raw.t: FOREIGN KEY (other) REFERENCES raw.t(id)")
    table.execute("CREATE INDEX ON raw.t (other)")
    assert indexes.foreign_keys_without(table) == []


def test_an_index_that_nobody_uses_and_that_guarantees_nothing_is_named(table: Connection) -> None:
    table.execute("CREATE UNIQUE INDEX t_once ON raw.t (id)")
    table.execute("CREATE INDEX t_idle ON raw.t (word)")
    assert "t_idle" in {index.name for index in indexes.unused(indexes.of_warehouse(table))}
    assert "t_once" not in {index.name for index in indexes.unused(indexes.of_warehouse(table))}


def test_a_counted_statement_is_planned_for_whatever_values_and_nothing_is_run(table: Connection) -> None:
    table.execute("CREATE INDEX t_by_word ON raw.t (word)")
    (first, *_) = indexes.plan(table, "select id from raw.t where word = $1 and id > $2")
    assert "t_by_word" in " ".join(indexes.plan(table, "select id from raw.t where word = $1 -- by its word"))
    assert "rows=" in first
    assert indexes.plan(table, "select count(*) from raw.t")[0].startswith("Aggregate")
    assert indexes.plan(table, "DELETE FROM raw.t WHERE id = $1")[0].startswith("Delete on t")
    for nothing in ("CREATE TABLE raw.u (n int)", "select 1 from raw.gone", "select 1; DROP TABLE raw.t", "no SQL"):
        assert indexes.plan(table, nothing) == []
    assert table.execute("SELECT count(*) AS n FROM raw.t").fetchall() == [{"n": 5000}]
    assert table.execute("SELECT FROM pg_prepared_statements WHERE name = 'counted'").fetchall() == []


def test_the_projects_queries_can_all_be_read_and_take_their_targets_from_the_strategy() -> None:
    found = queries.read(CHECKOUT)
    assert len(found) >= 8
    ((target, source),) = {(query.target_ms, query.target_source) for query in found}
    file, _, line = source.partition(":")
    assert target == 50
    assert (CHECKOUT / file).read_text().splitlines()[int(line) - 1].startswith("- Query response P95: < 50ms")


def test_another_number_in_the_strategy_is_another_target(tmp_path: Path) -> None:
    text = (CHECKOUT / "strategies/database.md").read_text()
    (tmp_path / "house").mkdir()
    (tmp_path / "house/strict.md").write_text(text.replace("P95: < 50ms", "P95: < 7ms"))
    query = written(tmp_path, BY_WORD.replace("P95 < 50 ms", "P95 of house/strict.md"))
    assert (query.target_ms, query.target_source.partition(":")[0]) == (7, "house/strict.md")
    (tmp_path / "house/strict.md").write_text(text.replace("Query response P95: < 50ms", "Queries are quick"))
    with pytest.raises(StrategyError, match=r"house/strict\.md states no target for query P95; expected one among"):
        queries.read(tmp_path)
    (tmp_path / "house/strict.md").unlink()
    with pytest.raises(StrategyError, match="there is no such strategy"):
        queries.read(tmp_path)
