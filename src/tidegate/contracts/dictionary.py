"""The data dictionary: one Markdown page a dataset and an index, derived from contracts and lineage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tidegate.contracts.access import is_classified
from tidegate.contracts.lineage import Lineage
from tidegate.contracts.model import Column, Contract, Source, Topic, in_words

MARK = "<!-- Derived from schemas/ by `tidegate contract docs`: change the contract, not this page. -->"


def index(contracts: Sequence[Contract], lineage: Lineage) -> str:
    """Return the page that lists every dataset."""
    rows = [
        [
            f"[{c.dataset}]({c.dataset}.md)", f"`{c.schema}.{c.table}`", c.description, c.owner,
            lineage.producer(c) or "", in_words(c.freshness),
        ]
        for c in contracts
    ]  # fmt: skip
    edges = dict.fromkeys(edge for c in contracts for edge in _edges(c, lineage, with_models=False))
    return page_of(
        "# Datasets",
        "What the platform publishes, each as its contract in `schemas/` promises it.",
        table(["dataset", "table", "what it holds", "owner", "made by", "at the latest after"], rows),
        "## Where they come from",
        _graph(edges),
    )


def page(contract: Contract, lineage: Lineage) -> str:
    """Return the page of one dataset."""
    facts = [
        ["table", f"`{contract.schema}.{contract.table}`"],
        ["one row", contract.grain],
        ["key", ", ".join(f"`{name}`" for name in contract.key) or "none"],
        ["partition", _partition(contract)],
        ["owner", contract.owner],
        [
            "delivered",
            f"every {in_words(contract.frequency)}" if contract.frequency else "when its inputs change",
        ],
        ["at the latest after", in_words(contract.freshness)],
        ["kept for", _retention(contract.retention)],
        ["source", _topic(contract.topic) if contract.topic else "; ".join(map(_source, contract.sources)) or "none"],
        ["refused rows", _share(contract.max_refused_share)],
        *_access(contract),
        ["contract", f"[{contract.reference}](../../{contract.reference}), version {contract.version}"],
    ]
    columns = [
        [
            f"`{c.name}`",
            f"{c.postgres_type}, sealed" if c.sealed else c.postgres_type,
            c.unit or "",
            c.description,
            _rules(c),
            c.classification or "",
            _link(c),
        ]
        for c in contract.columns
    ]
    # Without their lines: a page must not change whenever a model does.
    readers = [f"- {use.kind} `{use.name}`: `{use.place.rpartition(':')[0]}`" for use in lineage.readers(contract)]
    models = lineage.downstream(contract)
    return page_of(
        f"# {contract.dataset}: {contract.title}",
        contract.description,
        "\n".join(f"- **{part}**: {text}" for part, text in contract.about.items()),
        table(["", ""], facts),
        "## Columns",
        table(["column", "type", "unit", "what it is", "rules", "classification", "refers to"], columns),
        f"Besides, every row has `_partition` and `_batch_id`: {LINEAGE['_batch_id']}",
        "## Lineage",
        f"Made by {lineage.producer(contract) or 'nothing'}. Read by:" if readers else "Nothing reads it yet.",
        "\n".join(readers),
        f"Models built from it: {', '.join(f'`{name}`' for name in models)}." if models else "",
        _graph(dict.fromkeys(_edges(contract, lineage, with_models=True))),
    )


def diagram(contracts: Sequence[Contract], lineage: Lineage) -> str:
    """Return what follows from what, from the sources to the last model, as Mermaid."""
    return _graph(dict.fromkeys(edge for c in contracts for edge in _edges(c, lineage, with_models=True)))


#: What the two columns are that the platform adds to every table.
LINEAGE = {
    "_partition": "Partition that the row was delivered for.",
    "_batch_id": "Batch that published the row; `ops.batch` tells its source, contract version and state.",
}


def page_of(*parts: str, mark: str = MARK) -> str:
    """Return a page of Markdown; `mark` tells those who would change it where it comes from."""
    return "\n\n".join([mark, *filter(None, parts)]) + "\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _graph(edges: dict[tuple[str, str], None]) -> str:
    lines = [f'  {_node(a)}["{a}"] --> {_node(b)}["{b}"]' for a, b in edges]
    return "\n".join(["```mermaid", "graph LR", *lines, "```"])


def _node(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def _edges(contract: Contract, lineage: Lineage, *, with_models: bool) -> Iterator[tuple[str, str]]:
    inputs = lineage.inputs(contract.dataset)
    for name in inputs or [f"source {source.name}" for source in contract.sources]:
        yield name, contract.dataset
    if with_models:
        direct = {use.name for use in lineage.readers(contract) if use.kind in ("dbt model", "transform")}
        for name in sorted(direct):
            yield contract.dataset, name
        for name, refs in lineage.refs(lineage.downstream(contract)):
            for ref in refs:
                yield ref, name


def _access(contract: Contract) -> Iterator[list[str]]:
    if contract.tenant:
        yield ["tenants", f"each sees the rows with its own `{contract.tenant}`"]
    if any(map(is_classified, contract.columns)):
        yield ["who may not see classified columns reads", f"`masked.{contract.table}`"]


def _retention(retention: str | None) -> str:
    value, _, unit = (retention or "").partition(" ")
    return f"{value} {_UNITS.get(unit.lower(), unit)}".strip()


_UNITS = {"d": "days", "day": "days", "m": "months", "month": "months", "y": "years", "year": "years"}


def _share(share: float) -> str:
    return f"at most {share * 100:g} % of a batch" if share else "none may be: one holds the batch"


def _partition(contract: Contract) -> str:
    if contract.partitioning is None:
        return "none: delivered whole"
    columns = ", ".join(f"`{name}`" for name in contract.partitioning.columns)
    return f"by {contract.partitioning.grain} ({columns})" if contract.partitioning.grain else f"by {columns}"


def _topic(topic: Topic) -> str:
    late = f", late after {in_words(topic.lateness)}" if topic.lateness else ""
    return f"Kafka topic `{topic.name}` (JSON; event time `{topic.event_time}`{late})"


def _source(source: Source) -> str:
    place = f": `{source.location}`" if source.location else ""
    return f"{source.name} ({source.type}, {source.format}){place}"


def _rules(column: Column) -> str:
    shown = [
        rule.expected.removeprefix(f"{column.name} ").removeprefix(f"({column.name}) ")
        for rule in column.rules
        if rule.kind != "type"
    ]
    return "; ".join(f"`{words}`" if any(c in words for c in "^$<>*_") else words for words in shown)


def _link(column: Column) -> str:
    if column.references is None:
        return ""
    dataset, _, name = column.references.partition(".")
    return f"[{dataset}]({dataset}.md).{name}"
