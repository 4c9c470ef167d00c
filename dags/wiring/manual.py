"""The operator's manual of a DAG (`doc_md`): what it does, when, its parameters, what to do when it fails."""

from __future__ import annotations

from dags.wiring.policy import PATIENCE

from tidegate.contracts import Contract
from tidegate.contracts.model import in_words

_TROUBLE = """\
### When it fails
- A *transient* trouble (a server away, a lock held) is tried again, four times, ever more patiently.
- `land` failed: the delivery cannot be read. Its log names file, line and column. Have it corrected and clear
  the task.
- `publish` failed: the batch is **held**. Published data is as it was. `tidegate batch show BATCH` says why;
  then `tidegate batch release BATCH --why …` and clear `publish`, or `tidegate batch reject BATCH --why …`.
- Any task can be cleared and run again at any time: the same delivery is the same batch, and ends in the same
  rows.
"""


def of_ingest(contract: Contract) -> str:
    """Write the manual of `ingest_<dataset>`."""
    source = contract.sources[0] if contract.sources else None
    where = f"`{source.location}` ({source.format})" if source else "nowhere by itself: hand over a `file`"
    rhythm = "one partition a run" if contract.partitioning else "whole"
    parameters = "- `file`: take this file instead of what the source holds.\n"
    if contract.partitioning:
        parameters = "- `partition`: which one, as in `2013-03`; the run's partition key when empty.\n" + parameters
    return (
        f"## {contract.title}\n{contract.about.get('purpose') or contract.description}\n\n"
        f"Takes {contract.dataset} in from {where}, {rhythm}: land → stage → judge → publish, into "
        f"`{contract.schema}.{contract.table}`. {contract.grain}\n\n"
        f"Contract: `{contract.reference}`, version {contract.version}. Owner: {contract.owner or 'nobody'}. "
        f"Published within {in_words(contract.freshness or PATIENCE)} of the end of the partition.\n\n"
        f"### Parameters\n{parameters}\n{_TROUBLE}"
    )


_HELD = """\
### When it fails
- A *transient* trouble (a server away) is tried again, four times, ever more patiently.
- `drain` or `judge` failed and the stream is **held**: too much of what came was refused, or the newest rows are not what
  they should be. What is published stays; nothing more is taken in. `tidegate stream status` says why, `tidegate quarantine
  list` what was refused. Then `tidegate stream release {dataset} --why …`, and clear the task.
- `reconcile` failed: rows or offsets are not those that were written. Its log names the micro-batch.
- A topic that was deleted and made again, and messages that were removed unread, are gaps: `ops.stream_gap` has them.
"""


def of_stream(contract: Contract) -> str:
    """Write the manual of `stream_<topic>`."""
    topic = contract.topic
    assert topic is not None
    sample = f"Great Expectations judges the newest {topic.sample:,} rows" if topic.sample else "No sample is judged"
    return (
        f"## {contract.title}\n{contract.about.get('purpose') or contract.description}\n\n"
        f"Starts by itself when messages wait in topic `{topic.name}` and no worker (`tidegate stream run {contract.dataset}`) "
        f"is at it, and takes in what is there: drain → judge, reconcile → publish, into `{contract.schema}.{contract.table}`. "
        "While workers are at it, it starts once a minute to judge, reconcile and tell of what they took in. "
        f"{contract.grain} Each micro-batch is visible with the transaction that writes its rows, its refused messages and its "
        f"offsets. {sample} of each run.\n\n"
        f"Contract: `{contract.reference}`, version {contract.version}. Owner: {contract.owner or 'nobody'}. "
        f"No message waits longer than {in_words(contract.freshness or PATIENCE)}.\n\n"
        + _HELD.format(dataset=contract.dataset)
    )


def of_transform(contract: Contract, inputs: tuple[str, ...], doc: str) -> str:
    """Write the manual of `transform_<output>`."""
    return (
        f"## {contract.title}\n{contract.about.get('purpose') or contract.description}\n\n"
        f"Makes `{contract.schema}.{contract.table}` from the published batches of {', '.join(inputs)} on Spark, "
        "whenever one of them changes; it ends at once, skipped, when its output is made of exactly those "
        f"batches by exactly this code already. Contract: `{contract.reference}`, version {contract.version}.\n\n"
        f"### What it computes\n{doc}\n\n{_TROUBLE}"
    )
