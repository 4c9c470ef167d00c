"""What the data architect writes: what follows from what, and whether contracts, tables and their readers agree."""

from __future__ import annotations

from tidegate.contracts import load_all
from tidegate.contracts.dictionary import diagram
from tidegate.contracts.lineage import Lineage
from tidegate.delivery.cited import Asked, beside, figures, file
from tidegate.delivery.markdown import head, table
from tidegate.delivery.work import Work
from tidegate.stores.postgres import connect


def lineage_diagram(work: Work) -> str:
    """Return which datasets and models follow from which, as the checkout's own files say."""
    contracts, lineage = load_all(work.settings), Lineage(work.settings.project)
    made = {c.dataset: lineage.producer(c) or "nothing" for c in contracts}
    return "\n".join([
        *head(work, "What follows from what"),
        f"{len(contracts)} datasets, {sum(bool(lineage.inputs(c.dataset)) for c in contracts)} of them made from others by transforms; every arrow is "
        "read from a contract, a transform's inputs, or a `source` or `ref` of a model.",
        "",
        diagram(contracts, lineage),
        "",
        "## Who makes and who reads each dataset",
        "",
        *table(
            ["dataset", "made by", "from", "readers", "models below it"],
            [
                [c.dataset, f"`{made[c.dataset]}`", ", ".join(lineage.inputs(c.dataset)) or ", ".join(s.name for s in c.sources),
                 ", ".join(f"{use.kind} `{use.name}`" for use in lineage.readers(c)), ", ".join(lineage.downstream(c))]
                for c in contracts
            ],
        ),
        "## Whether the documents say the same",
        "",
        *figures(work, [Asked("pages derived anew", "documents", "pages"), Asked("of these, differing", "documents", "differing")]),
    ])  # fmt: skip


def schema_compatibility(work: Work) -> str:
    """Return each contract's version beside those of its table and its batches, and who would notice a change."""
    contracts, lineage = load_all(work.settings), Lineage(work.settings.project)
    with connect(work.settings) as connection:
        layouts = {
            r["dataset"]: r["contract_version"]
            for r in connection.execute("SELECT dataset, contract_version FROM ops.table_layout").fetchall()
        }
        batches = connection.execute(
            "SELECT dataset, string_agg(DISTINCT contract_version, ', ') AS versions FROM ops.batch WHERE state = 'published' GROUP BY 1"
        ).fetchall()
    published = {row["dataset"]: row["versions"] for row in batches}
    behind = [c.dataset for c in contracts if layouts.get(c.dataset, c.version) != c.version]
    return "\n".join([
        *head(work, "Contracts, tables and readers"),
        f"Tables that were made for another version than their contract has now: {', '.join(behind) or 'none'}. "
        f"`tidegate contract check` refuses a change that a reader would notice without a new major version ({file(work, 'src/tidegate/contracts/compare.py')}).",
        "",
        *figures(work, [
            Asked("contracts looked at", "contracts", "contracts"),
            Asked("findings: form, table, files that follow", "contracts", "findings"),
        ]),
        "## Versions",
        "",
        *table(
            ["dataset", "contract", "version", "its table", "published batches", "columns", "columns that somebody reads by name"],
            [
                [c.dataset, beside(work, c.path), c.version, layouts.get(c.dataset, "not made yet"), published.get(c.dataset, "none"),
                 len(c.columns), sum(bool(lineage.column_readers(c, column.name)) for column in c.columns)]
                for c in contracts
            ],
        ),
    ])  # fmt: skip
