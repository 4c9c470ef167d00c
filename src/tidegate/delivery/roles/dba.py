"""What the architect writes: diagram, dictionary, normal forms and partitions, each from the catalog and the rows as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import yaml
from psycopg import sql

from tidegate.contracts import Contract, load_all
from tidegate.contracts.model import partition_in_words
from tidegate.delivery.cited import Asked, beside, figures, file, value
from tidegate.delivery.markdown import head, table
from tidegate.delivery.work import Work
from tidegate.evidence import reference
from tidegate.observe import catalog, diagram, dictionary
from tidegate.observe.catalog import Table
from tidegate.publish import retention
from tidegate.stores.postgres import Connection, connect


def erd_diagram(work: Work) -> str:
    """Return how tables point at each other, as Mermaid, and who keeps each pointer."""
    found = _tables(work)
    pointers = [(table_, pointer) for table_ in found for pointer in table_.references]
    kept = sum(pointer.kept for _, pointer in pointers)
    many = Counter(pointer.target for _, pointer in pointers).most_common(1)
    most = f", {many[0][1]} of them at `{many[0][0]}`" if many else ""
    lines = [
        *head(work, "How the warehouse's tables relate"),
        f"{len(found)} tables with {len(pointers)} pointers{most}. PostgreSQL itself keeps {kept} of these (solid lines); the other "
        f"{len(pointers) - kept} (dotted) are looked at by gates before rows are published, because a partition is attached whole "
        "and a foreign key would read each of its rows a second time.",
        "",
        *figures(work, [
            Asked("tables in the diagram", "erd", "tables"), Asked("of these, with a key", "erd", "with_key"),
            Asked("foreign keys", "erd", "foreign_keys"), Asked("pointers kept by programs", "erd", "kept_by_programs"),
            Asked("pages of docs/ that differ from the catalog", "documents", "differing"),
        ]),
    ]  # fmt: skip
    for part in diagram.page(found):
        lines += [part, ""]
    lines += [
        "## Pointers that no constraint keeps",
        "",
        *table(
            ["table", "columns", "points at"],
            [[f"`{t}`", ", ".join(p.columns), f"`{p.target}`"] for t, p in pointers if not p.kept],
        ),
    ]
    return "\n".join(lines)


def data_dictionary(work: Work) -> str:
    """Return every table and column with its type, rules and meaning."""
    found = _tables(work)
    lines = [
        *head(work, "Every table and column of the warehouse"),
        *figures(work, [
            Asked("columns", "data_dictionary", "columns"),
            Asked("columns that nobody has described", "data_dictionary", "without_description"),
            Asked("tables that nobody has described", "data_dictionary", "tables_without_description"),
            Asked("CHECK constraints", "data_dictionary", "constraints"),
            Asked("pages of the documentation that were derived anew", "documents", "pages"),
        ]),
    ]  # fmt: skip
    for part in dictionary.page(found):
        lines += [part, ""]
    return "\n".join(lines)


def normalization_decisions(work: Work) -> str:
    """Return which normal form each table's rows show, and why those that repeat something do so."""
    forms: dict[str, str] = value(work, "normalization", "forms") or {}
    counted = ", ".join(f"{count} in {form}" for form, count in Counter(forms.values()).most_common())
    found = {str(one): one for one in _tables(work)}
    reasons = _denormalised(work)
    return "\n".join([
        *head(work, "Normal forms, and what is repeated on purpose"),
        *([f"Of {len(forms)} tables with rows, {counted}."] if forms else []),
        "",
        *figures(work, [
            Asked("tables whose key and dependencies were tried on all rows", "normalization", "tables"),
            Asked("rows looked at", "normalization", "rows"),
            Asked("keys that two rows share", "normalization", "keys_broken"),
            Asked("columns that follow from another one", "normalization", "dependencies"),
            Asked("tables below 3NF", "normalization", "below_3nf"),
            Asked("tables without a row, of which nothing can be said", "normalization", "without_rows"),
        ]),
        "## Table by table",
        "",
        *table(
            ["table", "key", "normal form of its rows", "decision"],
            [
                [f"`{name}`", ", ".join(found[name].key) if name in found else "", form, _decision(name, form, reasons)]
                for name, form in forms.items()
            ]
            or [[f"`{one}`", ", ".join(one.key), "not measured", _decision(str(one), "", reasons)] for one in found.values()
                if one.schema not in catalog.LEDGER],
        ),
        "## What marts repeat, in the words of their models",
        "",
        *table(
            ["mart", "what it repeats, and why", "written in"],
            [[f"`{name}`", told, file(work, path)] for name, (told, path) in reasons.items()],
        ),
    ])  # fmt: skip


def partitioning_strategy(work: Work) -> str:
    """Return which tables are partitioned by what, how large they are, and when each partition goes."""
    contracts = load_all(work.settings)
    with connect(work.settings) as connection:
        sizes = {row["name"]: row for row in connection.execute(_PARTITIONED).fetchall()}
        kept = {c.dataset: retention.partitions(connection, c) for c in contracts}
        pruned = _pruning(connection, sizes)
    rows: list[list[Any]] = []
    for contract in contracts:
        name = f"{contract.schema}.{contract.table}"
        size = sizes.get(name)
        mine = kept[contract.dataset]
        ends = sorted(one.until for one in mine if one.until and one.batch.state == "published")
        rows.append([
            f"`{name}`", partition_in_words(contract.partitioning), size["partitions"] if size else "no table yet",
            f"{sum(one.batch.accepted_count or 0 for one in mine if one.batch.state == 'published'):,}",
            f"{size['bytes'] / 2**20:,.1f}" if size else "", f"{size['largest'] / 2**20:,.1f}" if size else "",
            contract.retention or "for ever", f"{ends[0]:%Y-%m-%d}" if ends else "",
            sum(one.batch.state == "archived" for one in mine),
        ])  # fmt: skip
    overdue = sum(one.outlived(datetime.now(UTC)) for found in kept.values() for one in found)
    whole = [contract.dataset for contract in contracts if contract.partitioning is None]
    return "\n".join([
        *head(work, "Which tables are cut, by what, and when a part goes"),
        f"{len(sizes)} tables are partitioned by LIST (`_partition`), and each partition is the table of exactly one batch: publishing "
        f"attaches it, taking it back detaches it, no row is moved. {_ahead(contracts)}{', '.join(whole)} come whole and have one partition called `all`.",
        "",
        *table(["table", "cut by", "partitions", "rows published", "MiB", "largest, MiB", "kept for", "next to go", "archived"], rows),
        f"Partitions that have outlived their contract and are still published: {overdue}. `tidegate partition archive` takes such a table "
        "away after its landed Parquet was compared with it row by row.",
        "",
        "## What naming a partition saves",
        "",
        *table(["table", "partition", "parts that PostgreSQL opens without the name", "with it"], pruned),
        "## Where it is decided",
        "",
        *table(
            ["dataset", "contract", "column"],
            [[c.dataset, beside(work, c.path), _cut(c)] for c in contracts],
        ),
    ])  # fmt: skip


_PARTITIONED = """
SELECT n.nspname || '.' || c.relname AS name, count(i.inhrelid) AS partitions,
    coalesce(sum(pg_total_relation_size(i.inhrelid)), 0)::bigint AS bytes,
    coalesce(max(pg_total_relation_size(i.inhrelid)), 0)::bigint AS largest
FROM pg_partitioned_table AS p
JOIN pg_class AS c ON c.oid = p.partrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits AS i ON i.inhparent = c.oid
WHERE n.nspname IN ('raw', 'core') GROUP BY 1 ORDER BY 1
"""


def _ahead(contracts: Sequence[Contract]) -> str:
    """Say of which datasets partitions stand before their rows; nothing where of none."""
    named = ", ".join(contract.dataset for contract in contracts if contract.made_ahead)
    return f"Rows of {named} come one by one, into partitions that `upkeep_partitions` makes ahead. " if named else ""


def _pruning(connection: Connection, names: dict[str, Any]) -> list[list[Any]]:
    """Plan the same count with and without a partition's name, for each table that has several."""
    rows = []
    for name, size in names.items():
        if size["partitions"] < 2:
            continue
        place = sql.Identifier(*name.split("."))
        first = connection.execute(
            "SELECT partition FROM ops.batch WHERE state = 'published' AND dataset = %s ORDER BY partition LIMIT 1",
            [name.partition(".")[2]],
        ).fetchone()
        if first is None:
            continue
        named = sql.SQL("SELECT 1 FROM {} WHERE _partition = {}").format(place, sql.Literal(first["partition"]))
        opened = [_opened(connection, query) for query in (sql.SQL("SELECT 1 FROM {}").format(place), named)]
        rows.append([f"`{name}`", f"`{first['partition']}`", *opened])
    return rows


def _opened(connection: Connection, query: sql.Composed) -> int:
    plan = connection.execute(sql.SQL("EXPLAIN {}").format(query)).fetchall()
    return sum(
        " on " in row["QUERY PLAN"] and "Scan" in row["QUERY PLAN"] and "Bitmap Index" not in row["QUERY PLAN"]
        for row in plan
    )


def _tables(work: Work) -> list[Table]:
    with connect(work.settings, autocommit=True) as connection:
        return reference.tables(work.settings, connection)


def _cut(contract: Contract) -> str:
    return ", ".join(contract.partitioning.columns) if contract.partitioning else "none: delivered whole"


def _decision(name: str, form: str, reasons: dict[str, tuple[str, str]]) -> str:
    if name in reasons:
        return "repeated on purpose, see below"
    schema = name.partition(".")[0]
    if form in ("3NF", "BCNF"):
        return "stays as it is"
    return {
        "raw": "as its source delivers it: a row can be told from its file",
        "core": "derived and written whole, so nothing can drift apart",
    }.get(schema, "no reason is written in its model")


def _denormalised(work: Work) -> dict[str, tuple[str, str]]:
    """Return what each model says that it repeats, and why, with the file that says so."""
    found = {}
    for path in sorted((work.settings.project / "models" / "marts").glob("*.yml")):
        for model in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("models", []):
            told = model.get("config", {}).get("meta", {}).get("denormalised")
            if told:
                found[f"marts.{model['name']}"] = (told, str(path.relative_to(work.settings.project)))
    return found
